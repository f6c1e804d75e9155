"""Text for messages."""

from __future__ import annotations


def counted(number: int, noun: str, separator: str = "") -> str:
    """Return a number with its noun, "1 scene" or "2 scenes", and with a separator of thousands."""
    return f"{number:{separator}} {noun}{'s' * (number != 1)}"
