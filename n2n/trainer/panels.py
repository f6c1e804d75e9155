"""Panels of validation images, noisy | denoised | clean: PNG files, and CSV files with the sizes and the PSNRs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from n2n.errors import InputError, reason
from n2n.system.files import file_size, replacing, write_text
from n2n.trainer.run_folder import PANELS, read_table

Picture = NDArray[np.uint8]

COLUMNS = ("noisy", "denoised", "clean")
# The largest side of a picture; of larger images the centre is shown.
MOST_SIDE = 256
# In pixels: the height of a line of text and the size of its letters, which TensorBoard shows at less than half their size; the
# least width of a column, so that a label fits; the gap beside a picture.
_LINE, _LETTERS, _LEAST_WIDTH, _GAP = 36, 26, 256, 8
# Far above the pixels of any panel. Larger ones are refused before they take the memory.
_MOST_PIXELS = 2**26
# Longest note that is read, in characters.
_MOST_LETTERS = 100


@dataclass(frozen=True)
class PanelRow:
    """One image of a panel.

    Attributes:
        pictures: H×W×3, not enlarged; of large images the centre. Noisy, denoised, and clean if there is one.
        psnr: of the whole noisy and denoised image, in dB; None without a clean image.
        note: how the pictures differ from the image, such as "brightness x4"; empty if they do not.
    """

    pictures: tuple[Picture, ...]
    psnr: tuple[float, float] | None
    note: str = ""

    def captions(self) -> list[str]:
        """Return the name of each picture, with its PSNR if that is known."""
        psnr = [f" {value:.2f} dB" for value in self.psnr or ()]
        return [f"{name}{score}" for name, score in zip(COLUMNS, [*psnr, "", "", ""], strict=False)][
            : len(self.pictures)
        ]


class _Place(NamedTuple):
    """Where the pictures of a row are in a panel: their top, their lefts, their size, and how many times they are enlarged."""

    top: int
    lefts: tuple[int, ...]
    size: tuple[int, int]
    factor: int

    @property
    def bottom(self) -> int:
        return self.top + self.size[0] * self.factor

    @property
    def right(self) -> int:
        return self.lefts[-1] + max(_LEAST_WIDTH, self.size[1] * self.factor) + _GAP


def enlargement(height: int, width: int) -> int:
    """Return how many times a picture is enlarged, so that its longer side has about ``MOST_SIDE`` pixels."""
    return max(1, MOST_SIDE // max(height, width))


def _place(above: int, columns: int, height: int, width: int) -> _Place:
    """Place the row that begins at the line of pixels ``above``."""
    factor = enlargement(height, width)
    step = max(_LEAST_WIDTH, width * factor) + _GAP
    return _Place(above + _LINE, tuple(_GAP + i * step for i in range(columns)), (height, width), factor)


def write_panel(folder: Path, epoch: int, rows: Sequence[PanelRow]) -> Picture:
    """Write a panel of a run to ``panels/epoch_N.png`` and ``.csv``, one row for each image; return it, H×W×3.

    Raises:
        OSError: if the PNG file cannot be written.
        InputError: if the CSV file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_LETTERS)
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["columns", "height", "width", "noisy", "denoised", "note"])
    places, below = [], 0
    for row in rows:
        H, W = row.pictures[0].shape[:2]
        psnr = [f"{value:.2f}" for value in row.psnr or ()] or ["", ""]
        table.writerow([len(row.pictures), H, W, *psnr, row.note])
        places.append(_place(below, len(row.pictures), H, W))
        below = places[-1].bottom + _GAP + bool(row.note) * _LINE
    wide = max(*(_GAP + int(font.getlength(row.note)) + _GAP for row in rows), *(place.right for place in places))
    panel = Image.new("RGB", (wide, below), "white")
    pen = ImageDraw.Draw(panel)
    for row, place in zip(rows, places, strict=True):
        H, W = place.size
        for left, caption, picture in zip(place.lefts, row.captions(), row.pictures, strict=True):
            pen.text((left, place.top - 8), caption, fill="black", font=font, anchor="ls")
            large = Image.fromarray(picture).resize((W * place.factor, H * place.factor), Image.Resampling.NEAREST)
            panel.paste(large, (left, place.top))
        pen.text((_GAP, place.bottom + _LINE - 8), row.note, fill="dimgray", font=font, anchor="ls")
    path = folder / PANELS / f"epoch_{epoch:03}.png"
    with replacing(path) as part:
        panel.save(part)
    write_text(path.with_suffix(".csv"), out.getvalue())
    return np.asarray(panel)


def last_panel(folder: Path, epochs: int) -> list[PanelRow]:
    """Read the last panel of a run; empty if it has none.

    Args:
        folder: of the run.
        epochs: that the run has completed. A run that began anew in its folder may have left panels of later ones.

    Raises:
        InputError: if the panel is damaged.
    """
    found = {
        int(match[1]): path
        for path in (folder / PANELS).glob("epoch_*.csv")
        if (match := re.fullmatch(r"epoch_(\d{1,15})", path.stem)) and int(match[1]) <= epochs
    }
    if not found:
        return []
    table = max(found.items())[1]
    lines, panel = read_table(table, "the sizes of a panel's pictures"), _decode(table.with_suffix(".png"))
    try:
        return _cut(panel, lines)
    except (KeyError, ValueError) as error:
        raise InputError(f"{table} does not describe the panel beside it ({reason(error)})") from None


def _decode(path: Path) -> Picture:
    from PIL import Image

    file_size(path, "the panel that n2n fit wrote")  # refuses a pipe, which would be waited for
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"it has {image.width}×{image.height} pixels, more than any panel")
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # damaged images fail in many ways
        raise InputError(f"the panel {path} cannot be read ({reason(error)})") from None


def _cut(panel: Picture, lines: Sequence[dict[str, str]]) -> list[PanelRow]:
    rows, below = [], 0
    for line in lines:
        columns, H, W = (int(line[name]) for name in ("columns", "height", "width"))
        if (
            columns != int(lines[0]["columns"])
            or columns not in (2, 3)
            or not (0 < H <= MOST_SIDE and 0 < W <= MOST_SIDE)
        ):
            raise ValueError(f"it has {columns} pictures of {H}×{W} pixels")
        place = _place(below, columns, H, W)
        right = W * place.factor
        pictures = [
            panel[place.top : place.bottom : place.factor, left : left + right : place.factor] for left in place.lefts
        ]
        if any(picture.shape != (H, W, 3) for picture in pictures):
            raise ValueError(f"pictures of {H}×{W} pixels at {place.top} are outside of it")
        psnr = (float(line["noisy"]), float(line["denoised"])) if line["noisy"] else None
        note = "".join(letter if letter.isprintable() else "?" for letter in line["note"][:_MOST_LETTERS])
        rows.append(PanelRow(tuple(pictures), psnr, note))
        below = place.bottom + _GAP + bool(note) * _LINE
    if below != len(panel):
        raise ValueError(f"its rows have {below} lines of pixels, and the panel {len(panel)}")
    return rows
