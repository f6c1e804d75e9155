"""The plots of a search, by ``optuna.visualization.matplotlib``."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import optuna
from optuna.trial import FrozenTrial
from optuna.visualization.matplotlib import plot_optimization_history, plot_param_importances, plot_slice

from n2n.commands.plots import figure_style, file_names, save
from n2n.commands.search.results import best_trial, importances, short_names, varied
from n2n.commands.search.space import Search


def draw(trials: list[FrozenTrial], search: Search, folder: Path) -> list[Path]:
    """Write the plots, each as PNG and SVG: trials, importances, and slice_NAME for each parameter with different values.

    Args:
        trials: that have all ended.
        search: the section.
        folder: of the files.

    Returns:
        The files; none if no trial has a value.
    """
    if best_trial(trials, search) is None:
        return []
    names, keys = short_names(search), varied(trials, search)
    study = optuna.create_study(direction=search.direction)
    study.add_trials(trials)
    # Optuna draws with pyplot, which would open windows.
    plt.switch_backend("agg")
    with figure_style():
        plot_optimization_history(study, target_name=search.monitor)
        files = _save(folder / "trials")
        if importances(trials, search):
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            plot_param_importances(study, evaluator, keys, target_name=search.monitor)
            files += _save(folder / "importances")
        for key, name in zip(keys, file_names([names[key] for key in keys]), strict=True):
            plot_slice(study, [key], target_name=search.monitor)
            files += _save(folder / f"slice_{name}")
    return files


def _save(path: Path) -> list[Path]:
    figure = plt.gcf()
    figure.set_layout_engine("tight")
    files = save(figure, path)
    plt.close(figure)
    return files
