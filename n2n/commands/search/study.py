"""The Optuna study that the processes of a search share: its storage, whether it is this search's, its sampler and pruner."""

from __future__ import annotations

import contextlib
import inspect
import time
import warnings
from collections.abc import Iterator, Mapping
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
# The study's attributes: what it was made for, and whether all failed.
_MADE_FOR, _GIVEN_UP = "n2n", "given up"
# Seconds to wait for another process that has just made the study to say what for.
_PATIENCE = 10
# To open a database that another process may be making.
_ATTEMPTS = 6


def make_pruner(search: Search, epochs: int | None) -> BasePruner:
    """Build the pruner that the section names.

    Args:
        search: the section.
        epochs: of a trial, where that is known: what Hyperband divides.

    Raises:
        InputError: if there is no such pruner, or it takes other arguments.
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
        raise InputError(f"search.pruner: {name} cannot be made of {init_args}: {error}") from None
    return pruner


def make_sampler(search: Search, number: int, seed: int) -> BaseSampler:
    """Build the sampler of one trial.

    Each trial has a seed of its own, so that processes that share a study draw differently, and one process alone the same
    each time.

    Args:
        search: the section.
        number: of the trial; of a grid, that of the point.
        seed: of the search.
    """
    from optuna import samplers

    if search.sampler == "tpe":
        # So that processes at work at once do not all try the same.
        return samplers.TPESampler(seed=seed + number, constant_liar=True)
    sampler = samplers.RandomSampler(seed=seed + number)
    return samplers.PartialFixedSampler(search.grid_point(number), sampler) if search.sampler == "grid" else sampler


@contextlib.contextmanager
def storage_errors(url: str, more: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn what a storage raises, and ``more``, into InputError; the URL's password is not shown."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    shown = url.rpartition("@")[2] if "@" in url else url
    kinds: tuple[type[Exception], ...] = (SQLAlchemyError, StorageInternalError, *more)
    try:
        yield
    except kinds as error:
        reason = " ".join(str(error.__cause__ or error).split())[:300].replace(url, shown)
        raise InputError(f"the storage {shown} cannot be used: {reason}") from None


def open_storage(url: str) -> BaseStorage:
    """Open a storage: a URL of Optuna, or the path of a journal, which ends in ``.log``.

    Raises:
        InputError: if that cannot be.
    """
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.exc import SQLAlchemyError

    with storage_errors(url, (ImportError, OSError)):
        if "://" not in url and url.endswith(".log"):
            Path(url).parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(url))
        if "://" not in url:
            raise InputError(
                f"the storage is {url!r}: expected a URL such as sqlite:///study.db or postgresql://..., or a path that ends "
                "in .log"
            )
        if not url.startswith("sqlite"):
            return optuna.storages.get_storage(url)
        path = url.partition("///")[2]
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(_ATTEMPTS):
            try:
                # Other processes may be writing: wait for them instead of failing after SQLite's 5 s.
                return RDBStorage(url, {"connect_args": {"timeout": 60}})
            except SQLAlchemyError:
                # Another process may be making the tables at this moment.
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.5)
        raise AssertionError


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Name what differs; None if nothing does."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if not names:
        return None
    # The section's own fields first: another space brings other options with it.
    name = min(names, key=lambda name: not name.startswith("search."))
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{name} was {before.get(name, 'not there')} and is {now.get(name, 'not there')} now{more}"


def _made_for(study: Study) -> dict[str, Any] | None:
    """Return what a study was made for, waiting for a process that has just made it."""
    deadline = time.monotonic() + _PATIENCE
    while _MADE_FOR not in study.user_attrs:
        if study.get_trials(deepcopy=False) or time.monotonic() > deadline:
            return None
        time.sleep(0.2)
    content: dict[str, Any] = study.user_attrs[_MADE_FOR]
    return content


def open_study(storage: BaseStorage, name: str, search: Search, identity: dict[str, Any], folder: Path) -> Study:
    """Open the study, or make it; whoever makes it says what for.

    Args:
        storage: where it is kept.
        name: of the study.
        search: the section.
        identity: what a study must have been made for, plain values.
        folder: of the trials.

    Raises:
        InputError: if it was made for something else, or the folder has trials of another one.
    """
    import json

    import optuna

    # As it comes back from the storage.
    identity = json.loads(json.dumps(identity))
    exists = name in optuna.get_all_study_names(storage)
    if exists and _is_void(study := optuna.load_study(study_name=name, storage=storage)):
        _begin_anew(study, storage, folder)
        exists = False
    if not exists and any(folder.glob("trial_*")) and name not in optuna.get_all_study_names(storage):
        raise InputError(
            f"{folder} has trials, and the study {name} is not in the storage: give another --name, or remove the folder"
        )
    try:
        study = optuna.create_study(study_name=name, storage=storage, direction=search.direction)
        study.set_user_attr(_MADE_FOR, identity)
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=storage)
    before = _made_for(study)
    if before is None:
        raise InputError(f"the study {name} in the storage was not made by n2n search: give another --study")
    if difference := _difference(before, identity):
        raise InputError(f"the study {name} was made for something else: {difference}; give another --name")
    return study


def _is_void(study: Study) -> bool:
    """Whether the study was given up, and nobody got further with it meanwhile: it may as well begin anew."""
    from optuna.trial import TrialState

    failed = all(trial.state == TrialState.FAIL for trial in study.get_trials(deepcopy=False))
    return failed and study.user_attrs.get(_GIVEN_UP, False)


def give_up(study: Study) -> None:
    """Note that all trials failed: the next start, which may have other options, begins anew."""
    study.set_user_attr(_GIVEN_UP, True)


def _begin_anew(study: Study, storage: BaseStorage, folder: Path) -> None:
    import shutil

    import optuna

    for trial in study.get_trials(deepcopy=False):
        shutil.rmtree(folder / f"trial_{trial.number:04d}", ignore_errors=True)
    optuna.delete_study(study_name=study.study_name, storage=storage)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from logging, and from warning that parts of it are experimental."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
