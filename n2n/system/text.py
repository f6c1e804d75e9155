"""Text for messages."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence


def counted(number: int, noun: str, separator: str = "") -> str:
    """Return a number with its noun, "1 scene" or "2 scenes", and with a separator of thousands."""
    return f"{number:{separator}} {noun}{'s' * (number != 1)}"


def without_package(value: str) -> str:
    """Return the name alone if a text is the import path of a class; other texts as they are, such as names of files."""
    return value.rpartition(".")[2] if re.fullmatch(r"([A-Za-z_]\w*\.)+[A-Z]\w*", value) else value


def command_line(arguments: Sequence[str]) -> str:
    """Return a command as it can be pasted into a terminal; cmd.exe of Windows knows double quotes alone."""
    return subprocess.list2cmdline(arguments) if os.name == "nt" else shlex.join(arguments)
