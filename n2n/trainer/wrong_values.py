"""What jsonargparse says of an option with a wrong value, in words."""

from __future__ import annotations

import re

from n2n.trainer.classes import PARTS

# How jsonargparse begins its messages; keys may be nested.
_KEY = re.compile(r'Parser key "([\w.+]+)": ')
_GIVEN = re.compile(r"(?:Got value|Given value):(?: (.*?))?(?= - Expected | Errors: |$)")
_EXPECTED = re.compile(
    r"Expected an? (typing\.Literal\[.*?\]|<class '[\w.]+'>|dot import path|tuple with \d+ elements)"
)
# The message of a parser in a parser, which was put into words already.
_INNER = re.compile(r"--([\w.]+ is .*)")
_NO_CONFIG = re.compile(r"Unable to load config ([\"'])(.*?)\1")
_NESTED = re.compile(r"Given value: NestedArg\(key='([\w.]+)', val=")
_PATH, _MAPPING = "the import path of a class", "names and values such as {A: B}"
_WORDS = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'str'>": "a text",
    "<class 'list'>": "a list such as [A, B]",
    "<class 'tuple'>": "a list such as [A, B]",
    "<class 'collections.abc.Sequence'>": "a list such as [A, B]",
    "<class 'dict'>": _MAPPING,
    "dot import path": _PATH,
    "<class 'NoneType'>": "null",
}


def keys(message: str) -> tuple[list[str], str]:
    """Return the keys with which a message of jsonargparse begins, the outer one first, and what follows."""
    found = []
    while key := _KEY.match(message):
        found.append(key[1].rstrip("+"))
        message = message[key.end() :]
    return found, message


def in_words(message: str) -> str:
    """Return a clearer message about a wrong value: what was given, and what was expected.

    Args:
        message: of jsonargparse. One about something else is returned as it is, in one line.
    """
    line = " ".join(message.split())
    names, rest = keys(line)
    option = ".".join(names).replace(".init_args", "")
    if not option:
        return line
    if inner := _INNER.match(rest):
        return f"--{option}.{inner[1]}"
    if config := _NO_CONFIG.match(rest):
        return f"--{option} is {config[2] or 'empty'}: expected a file, or {_MAPPING}"
    if nested := _NESTED.search(rest):
        return f"--{option}.{nested[1]} is given, but no class that has it: choose one with --{option} CLASS"
    given, expected = _GIVEN.search(rest), list(dict.fromkeys(_EXPECTED.findall(rest)))
    words = list(dict.fromkeys(word for one in expected for word in _words(one)))
    if _PATH in words and option.rpartition(".")[2] in PARTS:
        return line  # a class that does not exist
    if "a number" in words:
        # torch.Tensor, which a rate of torch's optimisers may be, is read as the path of a class.
        words = [word for word in words if word != _PATH]
    if given is None or words in ([], ["null"]):
        return line
    value = given[1] or "empty"
    if value.startswith("[") and words == ["a text"]:
        # An option that is given twice, such as --root, becomes a list.
        words = ["one value alone"]
    *several, last = words
    choice = f"{', '.join(several)} or {last}" if several else last
    return f"--{option} is {value}: expected {choice}"


def _words(expected: str) -> list[str]:
    if expected.startswith("typing.Literal"):
        return [value.strip(" '\"") for value in expected.partition("[")[2].rstrip("]").split(",")]
    if count := re.match(r"tuple with (\d+)", expected):
        return [f"a list of {count[1]} values"]
    if expected == "<class 'bool'>":
        return ["true", "false"]
    return [_WORDS[expected]] if expected in _WORDS else []
