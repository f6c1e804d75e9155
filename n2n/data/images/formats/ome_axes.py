"""The names that other formats give their axes."""

from __future__ import annotations

from collections.abc import Sequence

_LETTERS = "TZCYXS"


def letters(names: Sequence[object]) -> str | None:
    """Return n2n's letters for the names of axes; other names become Q. None unless Y and X are there, once each."""
    found = "".join(str(name).upper() if str(name).upper() in (*_LETTERS,) else "Q" for name in names)
    return found if found.count("Y") == found.count("X") == 1 else None
