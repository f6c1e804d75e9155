"""Strips of pictures: noisy | denoised | clean, each with its PSNR."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from n2n.commands.plots import figure_style
from n2n.errors import InputError
from n2n.trainer.panels import COLUMNS, PanelRow, Picture, enlargement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# In pixels: the least width of a column, so that a PSNR fits; the height of a line of text; the gap between pictures.
_LEAST_WIDTH, _TEXT, _GAP = 200, 34, 12
# Pixels per inch.
DPI = 200
# A part of a pixel, added because matplotlib truncates inches × DPI, which may be slightly too small, to whole pixels.
_SLACK = 1e-3
# Matplotlib draws at most this many pixels along an axis.
_MOST_SIDE = 2**16
# Longest line, in characters, and largest number of lines of a heading.
_LETTERS, _LINES = 18, 3


class Cell(NamedTuple):
    """A picture of a strip, H×W×3, and the text below it, which is bold if the picture is the best."""

    picture: Picture
    text: str = ""
    best: bool = False


def _decibels(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} dB"


def run_strip(panel: Sequence[PanelRow], images: int) -> Figure:
    """Draw the first images of a run's panel, one row each: noisy | denoised | clean."""
    rows = [
        [Cell(picture, _decibels(row.psnr[i]) if row.psnr and i < 2 else "") for i, picture in enumerate(row.pictures)]
        for row in panel[:images]
    ]
    return _figure(COLUMNS[: len(rows[0])], rows, [row.note for row in panel[:images]])


def common_strip(panels: Sequence[Sequence[PanelRow]], labels: Sequence[str], images: int) -> Figure | None:
    """Draw up to ``images`` images that all runs' panels show, one row each: noisy | denoised by each run | clean.

    Returns:
        The figure, or None if the panels have no noisy image in common.
    """
    found = [{(row.pictures[0].shape, row.pictures[0].tobytes()): row for row in panel} for panel in panels]
    shared = [name for name in found[0] if all(name in rows for rows in found)]
    with_clean = next((i for i, panel in enumerate(panels) if len(panel[0].pictures) == 3), None)
    cells, notes = [], []
    for name in shared[:images]:
        rows = [of_run[name] for of_run in found]
        scores = [row.psnr[1] if row.psnr else None for row in rows]
        known = [score for score in scores if score is not None]
        # The best is unknown if one run has no score.
        best = max(known) if len(known) == len(scores) else math.nan
        noisy = next((row.psnr[0] for row in rows if row.psnr), None)
        line = [Cell(rows[0].pictures[0], _decibels(noisy))]
        line += [
            Cell(row.pictures[1], _decibels(score), score == best) for row, score in zip(rows, scores, strict=True)
        ]
        if with_clean is not None:
            line.append(Cell(rows[with_clean].pictures[2]))
        cells.append(line)
        notes.append(rows[0].note)
    if not cells:
        return None
    return _figure(["noisy", *labels, *(["clean"] if with_clean is not None else [])], cells, notes)


def _figure(columns: Sequence[str], rows: Sequence[Sequence[Cell]], notes: Sequence[str]) -> Figure:
    """Draw the cells on whole pixels, so that each pixel of a picture becomes a square, and a note below each row."""
    from matplotlib.figure import Figure

    wrap = textwrap.TextWrapper(_LETTERS, max_lines=_LINES, placeholder="…").fill
    headings = [wrap(column) or column for column in columns]
    pictures = [[_enlarged(cell.picture) for cell in row] for row in rows]
    wide = max(_LEAST_WIDTH, *(picture.shape[1] for row in pictures for picture in row))
    head = _TEXT * (1 + max(heading.count("\n") for heading in headings))
    scored = [_TEXT if any(cell.text for cell in row) else 0 for row in rows]
    foot = [below + (_TEXT if note else 0) for below, note in zip(scored, notes, strict=True)]
    high = [max(len(picture) for picture in row) for row in pictures]
    width = len(columns) * (wide + _GAP) + _GAP
    height = head + sum(high) + sum(foot) + _GAP * (len(rows) + 1)
    if max(width, height) >= _MOST_SIDE:
        raise InputError(f"a strip would have {width}×{height} pixels: ask for fewer --images, or for fewer runs")
    with figure_style():
        figure = Figure(figsize=((width + _SLACK) / DPI, (height + _SLACK) / DPI), dpi=DPI)

        def text(x: float, y: float, words: str, weight: str = "normal") -> None:
            """Draw centred text; y is the baseline, measured from the top."""
            style: dict[str, Any] = {"fontsize": 8, "fontweight": weight, "linespacing": 1.1, "parse_math": False}
            figure.text(x / width, 1 - y / height, words, ha="center", va="baseline", **style)

        for i, heading in enumerate(headings):
            text(_GAP + i * (wide + _GAP) + wide / 2, head, heading)
        top = head + _GAP
        for cells, shown, note, tall, below in zip(rows, pictures, notes, high, foot, strict=True):
            for i, (cell, picture) in enumerate(zip(cells, shown, strict=True)):
                H, W = picture.shape[:2]
                left = _GAP + i * (wide + _GAP) + (wide - W) // 2
                axes = figure.add_axes((left / width, 1 - (top + H) / height, W / width, H / height))
                axes.imshow(picture, interpolation="none", aspect="auto")
                axes.set_axis_off()
                if cell.text:
                    text(left + W / 2, top + tall + _TEXT - 8, cell.text, "bold" if cell.best else "normal")
            if note:
                text(width / 2, top + tall + below - 8, note)
            top += tall + below + _GAP
    return figure


def _enlarged(picture: Picture) -> Picture:
    factor = enlargement(*picture.shape[:2])
    return np.repeat(np.repeat(picture, factor, axis=0), factor, axis=1)
