"""Text for messages."""

from __future__ import annotations

import re


def counted(number: int, noun: str, separator: str = "") -> str:
    """Return a number with its noun, "1 scene" or "2 scenes", and with a separator of thousands."""
    return f"{number:{separator}} {noun}{'s' * (number != 1)}"


def without_package(value: str) -> str:
    """Return the name alone if a text is the import path of a class; other texts as they are, such as names of files."""
    return value.rpartition(".")[2] if re.fullmatch(r"([A-Za-z_]\w*\.)+[A-Z]\w*", value) else value
