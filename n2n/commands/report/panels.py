"""The pictures of a run, noisy | denoised | clean, cut out of the panels that it put into TensorBoard."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from n2n.commands.event_files import read_events
from n2n.errors import InputError, reason

Picture = NDArray[np.uint8]

# Far above any panel's; a hostile event file must not take the memory for more.
_MOST_PIXELS = 2**25
# Narrower images are enlarged to it in panels.
_LEAST_WIDTH = 128
_TAGS = {"val/noisy_denoised_clean": ("noisy", "denoised", "clean"), "val/noisy_denoised": ("noisy", "denoised")}


@dataclass(frozen=True)
class Row:
    """One image of a panel.

    Attributes:
        pictures: H×W×3, not enlarged, of large images the centre: noisy, denoised, and clean if there is one.
        psnr: of the whole noisy and denoised image, in dB; None where it was not logged.
    """

    pictures: tuple[Picture, ...]
    psnr: tuple[float, float] | None


@dataclass(frozen=True)
class Panel:
    """The images of one validation.

    Attributes:
        columns: what the pictures of a row are: ``noisy``, ``denoised``, and ``clean`` if there are clean images.
        rows: one for each image.
        epoch: that was completed, from 1; None if it was not logged.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    epoch: int | None


def last_panel(folder: Path) -> Panel | None:
    """Read the last panel of a run; None if it has none.

    Raises:
        InputError: if there is no such folder, or the panel is not one of n2n's.
    """
    last: tuple[Any, str, Any] | None = None
    for events in read_events(folder):
        for tag in _TAGS:
            if tag in events.Tags()["images"]:
                image = events.Images(tag)[-1]
                if last is None or image.wall_time >= last[2].wall_time:
                    last = (events, tag, image)
    if last is None:
        return None
    events, tag, image = last
    picture = _decode(image.encoded_image_string, folder)
    columns = _TAGS[tag]
    sizes, scores = _table(events, image.step)
    if sum(height for height, _ in sizes) != len(picture) or any(width > picture.shape[1] for _, width in sizes):
        # Of a time when there were no tables: all rows are of one size then.
        height = _row_height(picture, len(columns))
        if height is None:
            raise InputError(f"the last panel of {folder} is not one of n2n's, or its images differ in size")
        sizes = [(height, picture.shape[1])] * (len(picture) // height)
        scores = [None] * len(sizes)
    rows, top = [], 0
    for (height, width), psnr in zip(sizes, scores, strict=True):
        pictures = _cut(picture[top : top + height, :width], len(columns))
        if pictures is None:
            raise InputError(f"the last panel of {folder} is not one of n2n's")
        rows.append(Row(pictures, psnr))
        top += height
    # Scalars bear the number of the step that came before them, images that of the step to come.
    epochs = {event.step + 1: event.value for event in events.Scalars("epoch")} if "epoch" in _scalars(events) else {}
    epoch = epochs.get(image.step, math.nan)
    return Panel(columns, tuple(rows), int(epoch) + 1 if math.isfinite(epoch) else None)


def _scalars(events: Any) -> list[str]:
    tags: list[str] = events.Tags()["scalars"]
    return tags


def _decode(png: bytes, folder: Path) -> Picture:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise InputError(
                    f"the last panel of {folder} is larger than any of n2n's: {image.width}×{image.height}"
                )
            return np.asarray(image.convert("RGB"))
    except InputError:
        raise
    except Exception as error:  # damaged images fail in many ways
        raise InputError(f"the last panel of {folder} cannot be read ({reason(error)})") from None


def _table(events: Any, step: int) -> tuple[list[tuple[int, int]], list[tuple[float, float] | None]]:
    """Return height and width of each row, and its PSNRs, of the panel that was logged at a step; nothing if not logged."""
    tag = "val/psnr_of_panel/text_summary"
    texts = [event for event in (events.Tensors(tag) if tag in events.Tags()["tensors"] else []) if event.step == step]
    if not texts or not texts[-1].tensor_proto.string_val:
        return [], []
    sizes: list[tuple[int, int]] = []
    scores: list[tuple[float, float] | None] = []
    for line in texts[-1].tensor_proto.string_val[0].decode(errors="replace").splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        try:
            height, width = (int(cell) for cell in cells[:2])
            psnr = (float(cells[2]), float(cells[3])) if any(cells[2:4]) else None
        except (ValueError, IndexError):
            return [], []
        if min(height, width) < 1:
            return [], []
        sizes.append((height, width))
        scores.append(psnr)
    return sizes, scores


def _factors(width: int, columns: int) -> Iterator[int]:
    """Yield the factors by which the images may have been enlarged in a row of that width, the largest first."""
    side, rest = divmod(width, columns)
    for factor in range(_LEAST_WIDTH, 0, -1):
        if rest == 0 and side % factor == 0 and (inner := side // factor - 2) >= 1:
            enlarged = max(1, -(-_LEAST_WIDTH // inner))
            if factor == enlarged:
                yield factor


def _cut(row: Picture, columns: int) -> tuple[Picture, ...] | None:
    """Cut a row into its pictures, without the white lines around each; None if it is not made so."""
    for factor in _factors(row.shape[1], columns):
        if len(row) % factor or len(row) // factor < 3:
            continue
        small = row[::factor, ::factor]
        if not np.array_equal(small.repeat(factor, axis=0).repeat(factor, axis=1), row):
            continue
        parts = np.split(small, columns, axis=1)
        if all((edge == 255).all() for part in parts for edge in (part[0], part[-1], part[:, 0], part[:, -1])):
            return tuple(part[1:-1, 1:-1] for part in parts)
    return None


def _row_height(picture: Picture, columns: int) -> int | None:
    """Return the height of the rows of a panel whose rows are all of one size: the smallest that has its white lines."""
    if not any(_factors(picture.shape[1], columns)):
        return None  # before a tall picture is cut into millions of rows
    for height in range(3, len(picture) + 1):
        if len(picture) % height:
            continue
        rows = np.split(picture, len(picture) // height)
        if all(_cut(row, columns) is not None for row in rows):
            return height
    return None
