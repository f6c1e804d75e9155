"""Panels of validation images, noisy | denoised | clean: PNG files, and CSV files with the place of each picture."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from n2n.errors import InputError, reason
from n2n.system.files import file_size, replacing, write_text
from n2n.trainer.run_folder import PANELS, read_table

Picture = NDArray[np.uint8]

COLUMNS = ("noisy", "denoised", "clean")
# Pixels: the least width of a picture, to which smaller ones are enlarged; the line of text above it; what is between two.
_LEAST_WIDTH, _TEXT, _GAP = 128, 14, 4
# The largest side of a picture; of larger images the centre is shown.
MOST_SIDE = 256
# Far above the pixels of any panel. Larger ones are refused before they take the memory.
_MOST_PIXELS = 2**25
_FIELDS = ("image", "column", "psnr", "left", "top", "width", "height", "enlarged")


@dataclass(frozen=True)
class PanelRow:
    """One image of a panel.

    Attributes:
        pictures: H×W×3, not enlarged; of large images the centre. Noisy, denoised, and clean if there is one.
        psnr: of the whole noisy and denoised image, in dB; None without a clean image.
    """

    pictures: tuple[Picture, ...]
    psnr: tuple[float, float] | None


@dataclass(frozen=True)
class Panel:
    """The images of one validation.

    Attributes:
        epoch: that was completed, from 1.
        rows: one for each image, all with as many pictures.
    """

    epoch: int
    rows: tuple[PanelRow, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """What the pictures of a row are."""
        return COLUMNS[: len(self.rows[0].pictures)]


def draw(panel: Panel) -> tuple[Picture, str]:
    """Draw a panel, one row for each image, with the name and the PSNR above each picture.

    Returns:
        The panel, H×W×3, and the content of the CSV file.
    """
    from PIL import Image, ImageDraw

    factors = [max(1, -(-_LEAST_WIDTH // row.pictures[0].shape[1])) for row in panel.rows]
    heights = [row.pictures[0].shape[0] * factor for row, factor in zip(panel.rows, factors, strict=True)]
    widest = max(row.pictures[0].shape[1] * factor for row, factor in zip(panel.rows, factors, strict=True))
    width = len(panel.columns) * (widest + _GAP) + _GAP
    image = Image.new("RGB", (width, sum(heights) + len(heights) * (_TEXT + _GAP) + _GAP), "white")
    pen = ImageDraw.Draw(image)
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(_FIELDS)
    top = _GAP
    for number, (row, factor, height) in enumerate(zip(panel.rows, factors, heights, strict=True), 1):
        for i, (column, picture) in enumerate(zip(panel.columns, row.pictures, strict=True)):
            left = _GAP + i * (widest + _GAP)
            psnr = f"{row.psnr[i]:.2f}" if row.psnr is not None and i < 2 else ""
            pen.text((left, top), f"{column} {psnr} dB" if psnr else column, fill="black")
            image.paste(Image.fromarray(picture.repeat(factor, 0).repeat(factor, 1)), (left, top + _TEXT))
            size = picture.shape[1] * factor, height
            table.writerow([number, column, psnr, left, top + _TEXT, *size, factor])
        top += _TEXT + height + _GAP
    return np.asarray(image), out.getvalue()


def write_panel(folder: Path, panel: Panel) -> Picture:
    """Write a panel of a run to ``panels/epoch_N.png`` and ``.csv``, and return its picture.

    Raises:
        OSError: if the PNG file cannot be written.
        InputError: if the CSV file cannot be written.
    """
    from PIL import Image

    picture, table = draw(panel)
    path = folder / PANELS / f"epoch_{panel.epoch:03}.png"
    with replacing(path) as part:
        Image.fromarray(picture).save(part)
    write_text(path.with_suffix(".csv"), table)
    return picture


def last_panel(folder: Path, epochs: int) -> Panel | None:
    """Read the last panel of a run; None if it has none.

    Args:
        folder: of the run.
        epochs: that the run has completed. A run that began anew in its folder may have left panels of later ones.

    Raises:
        InputError: if the panel is damaged.
    """
    found = {
        int(match[1]): path
        for path in (folder / PANELS).glob("epoch_*.csv")
        if (match := re.fullmatch(r"epoch_(\d{1,15})", path.stem)) and 0 < int(match[1]) <= epochs
    }
    if not found:
        return None
    epoch, table = max(found.items())
    lines = read_table(table, "where the pictures of a panel are")
    picture = _decode(table.with_suffix(".png"))
    try:
        return Panel(epoch, _cut(picture, lines))
    except (KeyError, ValueError) as error:
        raise InputError(f"{table} does not describe the pictures of the panel beside it ({reason(error)})") from None


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


def _cut(panel: Picture, lines: Sequence[dict[str, str]]) -> tuple[PanelRow, ...]:
    """Cut the pictures out of a panel.

    Raises:
        ValueError: if a picture is not inside the panel, or the pictures are not those of rows of noisy, denoised and clean.
        KeyError: if a column of the table is missing.
    """
    rows: dict[str, list[tuple[str, Picture, str]]] = {}
    area = 0
    for line in lines:
        left, top, width, height, factor = (int(line[name]) for name in _FIELDS[3:])
        shape = panel[max(0, top) : top + height, max(0, left) : left + width].shape[:2]
        if shape != (height, width) or min(left, top, height - 1, width - 1, factor - 1) < 0:
            raise ValueError(f"{height}×{width} pixels at {top}, {left} are not in it")
        if width % factor or height % factor or max(width, height) > MOST_SIDE * factor:
            raise ValueError(f"{height}×{width} pixels are no picture enlarged {factor} times")
        area += width * height
        part = panel[top : top + height : factor, left : left + width : factor]
        rows.setdefault(line["image"], []).append((line["column"], part, line["psnr"]))
    if area > panel.shape[0] * panel.shape[1]:
        raise ValueError("they overlap")
    sizes = {len(row) for row in rows.values()}
    if len(sizes) != 1 or any(
        tuple(name for name, _, _ in row) not in (COLUMNS[:2], COLUMNS) or len({part.shape for _, part, _ in row}) > 1
        for row in rows.values()
    ):
        raise ValueError("a row is not noisy | denoised | clean, each of one size")
    return tuple(
        PanelRow(
            tuple(part for _, part, _ in row), (float(row[0][2]), float(row[1][2])) if row[0][2] and row[1][2] else None
        )
        for row in rows.values()
    )
