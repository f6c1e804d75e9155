"""Panels of validation images, noisy | denoised | clean: PNG files, and CSV files with the sizes and the PSNRs."""

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
# The largest side of a picture; of larger images the centre is shown.
MOST_SIDE = 256
# In pixels: the least width of a picture, to which smaller ones are enlarged; the line of text above it; the gap beside it.
_LEAST_WIDTH, _TEXT, _GAP = 128, 14, 4
# Far above the pixels of any panel. Larger ones are refused before they take the memory.
_MOST_PIXELS = 2**25


@dataclass(frozen=True)
class PanelRow:
    """One image of a panel.

    Attributes:
        pictures: H×W×3, not enlarged; of large images the centre. Noisy, denoised, and clean if there is one.
        psnr: of the whole noisy and denoised image, in dB; None without a clean image.
    """

    pictures: tuple[Picture, ...]
    psnr: tuple[float, float] | None


def _factor(width: int) -> int:
    """Return how many times a picture is enlarged."""
    return max(1, -(-_LEAST_WIDTH // width))


def write_panel(folder: Path, epoch: int, rows: Sequence[PanelRow]) -> Picture:
    """Write a panel of a run to ``panels/epoch_N.png`` and ``.csv``, one row for each image; return it, H×W×3.

    Raises:
        OSError: if the PNG file cannot be written.
        InputError: if the CSV file cannot be written.
    """
    from PIL import Image, ImageDraw

    sizes = [(row.pictures[0].shape[0], row.pictures[0].shape[1]) for row in rows]
    width = max(len(row.pictures) * (W * _factor(W) + _GAP) for row, (_, W) in zip(rows, sizes, strict=True))
    panel = Image.new("RGB", (width, sum(_TEXT + H * _factor(W) for H, W in sizes)), "white")
    pen = ImageDraw.Draw(panel)
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["columns", "height", "width", "noisy", "denoised"])
    top = 0
    for row, (H, W) in zip(rows, sizes, strict=True):
        psnr = [f"{value:.2f}" for value in row.psnr or ()]
        table.writerow([len(row.pictures), H, W, *(psnr or ["", ""])])
        captions = [f"{name} {value} dB" for name, value in zip(COLUMNS, psnr, strict=False)]
        size = W * _factor(W), H * _factor(W)
        for i, (name, picture) in enumerate(zip(COLUMNS, row.pictures, strict=False)):
            left = i * (size[0] + _GAP)
            pen.text((left, top), captions[i] if i < len(captions) else name, fill="black")
            panel.paste(Image.fromarray(picture).resize(size, Image.Resampling.NEAREST), (left, top + _TEXT))
        top += _TEXT + size[1]
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
    rows, top = [], 0
    for line in lines:
        columns, H, W = (int(line[name]) for name in ("columns", "height", "width"))
        if (
            columns != int(lines[0]["columns"])
            or columns not in (2, 3)
            or not (0 < H <= MOST_SIDE and 0 < W <= MOST_SIDE)
        ):
            raise ValueError(f"it has {columns} pictures of {H}×{W} pixels")
        factor, top = _factor(W), top + _TEXT
        lefts = [i * (W * factor + _GAP) for i in range(columns)]
        pictures = [panel[top : top + H * factor : factor, x : x + W * factor : factor] for x in lefts]
        if any(picture.shape != (H, W, 3) for picture in pictures):
            raise ValueError(f"pictures of {H}×{W} pixels at {top} are outside of it")
        psnr = (float(line["noisy"]), float(line["denoised"])) if line["noisy"] else None
        rows.append(PanelRow(tuple(pictures), psnr))
        top += H * factor
    return rows
