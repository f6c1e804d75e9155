"""PSNR of the networks of a comparison, over the minutes of training and over their parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from n2n.compare.table import Row
from n2n.plots import look, save, style

# What is plotted: the first of these that a run has, and the name of its axis.
_FIGURES = {
    "val/psnr_per_image": "PSNR per image, dB",
    "val/psnr_blind": "PSNR over all pixels, estimated, dB",
}

# Decibels that are shown below the best epoch of the worst run.
_BELOW = 1.5


def plot(rows: Sequence[Row], path: Path) -> list[Path]:
    """Plot a comparison, as PNG and SVG.

    Args:
        rows: of the table.
        path: of the files, without suffix.

    Returns:
        The files; none if no run has a PSNR.
    """
    runs = [run for row in rows for _, run in row.runs]
    tag = next((tag for tag in _FIGURES if any(tag in run.curves for run in runs)), None)
    if tag is None:
        return []
    with look():
        from matplotlib.figure import Figure
        from matplotlib.ticker import EngFormatter

        figure = Figure(figsize=(10, 4), layout="constrained")
        over_time, over_size = figure.subplots(1, 2, sharey=True)
        for number, row in enumerate(rows):
            colour, line = style(number)
            label: str | None = row.label
            for _, run in row.runs:
                if (curve := run.curves.get(tag)) is None:
                    continue
                # Of several seeds one stands in the legend.
                over_time.plot(curve.minutes, curve.values, color=colour, linestyle=line, label=label)
                label = None
                size = run.hyperparameters.get("parameters")
                if isinstance(size, int | float):
                    over_size.plot([size], [max(curve.values)], "o", color=colour)
        over_time.set(xlabel="minutes of training", ylabel=_FIGURES[tag])
        over_size.set(xlabel="parameters", xscale="log", title="best epoch")
        for axis in (over_size.xaxis.set_major_formatter, over_size.xaxis.set_minor_formatter):
            axis(EngFormatter(sep=""))
        # The first epochs would squeeze what is to be compared.
        worst = min(max(run.curves[tag].values) for run in runs if tag in run.curves)
        if over_time.get_ylim()[0] < worst - _BELOW:
            over_time.set_ylim(bottom=worst - _BELOW)
        figure.legend(loc="outside right center")
        return save(figure, path)
