"""What formats of instruments say of axes and pixels, in OME's terms."""

from __future__ import annotations

from collections.abc import Sequence

_LETTERS = "TZCYXS"
# Remark on a file of an instrument whose description cannot be read.
UNREAD = "its pixel size and names of channels cannot be read, so they are not written"


def letters(names: Sequence[object]) -> str | None:
    """Return n2n's letters for the names of axes; other names become Q. None unless Y and X are there, once each."""
    found = "".join(str(name).upper() if str(name).upper() in (*_LETTERS,) else "Q" for name in names)
    return found if found.count("Y") == found.count("X") == 1 else None
