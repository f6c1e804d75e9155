"""A plot of a comparison: PSNR over the minutes of training and over the number of parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from n2n.commands.compare.table import Row, psnr_estimated
from n2n.commands.plots import figure_style, legend, save, shortened, style

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

# Figures, the labels of their axes, and their conversion to PSNR. The first figure that a run has is plotted.
_FIGURES: tuple[tuple[str, str, Callable[[float], float]], ...] = (
    ("val/psnr_per_image", "PSNR per image, dB", float),
    ("val/mse_blind", "PSNR over all pixels, estimated, dB", psnr_estimated),
)


def plot(rows: Sequence[Row], path: Path) -> list[Path]:
    """Plot the rows of the table to ``path`` with the suffixes .png and .svg; return the files, none if no run has a PSNR."""
    runs = [run for row in rows for _, run in row.runs]
    found = next((figure for figure in _FIGURES if any(run.curve(figure[0]) for run in runs)), None)
    if found is None:
        return []
    tag, title, psnr = found
    with figure_style():
        from matplotlib.figure import Figure
        from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

        figure = Figure(figsize=(10, 4), layout="constrained")
        over_time, over_size = figure.subplots(1, 2, sharey=True)
        bests: list[float] = []
        sizes: list[float] = []
        lines: dict[str, Line2D] = {}
        for number, (row, name) in enumerate(zip(rows, shortened([row.label for row in rows]), strict=True)):
            colour, line = style(number)
            for _, run in row.runs:
                rows_of_run = [row for row in run.rows if tag in row]
                if not rows_of_run:
                    continue
                scores, minutes = [psnr(row[tag]) for row in rows_of_run], [row["minutes"] for row in rows_of_run]
                bests.append(psnr(run.best()[1].get(tag, math.nan)))
                # A line of one point would be invisible.
                marker = "o" if len(scores) < 12 else ""
                (drawn,) = over_time.plot(minutes, scores, color=colour, linestyle=line, marker=marker, markersize=3)
                lines.setdefault(name, drawn)  # the legend shows the first of several seeds
                if run.parameters is not None:
                    sizes.append(run.parameters)
                    over_size.plot([run.parameters], [bests[-1]], "o", color=colour)
        over_time.set(xlabel="minutes of training", ylabel=title)
        over_size.set(xlabel="parameters", title="best epoch")
        # Over less than about a decade, a logarithmic axis would have too few labels.
        if sizes and max(sizes) > 8 * min(sizes):
            over_size.set_xscale("log")
            over_size.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            over_size.xaxis.set_minor_formatter(NullFormatter())
        over_size.xaxis.set_major_formatter(EngFormatter(sep=""))
        # Show 1.5 dB below the best epoch of the worst run: the first epochs would hide the differences between networks.
        if finite := [best for best in bests if math.isfinite(best)]:
            over_time.set_ylim(bottom=max(over_time.get_ylim()[0], min(finite) - 1.5))
        legend(figure, list(lines.values()), list(lines), "outside right center")
        return save(figure, path)
