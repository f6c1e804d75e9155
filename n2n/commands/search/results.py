"""The results of a search: the best configuration, a table of the trials, and the importance of each parameter."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from n2n.commands.search.attempts import REASON
from n2n.commands.search.space import Search, Value, text
from n2n.commands.search.trial import CONFIG, MINUTES
from n2n.system.files import write_text
from n2n.system.text import command_line, without_package
from n2n.system.yaml_files import dump_yaml

# Trials in the table of search.md.
_SHOWN = 10


def short_names(search: Search) -> dict[str, str]:
    """Return the last part of each parameter's key, where it is unique, or else the key."""
    last = [key.rpartition(".")[2] for key in search.space]
    return {key: name if last.count(name) == 1 else key for key, name in zip(search.space, last, strict=True)}


def show(value: Value) -> str:
    """Return a parameter's value for people: a class without its package, a number with four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return without_package(text(value))


def best_trial(trials: list[FrozenTrial], search: Search) -> FrozenTrial | None:
    """Return the best completed trial, the first of equals; None if there is none."""
    completed = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return (max if search.direction == "maximize" else min)(completed, key=lambda t: t.value or 0.0, default=None)


def value_of(trial: FrozenTrial, search: Search) -> float | None:
    """Return a trial's best monitored figure, also of one that was pruned; None if it has none."""
    return search.best_of(trial.intermediate_values.values())


def _best_epoch(trial: FrozenTrial, search: Search) -> int | None:
    """Return the epoch of a trial's value, counted from 1; None if there is none."""
    value = value_of(trial, search)
    return min((epoch + 1 for epoch, known in trial.intermediate_values.items() if known == value), default=None)


def _best_config(trial: FrozenTrial, common: dict[str, Any]) -> str:
    """Return the configuration of a trial for ``n2n fit --config``, with the display and devices of ``common``."""
    config: dict[str, Any] = yaml.safe_load(trial.user_attrs[CONFIG])
    for name in ("enable_progress_bar", "enable_model_summary", "devices"):
        config["trainer"][name] = common["trainer"][name]
    config["name"] = f"{common['name']}/best"
    config.pop("ckpt_path", None)
    return dump_yaml(config)


def _table(trials: list[FrozenTrial], search: Search) -> str:
    """Return the trials that have begun, as CSV."""
    keys = list(search.space)
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    out.writerow(["number", "state", "value", *keys, "best epoch", "epochs", "minutes", "reason"])
    for trial in trials:
        if not trial.params:
            continue
        value, minutes = value_of(trial, search), trial.user_attrs.get(MINUTES)
        out.writerow(
            [
                trial.number,
                trial.state.name.lower(),
                "" if value is None else repr(value),
                *(text(trial.params[key]) if key in trial.params else "" for key in keys),
                _best_epoch(trial, search),
                len(trial.intermediate_values),
                "" if minutes is None else f"{minutes:.2f}",
                trial.user_attrs.get(REASON),
            ]
        )
    return file.getvalue()


def varied(trials: list[FrozenTrial], search: Search) -> list[str]:
    """Return the keys of the parameters that have different values in the completed trials."""
    completed = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return [key for key in search.space if len({text(t.params[key]) for t in completed if key in t.params}) > 1]


def importances(trials: list[FrozenTrial], search: Search) -> dict[str, float]:
    """Return the importance of each parameter, the largest first; {} if the trials are too few.

    PED-ANOVA (Watanabe et al. 2023) compares the best tenth of the trials with all of them. Unlike fANOVA, it needs no further
    package.
    """
    completed = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    params = varied(trials, search)
    if len({trial.value for trial in completed}) < 2 or not params:
        return {}
    study = optuna.create_study(direction=search.direction)
    study.add_trials(completed)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=params)
    except (ValueError, RuntimeError):
        # Too few trials.
        return {}
    return {key: float(share) for key, share in found.items()}


def write_tables(trials: list[FrozenTrial], search: Search, common: dict[str, Any], folder: Path) -> None:
    """Write trials.csv and best.yaml, as after each trial."""
    write_text(folder / "trials.csv", _table(trials, search))
    if (best := best_trial(trials, search)) is not None:
        write_text(folder / "best.yaml", _best_config(best, common))


def report(trials: list[FrozenTrial], search: Search, name: str, folder: Path, plots: list[Path]) -> str:
    """Return search.md: the best trials, the importances, and the command that trains the best."""
    keys, names = list(search.space), short_names(search)
    count = {state: sum(t.state == state for t in trials) for state in TrialState}
    done = [t for t in trials if t.state == TrialState.COMPLETE]
    done.sort(key=lambda t: t.value or 0.0, reverse=search.direction == "maximize")
    lines = [f"# Search {name}", ""]
    lines.append(
        f"{search.sampler}, {len(trials)} of {search.trials} trials: {count[TrialState.COMPLETE]} finished, "
        f"{count[TrialState.PRUNED]} pruned, {count[TrialState.FAIL]} failed. "
        f"{search.monitor} {search.direction}d, the best epoch of each trial; one seed."
    )
    lines += ["", " | ".join(["| trial", search.monitor, *names.values(), "best epoch", "minutes |"])]
    lines.append("|---" * (len(keys) + 4) + "|")
    for trial in done[:_SHOWN]:
        values = [show(trial.params[key]) for key in keys]
        epoch, minutes = _best_epoch(trial, search), trial.user_attrs.get(MINUTES, 0.0)
        lines.append(" | ".join([f"| {trial.number}", f"{trial.value:.6g}", *values, str(epoch), f"{minutes:.1f} |"]))
    shares = importances(trials, search)
    lines += ["", "Importance of each parameter (PED-ANOVA, what distinguishes the best tenth of the trials):", ""]
    lines += [f"- {key}: {share:.2f}" for key, share in shares.items()] or ["- too few different trials"]
    if done:
        lines += ["", f"Train the best: `{command_line(['n2n', 'fit', '--config', str(folder / 'best.yaml')])}`"]
    failed = [f"- trial {t.number}: {t.user_attrs.get(REASON)}" for t in trials if t.state == TrialState.FAIL]
    lines += ["", "Failed:", "", *failed] if failed else []
    lines += ["", *(f"![{path.stem}]({path.name})" for path in plots if path.suffix == ".png")] if plots else []
    return "\n".join(lines) + "\n"
