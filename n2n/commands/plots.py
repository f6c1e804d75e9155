"""Labels, style and saving of figures."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from n2n.errors import InputError
from n2n.system.files import replacing

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

# Longest label in a legend, in characters.
_MOST_LETTERS = 40
# Longest part of a file's name that comes from a label, in bytes. File systems allow names of 255 bytes.
_MOST_BYTES = 100
# Matplotlib's tab10, with black in place of grey.
_COLOURS = (*(f"C{i}" for i in (0, 1, 2, 3, 4, 5, 6, 9, 8)), "black")
_LINES = ("solid", "dashed", "dashdot", (0, (1, 1)))


def require_matplotlib(what: str) -> None:
    """Raise InputError if matplotlib is missing, which ``what`` needs."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError(f"{what} needs matplotlib: pip install matplotlib") from None


def style(number: int) -> tuple[str, Any]:
    """Return the colour and the line style of a curve by its number, from 0: ten colours for each line style."""
    return _COLOURS[number % len(_COLOURS)], _LINES[number // len(_COLOURS) % len(_LINES)]


def labels(folders: Sequence[Path]) -> list[str]:
    """Return a short name for each folder, all different: its path below their common parent."""
    paths = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100  # follows no link
    if len({path.drive for path in paths}) > 1:  # of Windows, which have no common parent
        return shortened([path.as_posix() for path in paths])
    if len(set(paths)) > 1:
        shared = os.path.commonpath([path.parent for path in paths])
        return shortened([path.relative_to(shared).as_posix() for path in paths])
    # A version alone does not name a run.
    parts = 2 if re.fullmatch(r"version_\d+", paths[0].name) else 1
    return shortened(["/".join(path.parts[-parts:]) for path in paths])


def shortened(labels: Sequence[str]) -> list[str]:
    """Return the labels shortened for a legend, all different."""
    # File names may contain line breaks and other characters that fonts and SVG files cannot show.
    plain = ["".join(letter if letter.isprintable() else "?" for letter in label) for label in labels]
    head = _MOST_LETTERS // 3
    tail = _MOST_LETTERS - head - 1  # longer than the head: names differ more often at their end
    return _distinct([x if len(x) <= _MOST_LETTERS else f"{x[:head]}…{x[-tail:]}" for x in plain])


def _distinct(names: Sequence[str], between: str = " ") -> list[str]:
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        number, candidate = 1, name
        # Some file systems ignore case.
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{name}{between}{number}"
        taken.add(candidate.casefold())
        found.append(candidate)
    return found


def file_names(labels: Sequence[str]) -> list[str]:
    """Return parts of file names for labels, all different: letters, digits, and ``. _ -``."""
    plain = [re.sub(r"[^\w.-]+", "-", label) for label in labels]
    return _distinct([name.encode()[:_MOST_BYTES].decode(errors="ignore") for name in plain], "-")


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw and save figures in one style. The same figure gives the same bytes each time."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        "font.size": 9,
        "axes.titlesize": 9,
        "legend.fontsize": 8,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "grid.linewidth": 0.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "lines.linewidth": 1.3,
        # Text stays text, which can be searched and edited.
        "svg.fonttype": "none",
        "svg.hashsalt": "n2n",
    }
    # For characters that the font lacks, the PNG shows a box. The SVG contains them.
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        # The user's matplotlibrc must not change the figures.
        with mpl.rc_context(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")
            mpl.rcdefaults()
            mpl.rcParams.update(settings)
            yield
    finally:
        logger.setLevel(level)


def legend(
    figure: Figure,
    handles: Sequence[Artist],
    names: Sequence[str],
    loc: Literal["outside right center", "outside right upper"],
    frameon: bool = True,
) -> None:
    """Put a legend beside a figure's axes, with the names as they are.

    Matplotlib would leave out names that begin with ``_``, and read ``$`` as mathematics.
    """
    shown = figure.legend(list(handles), ["run"] * len(handles), loc=loc, frameon=frameon)
    for text, name in zip(shown.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def save(figure: Figure, path_without_suffix: Path, dpi: float = 200) -> list[Path]:
    """Write a figure, drawn within ``figure_style()``, as PNG and SVG, in place of files of these names; return the files.

    Args:
        figure: to write.
        path_without_suffix: to which ``.png`` and ``.svg`` are added. Its folder is made.
        dpi: of the PNG, and of pictures in both.

    Raises:
        InputError: if they cannot be written.
    """
    files = []
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
        file = path_without_suffix.with_name(path_without_suffix.name + suffix)
        try:
            with figure_style(), replacing(file) as part:
                figure.savefig(part, dpi=dpi, metadata=metadata)
        except OSError as error:
            raise InputError(f"{file} cannot be written ({error.strerror or error}): name another folder") from None
        files.append(file)
    return files
