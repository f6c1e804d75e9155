"""What the parsers and Lightning say about a mistake, in n2n's words: what was given, what was expected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# jsonargparse names the option, then, of a class's argument, the argument.
_KEY = re.compile(r'(?:- )?Parser key "([^"]+)": ')
_IN_A_CLASS = re.compile(r'.*?Errors: - (?=Parser key ")')
_EXPECTED = re.compile(
    r"Expected a (?:<class '(?:\w+\.)*(\w+)'>|typing\.Literal\[(.*?)\]|(dot) import path string)|Not (?:a|of) (valid|type)"
)
# From the most to the least certain; the last of each counts.
_GIVEN = (
    r".*Given value: ?(.*)$",
    r".*Got value: ?(.*?)(?= Subclass types | - |$)",
    r".*import path string: ?(.*?)(?= - |$)",
    r".*Problem with given class_path '(.*?)'",
    r"Unable to load config ['\"](.*?)['\"]",
)
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "NoneType": "null",
    "str": "a text",
    "tuple": "values in brackets, such as [0, 1]",
    "dict": "a mapping",
    "dot": "the import path of a class",
    "valid": "the import path of a class",
    "type": "a time such as 1:30:00",
    **dict.fromkeys(("list", "Sequence", "Iterable"), "a list in brackets"),
}
# Letters of a message.
_LONGEST = 600
_ARGPARSE = re.compile(r"argument (--[\w-]+): invalid (int|float) value: '(.*)'$")


def shorten(line: str, most: int) -> str:
    """Leave out the middle of a line of more letters than that."""
    return line if len(line) <= most else f"{line[: most // 2]} ... {line[-most // 2 :]}"


def clear(message: str) -> str:
    """Say in n2n's words what a parser says of a wrong value; other messages keep theirs. What is long loses its middle.

    Args:
        message: one line of argparse or jsonargparse.
    """
    return shorten(_in_our_words(message), _LONGEST)


def _in_our_words(message: str) -> str:
    if found := _ARGPARSE.match(message):
        return f"{found[1]} is {found[3]!r}: expected {_WORDS[found[2]]}"
    names: list[str] = []
    rest = message
    while found := _KEY.match(rest):
        names.append(found[1])
        rest = rest[found.end() :]
        if inside := _IN_A_CLASS.match(rest):
            # What does not fit is an argument of the class; that the class is not null either need not be said.
            rest = rest[inside.end() :].partition(" - Expected a <class 'NoneType'>")[0]
    if not names:
        return message
    key = "--" + ".init_args.".join(names)
    if found := re.match(r"Option '([\w.]+)' is not accepted", rest):
        return f"{key} has no argument {found[1]}"
    if found := re.match(r"the following arguments are required: ([\w, ]+)", rest):
        return f"{key} lacks what it needs: give " + ", ".join(f"{key}.{name}" for name in found[1].split(", "))
    given = next((match[1] for pattern in _GIVEN if (match := re.search(pattern, rest))), None)
    if rest.startswith("Unable to load config"):
        return f"{key} is {given!r}: expected a YAML file"
    if found := re.search(r"Problem with given class_path '(.*?)': (.*?)(?= - Expected a|$)", rest):
        return f"{key} is {found[1]!r}: {found[2].partition(' Given value')[0]}"
    expected = list(dict.fromkeys(word for match in _EXPECTED.finditer(rest) for word in _words(*match.groups())))
    if given is None or not expected:
        return f"{key}: {re.sub(r'^- Expected a path but .*? either not accessible or invalid - ', '', rest)}"
    return f"{key} is {given.strip(chr(39))!r}: expected {_alternatives(expected)}"


def _words(cls: str | None, choices: str | None, *others: str | None) -> list[str]:
    if choices is not None:
        return choices.replace("'", "").split(", ")
    name = cls or next(filter(None, others))
    return [_WORDS.get(name, name)]


def _alternatives(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def about(message: str, options: Mapping[str, object]) -> str:
    """Begin the Trainer's message about one of its arguments with the option and its value.

    Args:
        message: of an error.
        options: of the Trainer.
    """
    prefix = "--trainer."
    line = " ".join(message.split())
    # Its timer does not say whose time it is.
    named = re.findall(r"\w+", line.replace("Timer(duration", "max_time ("))
    name = next((name for name in named if name in options), None)
    if name is None:
        # It is about the machine then.
        return ", ".join(f"{prefix}{name} is {options[name]!r}" for name in ("accelerator", "devices")) + f": {line}"
    return f"{prefix}{name} is {options[name]!r}: {line}"
