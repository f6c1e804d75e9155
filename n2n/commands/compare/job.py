"""A training of a comparison, and its progress."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from n2n.commands.runs import Run
from n2n.errors import InputError
from n2n.system.config_files import differences as config_differences

# Options of the Trainer that may change when a run is resumed, because they do not change what it learns.
_FREE = {"default_root_dir", "accelerator", "strategy", "logger", "precision"}
_FREE |= {"enable_progress_bar", "enable_model_summary", "enable_checkpointing", "profiler", "max_epochs", "max_time"}


@dataclass(frozen=True, eq=False)
class Job:
    """A training of a comparison."""

    label: str  # in the table; the same for all seeds
    seed: int | None  # None unless seeds are compared
    args: tuple[str, ...]  # of n2n fit
    folder: Path
    config: dict[str, Any]  # the whole configuration, as it will be saved

    def progress(self) -> tuple[Run | None, bool]:
        """Return the run, or None if it has not begun, and whether it is done. Epochs beyond the budget are cut off.

        Raises:
            InputError: if the folder holds a run of another configuration, or one whose time was not counted.
        """
        try:
            if not (self.folder / "config.yaml").is_file():
                return None, False
        except OSError as error:
            raise InputError(f"{self.folder} cannot be read ({error.strerror}): give another --name") from None
        try:
            run = Run.read(self.folder)
        except InputError:  # interrupted before its first epoch ended
            return None, False
        differing = list(differences(run.config, self.config))
        advice = "give the comparison another --name, or remove that folder"
        if differing:
            raise InputError(
                f"{self.folder} holds a run with another configuration ({'; '.join(differing[:3])}): {advice}"
            )
        before, now = run.config.get("trainer", {}), self.config["trainer"]
        epochs = now["max_epochs"]
        if epochs is not None and 0 < epochs < run.epochs:
            return run.until(epochs), True
        limit, limit_before = seconds(now["max_time"]), seconds(before.get("max_time"))
        if limit < limit_before and run.epochs:
            if run.minutes * 60 >= limit:
                within = [row["epoch"] for row in run.rows if row["minutes"] * 60 <= limit]
                return run.until(int(max(within, default=run.rows[0]["epoch"]))), True
            if limit_before == math.inf:
                # Its checkpoint does not contain the time it has trained, so Lightning would count from zero.
                raise InputError(f"{self.folder} holds a run that was trained without --minutes: {advice}")
        longer = limit > limit_before or _epochs(now) > _epochs(before)
        return run, run.finished and not longer


def _epochs(trainer: dict[str, Any]) -> float:
    """Return the budget of epochs, which may be infinite."""
    epochs = trainer.get("max_epochs")
    return math.inf if epochs in (None, -1) else float(epochs)


def seconds(max_time: Any) -> float:
    """Convert Lightning's ``max_time``, days:hours:minutes:seconds or a mapping of these, to seconds; None is infinite."""
    if max_time is None:
        return math.inf
    try:
        if isinstance(max_time, str):
            max_time = dict(zip(("days", "hours", "minutes", "seconds"), map(int, max_time.split(":")), strict=True))
        return timedelta(**max_time).total_seconds()
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"max_time is {max_time}: expected days:hours:minutes:seconds, such as 00:00:10:00") from None


def _differences(saved: Any, asked: Any, key: str) -> Iterator[str]:
    """Yield a line for each difference between two parts of configurations."""
    for name, before, now in config_differences(saved, asked, key):
        # The channels are set to those of the images when training starts.
        if name != "model.backbone.init_args.channels":
            yield f"{name} was {before} and is now {now}"


def _class_of(spec: Any) -> tuple[Any, str]:
    """Return the class, or function, that a part of a configuration names, and its name; None if it names none."""
    module, _, name = str(spec["class_path"]).rpartition(".") if isinstance(spec, dict) else ("", "", "")
    return getattr(importlib.import_module(module), name, None) if module else None, name


def anneals(spec: Any) -> bool:
    """Return whether a loss depends on the length of the training: then its class has an attribute ``progress``."""
    return hasattr(_class_of(spec)[0], "progress")


def needs_end(config: dict[str, Any]) -> str | None:
    """Return what depends on the number of steps, such as "the loss AnnealedL0"; None if nothing does."""
    model = config["model"]
    scheduler, name = _class_of(model.get("scheduler"))
    # DenoisingModule sets the length of these.
    unset = callable(scheduler) and inspect.signature(scheduler).parameters.get("total_steps")
    if unset and unset.default is None and (model["scheduler"].get("init_args") or {}).get("total_steps") is None:
        return f"the scheduler {name}"
    return f"the loss {_class_of(model['loss'])[1]}" if anneals(model["loss"]) else None


def _devices(trainer: dict[str, Any]) -> str:
    """Return how many devices a Trainer takes, as each gets batches of its own. Which of them it takes is no matter."""
    devices = trainer.get("devices", "auto")
    if devices == "auto" and trainer.get("num_nodes", 1) == 1:
        devices = 1  # as the training takes it
    if isinstance(devices, str) and "," in devices:
        devices = [number for number in devices.split(",") if number.strip()]
    return str(len(devices) if isinstance(devices, list) else devices)


def differences(saved: dict[str, Any], asked: dict[str, Any]) -> Iterator[str]:
    """Yield the differences between two configurations that change what a run learns."""
    for part in ("model", "data", "seed_everything"):
        yield from _differences(saved.get(part), asked.get(part), part)
    trainers = [config.get("trainer", {}) for config in (saved, asked)]
    before, now = (
        {name: value for name, value in trainer.items() if name not in _FREE} | {"devices": _devices(trainer)}
        for trainer in trainers
    )
    yield from _differences(before, now, "trainer")
    model = asked["model"]
    if model.get("scheduler") is not None or anneals(model["loss"]):
        # A schedule depends on the length of the training, so a longer run would be another run.
        length, asked_length = (trainer.get("max_epochs") for trainer in trainers)
        yield from _differences(length, asked_length, "trainer.max_epochs")
