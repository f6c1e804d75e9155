"""What the terminal shows. Imports no torch."""

from __future__ import annotations

import sys


def shows_bars() -> bool:
    """Return whether progress bars are shown: in a terminal and in a notebook. In a file, each drawing would be a line."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules
