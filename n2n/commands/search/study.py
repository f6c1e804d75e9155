"""The Optuna study of a search: whether it belongs to this search, its sampler and its pruner."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from n2n.errors import InputError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage

    from n2n.commands.search.space import Search

PRUNERS = {
    "none": "NopPruner",
    "median": "MedianPruner",
    "hyperband": "HyperbandPruner",
    "halving": "SuccessiveHalvingPruner",
}
# The study's user attributes: the settings that all its trials share, and whether the search gave up since all failed.
_SETTINGS, _GIVEN_UP = "n2n search", "given up"


def make_pruner(search: Search, epochs: int | None) -> BasePruner:
    """Build the pruner that the section names.

    Args:
        search: the section.
        epochs: of a trial, which Hyperband divides into its brackets; None or less than 1 if unknown.

    Raises:
        InputError: if there is no such pruner, or it does not accept the arguments.
    """
    from optuna import pruners

    given: dict[str, Any] = search.pruner if isinstance(search.pruner, dict) else {"class_path": search.pruner}
    name = PRUNERS.get(str(given.get("class_path")), str(given.get("class_path")))
    kind, init_args = getattr(pruners, name.removeprefix("optuna.pruners."), None), given.get("init_args") or {}
    if not inspect.isclass(kind) or not issubclass(kind, pruners.BasePruner) or inspect.isabstract(kind):
        raise InputError(
            f"search.pruner is {search.pruner!r}: expected one of {', '.join(PRUNERS)}, or class_path and init_args of a "
            "class of optuna.pruners"
        )
    if kind is pruners.HyperbandPruner and epochs is not None and epochs > 0:
        init_args = {"max_resource": epochs} | init_args
    try:
        pruner: BasePruner = kind(**init_args)
    except (TypeError, ValueError) as error:
        raise InputError(f"search.pruner: {name} does not accept {init_args}: {error}") from None
    return pruner


def make_sampler(search: Search, trial: int, seed: int) -> BaseSampler:
    """Build the sampler of one trial.

    Each trial has its own seed. So processes that share a study draw different values, and one process draws the same values
    each time.

    Args:
        search: the section.
        trial: number of the trial; in a grid, of the point.
        seed: of the search.
    """
    from optuna import samplers

    if search.sampler == "tpe":
        # constant_liar: processes that work at the same time do not all try the same region.
        return samplers.TPESampler(seed=seed + trial, constant_liar=True)
    sampler = samplers.RandomSampler(seed=seed + trial)
    return samplers.PartialFixedSampler(search.grid_point(trial), sampler) if search.sampler == "grid" else sampler


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Name a setting that differs; None if there is none."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if not names:
        return None
    # The section's own fields first: another space changes other settings, too.
    name = min(names, key=lambda name: not name.startswith("search."))
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{name} was {before.get(name, 'not set')} and is {now.get(name, 'not set')} now{more}"


def open_study(storage: BaseStorage, name: str, search: Search, settings: dict[str, Any], folder: Path) -> Study:
    """Open the study of a search, or create it.

    Args:
        storage: that has it.
        name: of the study.
        search: the section.
        settings: that all trials of the study must share.
        folder: of the trials.

    Raises:
        InputError: if the study has other settings, or the folder has trials of another study.
    """
    import optuna

    # As they come back from the storage.
    settings = json.loads(json.dumps(settings))
    has_trials = any(folder.glob("trial_*"))
    if name not in optuna.get_all_study_names(storage):
        if has_trials:
            raise InputError(
                f"{folder} has trials, and the study {name} is not in the storage: give another --name, or remove the folder"
            )
    elif _is_given_up(study := optuna.load_study(study_name=name, storage=storage)):
        for trial in folder.glob("trial_*"):
            shutil.rmtree(trial, ignore_errors=True)
        optuna.delete_study(study_name=name, storage=storage)
    study = optuna.create_study(study_name=name, storage=storage, direction=search.direction, load_if_exists=True)
    before = study.user_attrs.get(_SETTINGS)
    if before is None and (study.get_trials(deepcopy=False) or study.direction.name.lower() != search.direction):
        raise InputError(f"the study {name} in the storage was not created by this n2n search: give another --study")
    if before is None:
        study.set_user_attr(_SETTINGS, settings)
    elif difference := _difference(before, settings):
        raise InputError(f"the study {name} has other settings: {difference}; give another --name")
    return study


def give_up(study: Study) -> None:
    """Record that all trials failed. The next start, which may have other options, begins a new study."""
    study.set_user_attr(_GIVEN_UP, True)


def _is_given_up(study: Study) -> bool:
    """Whether the search gave up, and no other process got further since."""
    failed = all(trial.state.name == "FAIL" for trial in study.get_trials(deepcopy=False))
    return failed and study.user_attrs.get(_GIVEN_UP, False)
