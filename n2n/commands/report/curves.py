"""The figure of curves: loss and PSNR over epochs, of one run or several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from n2n.commands.plots import figure_style, legend, style
from n2n.commands.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In inches: the size of one set of axes; the widths of a line and a letter in the legend.
_WIDTH, _HEIGHT, _LEGEND, _LETTER = 3.2, 2.6, 0.5, 0.066
# Ratio of the largest to the smallest value above which the axis is logarithmic.
_LOG_FROM = 10.0
# The loss of the first epoch is a mean from untrained to trained. It is left out of the axis if it lies this many times the
# range of all other values above them.
_OFF_SCALE = 2.0
# PSNRs that differ by less, in dB, are drawn as one line.
_ALIKE = 0.01


class _Plot(NamedTuple):
    """A set of axes. The first of ``figures`` that a run has is drawn, and the first of ``noisy`` for the noisy input."""

    title: str
    unit: str
    figures: tuple[str, ...]
    noisy: tuple[str, ...] = ()


_PLOTS = (
    _Plot("Training loss", "loss", ("train/loss",)),
    _Plot("Validation loss", "loss", ("val/loss",)),
    _Plot("PSNR, mean over images", "PSNR (dB)", ("val/psnr_per_image",), ("val/psnr_noisy_per_image",)),
    _Plot(
        "PSNR over all pixels", "PSNR (dB)", ("val/psnr", "val/psnr_blind"), ("val/psnr_noisy", "val/psnr_noisy_blind")
    ),
)


def curves_figure(runs: Sequence[Run], labels: Sequence[str]) -> Figure:
    """Draw training and validation loss and both PSNRs over epochs, all runs in the same axes, with a legend of labels.

    The noisy input's PSNR is a dotted line. Without clean images, the PSNR estimated from pairs is drawn with a band, its 95 %
    interval.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    plots = [plot for plot in _PLOTS if any(_chosen(run, plot.figures) for run in runs)]
    columns = 2 if len(plots) == 4 else max(1, len(plots))
    rows = max(1, -(-len(plots) // columns))
    beside = _LEGEND + _LETTER * max(len("95 % interval"), *map(len, labels))
    with figure_style():
        figure = Figure(figsize=(_WIDTH * columns + beside, _HEIGHT * rows), layout="constrained")
        for i, plot in enumerate(plots):
            axes = figure.add_subplot(rows, columns, i + 1)
            _draw(axes, plot, runs)
            axes.set_xlabel("epoch")
        lines = map(style, range(len(runs)))
        handles: list[Line2D | Patch] = [Line2D([], [], color=colour, linestyle=line) for colour, line in lines]
        names = list(labels)
        if any(_chosen(run, plot.noisy) for run in runs for plot in plots):
            handles.append(Line2D([], [], color="0.4", linestyle="dotted"))
            names.append("noisy input")
        if any(_chosen(run, plot.figures) == "val/psnr_blind" for run in runs for plot in plots):
            handles.append(Patch(color="0.4", alpha=0.2, linewidth=0))
            names.append("95 % interval")
        legend(figure, handles, names, "outside right upper", frameon=False)
    return figure


def _chosen(run: Run, tags: Sequence[str]) -> str | None:
    """Return the first of the tags that the run has a value of."""
    return next((tag for tag in tags if any(map(math.isfinite, run.curve(tag).values()))), None)


def _line(axes: Axes, values: dict[int, float], colour: str, kind: Any) -> None:
    """Draw a curve, with gaps for missing values; mark its points if they are few."""
    marker = "o" if len(values) < 12 else ""
    finite = [value if math.isfinite(value) else math.nan for value in values.values()]
    axes.plot(list(values), finite, color=colour, linestyle=kind, marker=marker, markersize=3)


def _draw(axes: Axes, plot: _Plot, runs: Sequence[Run]) -> None:
    from matplotlib.ticker import MaxNLocator

    noisy: list[tuple[float, str]] = []
    drawn: list[float] = []
    later: list[float] = []
    estimated = False
    for number, run in enumerate(runs):
        colour, kind = style(number)
        tag = _chosen(run, plot.figures)
        if tag is None:
            continue
        curve = run.curve(tag)
        # A validation without a reported PSNR is a gap.
        validated = run.curve("val/mse_blind") if tag == "val/psnr_blind" else {}
        _line(axes, {epoch: curve.get(epoch, math.nan) for epoch in sorted({*curve, *validated})}, colour, kind)
        drawn += [value for value in curve.values() if math.isfinite(value)]
        # A run of one epoch alone must stay on the axis.
        later += [value for epoch, value in curve.items() if (epoch > 1 or len(curve) == 1) and math.isfinite(value)]
        if tag == "val/psnr_blind":
            estimated = True
            _band(axes, run, colour)
        if (base := _chosen(run, plot.noisy)) is not None:
            noisy.append((list(run.curve(base).values())[-1], colour))
    if noisy and max(noisy)[0] - min(noisy)[0] < _ALIKE:  # validated on the same images: one line for all
        noisy = [(noisy[0][0], "0.4")]
    for value, colour in noisy:
        axes.axhline(value, color=colour, linestyle="dotted")
    title = plot.title + (" (estimated)" if estimated else "")
    if plot.unit == "loss" and later and max(drawn) - max(later) > _OFF_SCALE * (max(later) - min(later)):
        margin = 0.1 * (max(later) - min(later)) or 0.1 * abs(max(later)) or 1.0
        axes.set_ylim(min(later) - margin, max(later) + margin)
        title += " (first epoch off the scale)"
    elif plot.unit == "loss" and drawn and min(drawn) > 0 and max(drawn) / min(drawn) > _LOG_FROM:
        axes.set_yscale("log")
    axes.set_title(title)
    axes.set_ylabel(plot.unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, min_n_ticks=1))


def _band(axes: Axes, run: Run, colour: str) -> None:
    low, high = (run.curve(f"val/psnr_blind_{side}") for side in ("low", "high"))
    epochs = [epoch for epoch in low if math.isfinite(low[epoch] + high.get(epoch, math.nan))]
    bottom, top = ([side[epoch] for epoch in epochs] for side in (low, high))
    axes.fill_between(epochs, bottom, top, color=colour, alpha=0.15, linewidth=0)
