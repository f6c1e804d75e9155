"""Training runs, read back from the folders that they wrote."""

from __future__ import annotations

import math
import os
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from n2n.commands.event_files import event_files, read_events
from n2n.errors import InputError
from n2n.system.yaml_files import load_yaml

# Where epochs are counted by a float32.
_MOST_EPOCHS = 2**24


@dataclass(frozen=True)
class Curve:
    """A figure over the epochs of a run.

    Attributes:
        epochs: those completed when the value was logged, from 1; each once, rising.
        values: one for each.
        minutes: of training and validating up to then, over all parts of a run that was interrupted and resumed. The pauses
            between do not count, nor what a part did after the last epoch it completed.
    """

    epochs: tuple[int, ...]
    values: tuple[float, ...]
    minutes: tuple[float, ...]


@dataclass(frozen=True)
class Run:
    """A training run, finished or not.

    Attributes:
        folder: of the run.
        config: of ``config.yaml``; empty if there is none.
        curves: by tag: ``train/loss``, ``val/loss``, ``val/psnr``, ... (see README, "Look").
        pairs_per_second: the median over epochs, validation included; on one device. None before the second epoch.
        finished: whether training ended by itself.
        hyperparameters: what ``n2n fit`` logs of a run that ended: the flat configuration, ``parameters``, ``macs_per_pixel``
            and ``device``.
    """

    folder: Path
    config: dict[str, Any]
    curves: dict[str, Curve]
    pairs_per_second: float | None
    finished: bool
    hyperparameters: dict[str, str | float | bool]

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read a run from its folder; of event files that are damaged, cut or still being written, what is whole.

        Raises:
            InputError: if there is no such folder, nothing was logged in it, or its configuration cannot be read.
        """
        parts = [_Part(events) for events in read_events(folder)]
        if not parts:
            raise InputError(f"there are no TensorBoard events in {folder}: expected the folder of a run of n2n fit")
        config = _read_config(folder / "config.yaml")
        ended, trained = parts[-1].ended, parts[-1].last
        return cls(
            folder,
            config,
            _join(parts),
            _speed(parts, config),
            # A run that had ended may go on for more epochs, and be interrupted before the first of them has ended.
            ended is not None and ended >= (trained or 0.0),
            {name: value for part in parts for name, value in part.hyperparameters.items()},
        )

    @property
    def epochs(self) -> int:
        """Epochs trained, 0 before the end of the first."""
        return self.curves["train/loss"].epochs[-1] if "train/loss" in self.curves else 0

    @property
    def minutes(self) -> float:
        """Minutes trained (and validated) up to the end of the last epoch, pauses not counted."""
        return self.curves["train/loss"].minutes[-1] if "train/loss" in self.curves else 0.0

    def best(self) -> tuple[int, dict[str, float]]:
        """Return the best epoch and all its ``val/`` figures.

        As for checkpoints, the best is by PSNR per image; without clean images by the squared error estimated from pairs;
        without pairs by the validation loss.

        Raises:
            InputError: if no epoch was validated.
        """
        for tag, sign in (("val/psnr_per_image", 1.0), ("val/mse_blind", -1.0), ("val/loss", -1.0)):
            curve = self.curves.get(tag)
            scores = {
                epoch: sign * value
                for epoch, value in (zip(curve.epochs, curve.values, strict=True) if curve else ())
                if not math.isnan(value)
            }
            if scores:
                # The first of equal ones, as ModelCheckpoint keeps it.
                best = max(scores, key=scores.__getitem__)
                return best, self.at(best)
        raise InputError(f"no epoch of {self.folder} was validated: let it train on, with validation")

    def until(self, epoch: int) -> Run:
        """Return the run as it was after some epoch."""
        curves = {}
        for tag, curve in self.curves.items():
            if count := sum(e <= epoch for e in curve.epochs):
                curves[tag] = Curve(curve.epochs[:count], curve.values[:count], curve.minutes[:count])
        return replace(self, curves=curves)

    def at(self, epoch: int) -> dict[str, float]:
        """Return all ``val/`` figures of an epoch, by tag."""
        return {
            tag: curve.values[curve.epochs.index(epoch)]
            for tag, curve in self.curves.items()
            if tag.startswith("val/") and epoch in curve.epochs
        }


class _Part:
    """What one process logged of a run: an event file.

    Attributes:
        ended: when the figures of a training that ended by itself were logged, or None.
        start: when the file was begun.
        last: when its last epoch was logged, or None.
        values: by tag, for each epoch: the value and when it was logged.
        steps: the global step, for each epoch, at which its training loss was logged.
        hyperparameters: as they were logged at the end.
    """

    def __init__(self, events: Any) -> None:
        self.start: float = events.FirstEventTimestamp()
        scalars = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
        ended = [event.wall_time for tag, all_of in scalars.items() if tag.startswith("best/") for event in all_of]
        self.ended = max(ended, default=None)
        # Lightning logs the epoch, from 0, with whatever it logs; by the step, all else finds its own.
        epoch_of = {
            event.step: int(event.value) + 1
            for event in scalars.get("epoch", [])
            if 0 <= event.value < _MOST_EPOCHS and math.isfinite(event.wall_time)
        }
        self.last = max((event.wall_time for event in scalars.get("epoch", []) if event.step in epoch_of), default=None)
        self.values: dict[str, dict[int, tuple[float, float]]] = {}
        self.steps: dict[int, int] = {}
        for tag, all_of in scalars.items():
            if not tag.startswith(("train/", "val/")):
                continue
            found = {
                epoch_of[event.step]: event
                for event in all_of
                if event.step in epoch_of and math.isfinite(event.wall_time)
            }
            if found:
                self.values[tag] = {epoch: (event.value, event.wall_time) for epoch, event in found.items()}
            if tag == "train/loss":
                self.steps = {epoch: event.step for epoch, event in found.items()}
        self.first_epoch = min(epoch_of.values(), default=None)
        self.hyperparameters = _hyperparameters(events)


def _hyperparameters(events: Any) -> dict[str, str | float | bool]:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]

    try:
        content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
        values = HParamsPluginData.FromString(content).session_start_info.hparams
    except Exception:  # none, or damaged
        return {}
    return {name: getattr(value, kind) for name, value in values.items() if (kind := value.WhichOneof("kind"))}


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the runs' folders: those given, and of a folder that is no run those below it, sorted by name.

    Raises:
        InputError: if a folder is not there or has no run in it.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise InputError(f"{path} is not a folder: expected the folder of a run of n2n fit, or one of several runs")
        runs = [path] if event_files(path) else [place for place in _below(path) if event_files(place)]
        if not runs:
            raise InputError(f"there are no TensorBoard events in {path}: expected the folder of a run of n2n fit")
        found |= dict.fromkeys(sorted(runs, key=_by_name))
    return list(found)


def _below(folder: Path) -> Iterable[Path]:
    for place, _, _ in os.walk(folder):
        yield Path(place)


def _by_name(path: Path) -> list[tuple[int, str]]:
    """Sort numbers in names as numbers: version_2 comes before version_10."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in parts]


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    content = load_yaml(path, "the configuration that n2n fit saved")
    if not isinstance(content, dict) or not all(isinstance(content.get(x, {}), dict) for x in ("model", "trainer")):
        raise InputError(f"{path} is not the configuration of a run: expected what n2n fit saved")
    return content


def _join(parts: Sequence[_Part]) -> dict[str, Curve]:
    """Put the parts of a run together: where one goes on, what earlier ones did from that epoch on no longer counts."""
    points: dict[str, dict[int, tuple[float, float]]] = {}
    seconds_before = 0.0
    for part in parts:
        if part.first_epoch is None or part.last is None:
            continue
        for tag, values in points.items():
            points[tag] = {epoch: point for epoch, point in values.items() if epoch < part.first_epoch}
        if not any(points.values()):
            # It went on with nothing, but began anew.
            seconds_before = 0.0
        for tag, logged in part.values.items():
            points.setdefault(tag, {}).update(
                {epoch: (value, seconds_before + time - part.start) for epoch, (value, time) in logged.items()}
            )
        seconds_before += max(0.0, part.last - part.start)
    curves = {}
    for tag, values in points.items():
        if values:
            epochs = tuple(sorted(values))
            curves[tag] = Curve(
                epochs,
                tuple(values[epoch][0] for epoch in epochs),
                tuple(values[epoch][1] / 60 for epoch in epochs),
            )
    return curves


def _speed(parts: Sequence[_Part], config: dict[str, Any]) -> float | None:
    """Return the pairs a second, from the end of one epoch to that of the next: validation is in the time."""
    data, trainer = config.get("data"), config.get("trainer")
    size = data.get("batch_size") if isinstance(data, dict) else None
    together = trainer.get("accumulate_grad_batches", 1) if isinstance(trainer, dict) else 1
    if not (isinstance(size, int) and isinstance(together, int) and 0 < size * together < 2**63):
        return None
    rates = []
    for part in parts:
        for epoch, step in part.steps.items():
            if epoch + 1 in part.steps:
                loss = part.values["train/loss"]
                seconds = loss[epoch + 1][1] - loss[epoch][1]
                if seconds > 0:
                    rates.append((part.steps[epoch + 1] - step) * size * together / seconds)
    return statistics.median(rates) if rates else None
