"""What the commands' options have in common: one line for a mistake, with the option that was probably meant."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from n2n.errors import InputError
from n2n.system.messages import clear

# Of --trust.
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


def with_suggestion(message: str, known: Iterable[str], command: str) -> str:
    """Add the option that was probably meant to a message about one that does not exist.

    Args:
        message: from argparse.
        known: the options that there are.
        command: after ``n2n``.
    """
    wrong = re.match(
        r"(?:unrecognized arguments: |Subcommand '\w+' does not accept option ')(?:--)?([^\s=']+)", message
    )
    # What has no dashes is a value too many.
    meant = wrong and (wrong[0].endswith(f"option '{wrong[1]}") or f" --{wrong[1]}" in wrong[0])
    close = difflib.get_close_matches(f"--{wrong[1]}", list(known), n=1) if wrong and meant else []
    hint = f"did you mean {close[0]}?" if close else f"n2n {command} --help lists the options"
    return f"{message} ({hint})"


class CommandParser(argparse.ArgumentParser):
    """The parser of a command that needs no Lightning, and so no jsonargparse; completes no misspelt option.

    Args:
        command: after ``n2n``.
        **kwargs: as for ``argparse.ArgumentParser``.
    """

    def __init__(self, command: str, **kwargs: Any) -> None:
        super().__init__(f"n2n {command}", allow_abbrev=False, **kwargs)
        self.command = command

    def parse_args(self, args: Sequence[str]) -> argparse.Namespace:  # type: ignore[override]  # of the process: never
        """Parse the options; raises InputError.

        An option that does not exist is named first: argparse would say that the one it should have been is missing.
        """
        for name in (argument.partition("=")[0] for argument in args):
            if name.startswith("--") and name not in self._option_string_actions:
                self.error(f"unrecognized arguments: {name}")
        return super().parse_args(args)

    def error(self, message: str) -> NoReturn:
        """Raise InputError."""
        raise InputError(with_suggestion(clear(message), self._option_string_actions, self.command))
