"""What a search leaves: the best configuration, a table of the trials, and how much each parameter matters."""

from __future__ import annotations

import csv
import io
import shlex
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from n2n.commands.search.space import Search, Value, text
from n2n.commands.search.trial import CONFIG, EPOCH, MINUTES, REASON
from n2n.system.files import write_text

# Trials in the table of search.md.
_SHOWN = 10


def short_names(keys: list[str]) -> dict[str, str]:
    """Return for each key its last part, or as many parts as tell it from the others."""

    def tail(key: str, parts: int) -> str:
        return ".".join(key.split(".")[-parts:])

    def enough(key: str) -> str:
        for parts in range(1, key.count(".") + 1):
            if sum(tail(other, parts) == tail(key, parts) for other in keys) == 1:
                return tail(key, parts)
        return key

    return {key: enough(key) for key in keys}


def show(value: Value) -> str:
    """Return a parameter's value for people: a class without its package, a number with four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    shown = text(value)
    return shown.rpartition(".")[2] if shown.replace(".", "").isidentifier() else shown


def best_trial(study: optuna.Study, search: Search) -> FrozenTrial | None:
    """Return the best finished trial, the first of equals; None if there is none."""
    best: FrozenTrial | None = None
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        assert trial.value is not None
        if trial.number < search.trials and search.better(trial.value, best.value if best else None):
            best = trial
    return best


def value_of(trial: FrozenTrial, search: Search) -> float | None:
    """Return a trial's best monitored figure, also of one that was pruned."""
    return search.best_of(trial.intermediate_values)


def _best_epoch(trial: FrozenTrial) -> int | None:
    """Return the epoch of a trial's value, from 1 as in all tables; None if there is none."""
    epoch = trial.user_attrs.get(EPOCH)
    return None if epoch is None else int(epoch) + 1


def best_config(trial: FrozenTrial, common: dict[str, Any]) -> str:
    """Return the configuration of a trial as ``n2n fit --config`` takes it.

    Args:
        trial: that ran.
        common: what all trials have in common, as it was before the search set what it needs.
    """
    config: dict[str, Any] = yaml.safe_load(trial.user_attrs[CONFIG])
    for name in ("enable_progress_bar", "enable_model_summary", "devices"):
        config["trainer"][name] = common["trainer"][name]
    config["name"] = f"{common['name']}/best"
    config.pop("ckpt_path", None)
    return yaml.safe_dump(config, sort_keys=False)


def table(study: optuna.Study, search: Search) -> str:
    """Return all trials that began, as CSV."""
    keys = [parameter.key for parameter in search.parameters]
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    out.writerow(["number", "state", "value", *keys, "best epoch", "epochs", "minutes", "reason"])
    for trial in study.get_trials(deepcopy=False):
        if trial.number >= search.trials or not trial.params:
            continue
        attributes, value = trial.user_attrs, value_of(trial, search)
        minutes = attributes.get(MINUTES)
        out.writerow(
            [
                trial.number,
                trial.state.name.lower(),
                "" if value is None else repr(value),
                *(text(trial.params[key]) if key in trial.params else "" for key in keys),
                _best_epoch(trial),
                len(trial.intermediate_values),
                "" if minutes is None else f"{minutes:.2f}",
                attributes.get(REASON),
            ]
        )
    return file.getvalue()


def importances(study: optuna.Study, search: Search) -> dict[str, float]:
    """Return the share of each parameter in what the best trials have in common, the largest first; {} if none can be said.

    By PED-ANOVA (Watanabe et al. 2023), which compares the best tenth of the trials with all of them and needs no further
    package, as fANOVA does.
    """
    trials = [t for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if t.number < search.trials]
    varied = [p.key for p in search.parameters if len({text(t.params[p.key]) for t in trials if p.key in t.params}) > 1]
    if len({trial.value for trial in trials}) < 2 or not varied:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)
    except (ValueError, RuntimeError):
        # It knows when too few trials say nothing.
        return {}
    return {key: float(share) for key, share in found.items()}


def write_cheap(study: optuna.Study, search: Search, common: dict[str, Any], folder: Path) -> None:
    """Write what is written after each trial: trials.csv and best.yaml."""
    write_text(folder / "trials.csv", table(study, search))
    if (best := best_trial(study, search)) is not None:
        write_text(folder / "best.yaml", best_config(best, common))


def report(study: optuna.Study, search: Search, name: str, folder: Path, plots: list[Path]) -> str:
    """Return search.md: the best trials, the importances, and the command that trains the best."""
    keys = [parameter.key for parameter in search.parameters]
    names = short_names(keys)
    trials = [t for t in study.get_trials(deepcopy=False) if t.number < search.trials]
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
        epoch, minutes = _best_epoch(trial), trial.user_attrs.get(MINUTES, 0.0)
        lines.append(" | ".join([f"| {trial.number}", f"{trial.value:.4f}", *values, str(epoch), f"{minutes:.1f} |"]))
    shares = importances(study, search)
    lines += ["", "Importance of each parameter (PED-ANOVA: what sets the best tenth of the trials apart):", ""]
    lines += [f"- {key}: {share:.2f}" for key, share in shares.items()] or ["- too few different trials to say"]
    if done:
        lines += ["", f"Train the best: `n2n fit --config {shlex.quote(str(folder / 'best.yaml'))}`"]
    failed = [f"- trial {t.number}: {t.user_attrs.get(REASON)}" for t in trials if t.state == TrialState.FAIL]
    lines += ["", "Failed:", "", *failed] if failed else []
    lines += ["", *(f"![{path.stem}]({path.name})" for path in plots if path.suffix == ".png")] if plots else []
    return "\n".join(lines) + "\n"
