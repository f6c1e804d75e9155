"""Training runs, read back from the folders that they wrote."""

from __future__ import annotations

import math
import os
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from n2n.errors import InputError
from n2n.system.yaml_files import load_yaml
from n2n.trainer.run_folder import METRICS, Row, read_facts, read_metrics


@dataclass(frozen=True)
class Curve:
    """A figure over the epochs of a run.

    Attributes:
        epochs: those completed when the value was logged, from 1; each once, rising.
        values: one for each.
        minutes: of training and validation up to then, over all parts of a run that was interrupted and resumed. The pauses
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
        rows: of ``metrics.csv``, one for each epoch.
        finished: whether training ended by itself.
        parameters: of the network; None unless training has ended once.
        macs_per_pixel: multiply-accumulates of the network for each pixel; None unless training has ended once.
        device: that it was trained on; empty unless training has ended once.
    """

    folder: Path
    config: dict[str, Any]
    rows: tuple[Row, ...]
    finished: bool
    parameters: float | None
    macs_per_pixel: float | None
    device: str

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read a run from its folder.

        Raises:
            InputError: if there is no such folder, it holds no whole epoch, or one of its files is damaged.
        """
        if not _is_run(folder):
            raise _no_run(folder)
        rows, facts = read_metrics(folder), read_facts(folder)
        if not rows:
            raise InputError(f"{folder} has no whole epoch yet")
        parameters, macs = (_number(facts.get(name)) for name in ("parameters", "macs_per_pixel"))
        device = str(facts.get("device", ""))
        config = _read_config(folder / "config.yaml")
        return cls(folder, config, tuple(rows), facts.get("finished") is True, parameters, macs, device)

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """All figures by tag: ``train/loss``, ``val/loss``, ``val/psnr``, ... (see README, "Look")."""
        curves = {}
        for tag in dict.fromkeys(name for row in self.rows for name in row if name.startswith(("train/", "val/"))):
            rows = [row for row in self.rows if tag in row]
            epochs, values, minutes = (tuple(row[name] for row in rows) for name in ("epoch", tag, "minutes"))
            curves[tag] = Curve(tuple(map(int, epochs)), values, minutes)
        return curves

    @property
    def epochs(self) -> int:
        """Epochs trained, 0 before the end of the first."""
        return max((int(row["epoch"]) for row in self.rows if "train/loss" in row), default=0)

    @property
    def minutes(self) -> float:
        """Minutes trained (and validated) up to the end of the last epoch, pauses not counted."""
        return max((row["minutes"] for row in self.rows if "train/loss" in row), default=0.0)

    @property
    def pairs_per_second(self) -> float | None:
        """The median over epochs, validation included, on one device; None before the second epoch."""
        data, trainer = self.config.get("data"), self.config.get("trainer")
        size = data.get("batch_size") if isinstance(data, dict) else None
        together = trainer.get("accumulate_grad_batches", 1) if isinstance(trainer, dict) else 1
        if not (isinstance(size, int) and isinstance(together, int) and 0 < size * together < 2**63):
            return None
        rates = [
            (row["step"] - before["step"]) * size * together / row["seconds"]
            for before, row in pairwise(self.rows)
            if row["epoch"] == before["epoch"] + 1 and row.get("seconds", 0) > 0
        ]
        return statistics.median(rates) if rates else None

    def best(self) -> tuple[int, dict[str, float]]:
        """Return the epoch of the best checkpoint, which ``--checkpoint.monitor`` chose, and all its ``val/`` figures.

        Raises:
            InputError: if no checkpoint was chosen yet.
        """
        chosen = [row for row in self.rows if row.get("best") == 1]
        if not chosen:
            raise InputError(f"no best checkpoint of {self.folder} was chosen yet: let it train on, with validation")
        return int(chosen[-1]["epoch"]), self.at(int(chosen[-1]["epoch"]))

    def until(self, epoch: int) -> Run:
        """Return the run as it was after an epoch."""
        return replace(self, rows=tuple(row for row in self.rows if row["epoch"] <= epoch))

    def at(self, epoch: int) -> dict[str, float]:
        """Return all ``val/`` figures of an epoch, by tag."""
        return {
            tag: value
            for row in self.rows
            if row["epoch"] == epoch
            for tag, value in row.items()
            if tag.startswith("val/")
        }


def _is_run(folder: Path) -> bool:
    return (folder / METRICS).is_file()


def _no_run(folder: Path) -> InputError:
    if not folder.is_dir():
        return InputError(f"{folder} is not a folder: expected that of a run of n2n fit, or one with runs in it")
    return InputError(f"there is no {METRICS} in {folder}: expected the folder of a run of n2n fit that ended an epoch")


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
    except OverflowError:
        return None


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the runs' folders: those given, and of a folder that is no run those below it, sorted by name.

    Raises:
        InputError: if a folder is not there or has no run in it.
    """
    found: dict[Path, None] = {}
    for path in paths:
        runs = [path] if _is_run(path) else [place for place in _below(path) if _is_run(place)]
        if not runs:
            raise _no_run(path)
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
