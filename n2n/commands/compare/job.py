"""One training of a comparison, and its progress."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from n2n.commands.runs import Run
from n2n.errors import InputError

# Options of the Trainer that may change when a run is resumed: they do not change what it learns.
_FREE = {"default_root_dir", "devices", "accelerator", "strategy", "num_nodes", "logger", "precision"}
_FREE |= {"enable_progress_bar", "enable_model_summary", "enable_checkpointing", "profiler", "max_epochs", "max_time"}


@dataclass(frozen=True, eq=False)
class Job:
    """One training of a comparison.

    Attributes:
        label: its name in the table; the same for all seeds.
        seed: of the run if several seeds are compared, otherwise None.
        args: of ``n2n fit``.
        folder: of the run.
        config: the whole configuration, as it will be saved.
    """

    label: str
    seed: int | None
    args: tuple[str, ...]
    folder: Path
    config: dict[str, Any]

    def progress(self) -> tuple[Run | None, bool]:
        """Return the run, or None if it has not begun, and whether it is done.

        If the run has trained for longer than the budget, it is cut off after the last epoch within the budget.

        Raises:
            InputError: if the folder holds a run of another configuration, or one whose time was not counted.
        """
        try:
            if not (self.folder / "config.yaml").is_file():
                return None, False
        except OSError as error:
            raise InputError(f"{self.folder} cannot be looked at ({error.strerror}): give another --name") from None
        try:
            run = Run.read(self.folder)
        except InputError:
            # Interrupted before its first epoch ended.
            return None, False
        differing = list(differences(run.config, self.config))
        if differing:
            raise InputError(
                f"{self.folder} holds a run with another configuration ({'; '.join(differing[:3])}): give the comparison "
                "another --name, or remove that folder"
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
            if limit_before == float("inf"):
                # Its checkpoint does not hold the time it has trained, so the time would be counted from zero.
                raise InputError(
                    f"{self.folder} holds a run that was trained without --minutes: give the comparison another --name, "
                    "or remove that folder"
                )
        return run, run.finished and not _is_longer(before, now)


def _is_longer(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Return whether the budget ``now`` allows more epochs or more time than the budget ``before``."""
    epochs = [
        float("inf") if budget.get("max_epochs") in (None, -1) else budget["max_epochs"] for budget in (before, now)
    ]
    times = [seconds(budget.get("max_time")) for budget in (before, now)]
    return bool(epochs[1] > epochs[0] or times[1] > times[0])


def seconds(max_time: Any) -> float:
    """Convert Lightning's ``max_time``, days:hours:minutes:seconds or a mapping of these, to seconds; None is infinite.

    Raises:
        InputError: if it is anything else.
    """
    if max_time is None:
        return float("inf")
    try:
        if isinstance(max_time, str):
            max_time = dict(zip(("days", "hours", "minutes", "seconds"), map(int, max_time.split(":")), strict=True))
        return timedelta(**max_time).total_seconds()
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"max_time is {max_time}: expected days:hours:minutes:seconds, such as 00:00:10:00") from None


def _differences(saved: Any, asked: Any, key: str) -> Iterator[str]:
    """Yield the differences between two parts of configurations, of the keys that both have."""
    if isinstance(saved, dict) and isinstance(asked, dict):
        for name in sorted(saved.keys() & asked.keys()):
            yield from _differences(saved[name], asked[name], f"{key}.{name}")
    # The channels are set to those of the images when training starts.
    elif saved != asked and key != "model.backbone.init_args.channels":
        yield f"{key} was {saved} and is now {asked}"


def anneals(spec: Any) -> bool:
    """Return whether a class has the attribute ``anneals``: what it does depends on the length of the training."""
    module, _, name = str(spec["class_path"]).rpartition(".") if isinstance(spec, dict) else ("", "", "")
    return bool(module and getattr(getattr(importlib.import_module(module), name, None), "anneals", False))


def differences(saved: dict[str, Any], asked: dict[str, Any]) -> Iterator[str]:
    """Yield the differences between two configurations that change what a run learns."""
    for part in ("model", "data", "seed_everything"):
        yield from _differences(saved.get(part), asked.get(part), part)
    before, now = (
        {name: value for name, value in config.get("trainer", {}).items() if name not in _FREE}
        for config in (saved, asked)
    )
    yield from _differences(before, now, "trainer")
    if (
        asked["model"].get("scheduler") is not None
        or anneals(asked["model"]["loss"])
        or anneals(asked["data"]["source"])
    ):
        # A schedule depends on the length of the training: more epochs make another run.
        length, asked_length = (config.get("trainer", {}).get("max_epochs") for config in (saved, asked))
        yield from _differences(length, asked_length, "trainer.max_epochs")
