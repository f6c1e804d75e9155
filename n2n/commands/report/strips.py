"""The strips of pictures: noisy | denoised | clean, each with its PSNR."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from n2n.commands.plots import look
from n2n.errors import InputError
from n2n.trainer.panels import COLUMNS, PanelRow, Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# In pixels: the least width of a picture, which is enlarged by a whole factor; the line of text; the gap between pictures.
_LEAST_WIDTH, _TEXT, _GAP = 256, 34, 12
# Pixels to the inch.
DPI = 200
# Part of a pixel. Matplotlib truncates inches × DPI to whole pixels, and the product may be slightly too small.
_SLACK = 1e-3
# What matplotlib draws is smaller.
_MOST_SIDE = 2**16
# Longest line, in characters, and largest number of lines of a heading.
_LETTERS, _LINES = 18, 3


@dataclass(frozen=True)
class Cell:
    """One picture of a strip.

    Attributes:
        picture: H×W×3.
        text: below it.
        best: whether the text is shown in bold.
    """

    picture: Picture
    text: str = ""
    best: bool = False


def _decibels(value: float) -> str:
    return f"{value:.2f} dB"


def run_strip(panel: Sequence[PanelRow], images: int) -> Figure:
    """Draw the first images of a run's panel, one row each: noisy | denoised | clean."""
    rows = [
        [Cell(picture, _decibels(row.psnr[i]) if row.psnr and i < 2 else "") for i, picture in enumerate(row.pictures)]
        for row in panel[:images]
    ]
    return _figure(COLUMNS[: len(rows[0])], rows)


def common_strip(panels: Sequence[Sequence[PanelRow]], labels: Sequence[str], images: int) -> Figure | None:
    """Draw images that all panels show, one row each: noisy | denoised by each run | clean.

    Args:
        panels: one for each run.
        labels: of the runs.
        images: the largest number of rows.

    Returns:
        The figure, or None if the panels have no noisy image in common.
    """

    def key(picture: Picture) -> tuple[tuple[int, ...], bytes]:
        return picture.shape, picture.tobytes()

    found = [{key(row.pictures[0]): row for row in panel} for panel in panels]
    shared = [name for name in found[0] if all(name in rows for rows in found)]
    with_clean = next((i for i, panel in enumerate(panels) if len(panel[0].pictures) == 3), None)
    cells = []
    for name in shared[:images]:
        rows = [of_run[name] for of_run in found]
        scores = [row.psnr[1] if row.psnr else None for row in rows]
        # Without the score of one run, the best is unknown.
        best = max((score for score in scores if score is not None), default=None) if None not in scores else None
        noisy = next((row.psnr[0] for row in rows if row.psnr), None)
        line = [Cell(rows[0].pictures[0], "" if noisy is None else _decibels(noisy))]
        line += [
            Cell(row.pictures[1], "" if score is None else _decibels(score), best is not None and score == best)
            for row, score in zip(rows, scores, strict=True)
        ]
        if with_clean is not None:
            line.append(Cell(rows[with_clean].pictures[2]))
        cells.append(line)
    if not cells:
        return None
    return _figure(["noisy", *labels, *(["clean"] if with_clean is not None else [])], cells)


def _heading(label: str) -> str:
    return "\n".join(textwrap.wrap(label, _LETTERS, max_lines=_LINES, placeholder="…")) or label


def _figure(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Figure:
    """Draw the cells. They lie on whole pixels, so that each pixel of a picture becomes a square."""
    from matplotlib.figure import Figure

    headings = [_heading(column) for column in columns]
    pictures = [[_enlarged(cell.picture) for cell in row] for row in rows]
    wide = max(picture.shape[1] for row in pictures for picture in row)
    head = _TEXT * (1 + max(heading.count("\n") for heading in headings))
    foot = [_TEXT if any(cell.text for cell in row) else 0 for row in rows]
    high = [max(len(picture) for picture in row) for row in pictures]
    width = len(columns) * (wide + _GAP) + _GAP
    height = head + sum(high) + sum(foot) + _GAP * (len(rows) + 1)
    if max(width, height) >= _MOST_SIDE:
        raise InputError(f"a strip would have {width}×{height} pixels: ask for fewer --images, or for fewer runs")
    with look():
        figure = Figure(figsize=((width + _SLACK) / DPI, (height + _SLACK) / DPI), dpi=DPI)

        def text(x: float, y: float, words: str, bold: bool = False) -> None:
            # y is the baseline, measured from the top.
            figure.text(
                x / width,
                1 - y / height,
                words,
                ha="center",
                va="baseline",
                fontsize=8,
                fontweight="bold" if bold else "normal",
                linespacing=1.1,
                parse_math=False,
            )

        for i, heading in enumerate(headings):
            text(_GAP + i * (wide + _GAP) + wide / 2, head, heading)
        top = head + _GAP
        for cells, shown, tall, below in zip(rows, pictures, high, foot, strict=True):
            for i, (cell, picture) in enumerate(zip(cells, shown, strict=True)):
                H, W = picture.shape[:2]
                left = _GAP + i * (wide + _GAP) + (wide - W) // 2
                axes = figure.add_axes((left / width, 1 - (top + H) / height, W / width, H / height))
                axes.imshow(picture, interpolation="none", aspect="auto")
                axes.set_axis_off()
                if cell.text:
                    text(left + W / 2, top + tall + _TEXT - 8, cell.text, cell.best)
            top += tall + below + _GAP
    return figure


def _enlarged(picture: Picture) -> Picture:
    factor = max(1, -(-_LEAST_WIDTH // picture.shape[1]))
    return np.repeat(np.repeat(picture, factor, axis=0), factor, axis=1)
