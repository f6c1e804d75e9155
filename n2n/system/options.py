"""What the parsers of all commands share: errors of one line, with the option that was probably meant."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from n2n.errors import InputError

# Longest message, in characters, that is shown whole.
_LONGEST = 500
# Messages of argparse and jsonargparse about an option that does not exist.
_UNKNOWN = re.compile(r"(?:unrecognized arguments: --|Option '|Group '(\S+)' does not accept option ')([^\s=']+)")
# A message of argparse about a value that is no number.
_NO_NUMBER = re.compile(r"argument (\S+): invalid (int|float) value: '(.*)'")

# Help of --trust.
TRUST_HELP = (
    "a package whose classes a checkpoint may name beside n2n's; may be repeated. Its code is imported and run, so name only "
    "packages that you would run yourself"
)


def options(args: Sequence[str], name: str) -> list[str]:
    """Return all values of an option in command line arguments."""
    values = []
    for i, argument in enumerate(args):
        if argument == name and i + 1 < len(args):
            values.append(args[i + 1])
        elif argument.startswith(f"{name}="):
            values.append(argument.partition("=")[2])
    return values


def option(args: Sequence[str], name: str) -> str | None:
    """Return the last value of an option in command line arguments, or None."""
    values = options(args, name)
    return values[-1] if values else None


def without_option(args: Sequence[str], name: str) -> list[str]:
    """Return command line arguments without an option and its value."""
    kept: list[str] = []
    skip = False
    for argument in args:
        if skip or argument.startswith(f"{name}="):
            skip = False
        elif argument == name:
            skip = True
        else:
            kept.append(argument)
    return kept


def shorten(message: str) -> str:
    """Put a message into one line; a long one loses its middle, since the option stands first and the value last."""
    line = " ".join(message.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


def option_names(parser: argparse.ArgumentParser) -> set[str]:
    """Return the options of a parser that its help lists."""
    return set(re.findall(r"(?<![\w-])--?\w[\w.-]*\+?", parser.format_help()))


def with_suggestion(message: str, known: Iterable[str], listing: str) -> str:
    """Add the option that was probably meant to a message about one that does not exist.

    Args:
        message: from argparse or jsonargparse.
        known: the options that exist.
        listing: what lists the options, after ``n2n``.
    """
    found = _UNKNOWN.match(message)
    wrong = "--" + ".".join(filter(None, found.groups())) if found else ""
    close = difflib.get_close_matches(wrong, list(known), n=1) if wrong else []
    hint = f"did you mean {close[0]}?" if close else f"n2n {listing} lists the options"
    return f"{message} ({hint})"


class CommandParser(argparse.ArgumentParser):
    """The parser of a command that does not import jsonargparse; it completes no abbreviated option.

    Args:
        command: after ``n2n``.
        **kwargs: as for ``argparse.ArgumentParser``.
    """

    def __init__(self, command: str, **kwargs: Any) -> None:
        super().__init__(f"n2n {command}", allow_abbrev=False, **kwargs)
        self.command = command

    def parse_args(self, args: Sequence[str]) -> argparse.Namespace:  # type: ignore[override]  # never those of the process
        """Parse the options.

        An option that does not exist is reported first: argparse would report the option that was meant as missing.

        Raises:
            InputError: if an argument is wrong.
        """
        self._check_names(args)
        return super().parse_args(args)

    def parse_some(self, args: Sequence[str], passed: tuple[str, ...]) -> tuple[argparse.Namespace, list[str]]:
        """Parse the options of this parser, and return the other arguments.

        Args:
            args: the command line.
            passed: prefixes of the options of another parser.

        Raises:
            InputError: if an argument is wrong.
        """
        self._check_names(args, passed)
        return self.parse_known_args(args)

    def _check_names(self, args: Sequence[str], passed: tuple[str, ...] = ()) -> None:
        known = option_names(self)
        for name in (argument.partition("=")[0] for argument in args):
            if name.startswith("--") and name not in known and not name.startswith(passed):
                self.error(f"unrecognized arguments: {name}")

    def error(self, message: str) -> NoReturn:
        """Raise InputError."""
        if found := _NO_NUMBER.match(message):
            message = f"{found[1]} is {found[3]}: expected a {'whole ' if found[2] == 'int' else ''}number"
        raise InputError(with_suggestion(shorten(message), option_names(self), f"{self.command} --help"))
