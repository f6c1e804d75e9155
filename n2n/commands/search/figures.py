"""The plots of a search: its course, the importances, and the value over each parameter."""

from __future__ import annotations

from pathlib import Path

import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState

from n2n.commands.plots import file_names, look, save
from n2n.commands.search.results import importances, short_names, show, value_of
from n2n.commands.search.space import Choices, Range, Search, text

_COLOURS = {TrialState.COMPLETE: "tab:blue", TrialState.PRUNED: "tab:gray"}


def _points(axes: Axes, trials: list[FrozenTrial], search: Search, x: dict[int, float]) -> None:
    """Scatter the trials' values, the pruned in grey."""
    for state, colour in _COLOURS.items():
        of_state = [t for t in trials if t.state == state]
        if of_state:
            values = [value_of(t, search) or 0.0 for t in of_state]
            label = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned"}[state]
            axes.scatter([x[t.number] for t in of_state], values, s=18, color=colour, label=label, alpha=0.8)


def _course(trials: list[FrozenTrial], search: Search) -> Figure:
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    _points(axes, trials, search, {t.number: float(t.number) for t in trials})
    best: float | None = None
    numbers: list[int] = []
    course: list[float] = []
    for trial in trials:
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            best = trial.value if best is None or search.better(trial.value, best) else best
            numbers.append(trial.number)
            course.append(best)
    axes.step(numbers, course, where="post", color="tab:red", label="best so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="trial", ylabel=search.monitor)
    axes.legend()
    return figure


def _importances(shares: dict[str, float], names: dict[str, str]) -> Figure:
    figure = Figure(figsize=(6, 0.8 + 0.4 * len(shares)), layout="constrained")
    axes = figure.add_subplot()
    keys = list(reversed(shares))
    axes.barh([names[key] for key in keys], [shares[key] for key in keys], color="tab:blue")
    axes.set(xlabel="importance (PED-ANOVA)", xlim=(0, 1))
    return figure


def _slice(trials: list[FrozenTrial], search: Search, parameter: Choices | Range, name: str) -> Figure:
    figure = Figure(figsize=(4.5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    trials = [t for t in trials if parameter.key in t.params]
    if isinstance(parameter, Choices):
        place = {text(value): i for i, value in enumerate(parameter.values)}
        _points(axes, trials, search, {t.number: float(place[text(t.params[parameter.key])]) for t in trials})
        axes.set_xticks(range(len(place)), [show(value) for value in parameter.values])
        axes.set_xlim(-0.5, len(place) - 0.5)
    else:
        _points(axes, trials, search, {t.number: float(t.params[parameter.key]) for t in trials})
        axes.set_xscale("log" if parameter.log else "linear")
    axes.set(xlabel=name, ylabel=search.monitor)
    return figure


def draw(study: optuna.Study, search: Search, folder: Path) -> list[Path]:
    """Write the plots, each as PNG and SVG; returns the files."""
    names = short_names([parameter.key for parameter in search.parameters])
    trials = [t for t in study.get_trials(deepcopy=False, states=tuple(_COLOURS)) if value_of(t, search) is not None]
    if not trials:
        return []
    with look():
        figures = {"trials": _course(trials, search)}
        if shares := importances(study, search):
            figures["importances"] = _importances(shares, names)
        for parameter, name in zip(search.parameters, file_names(list(names.values())), strict=True):
            figures[f"slice_{name}"] = _slice(trials, search, parameter, names[parameter.key])
    return [file for name, figure in figures.items() for file in save(figure, folder / name)]
