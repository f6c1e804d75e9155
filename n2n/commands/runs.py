"""Reading training runs from their folders."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from n2n.errors import InputError
from n2n.system.yaml_files import load_yaml
from n2n.trainer.run_folder import FACTS, METRICS, Row, read_facts, read_metrics

# Fact in run.yaml: the pairs of an epoch on one device.
PAIRS = "pairs"


@dataclass(frozen=True)
class Run:
    """A training run, finished or not.

    Attributes:
        folder: of the run.
        config: of ``config.yaml``; empty if there is none.
        rows: of ``metrics.csv``, one for each epoch. Their ``minutes`` count training and validation of whole epochs, over all
            parts of a run that was resumed, without the pauses.
        finished: whether training ended by itself.
        parameters: of the network; None until training has ended once, like the following.
        macs_per_pixel: multiply-accumulates of the network per pixel.
        device: that it was trained on; empty if unknown.
        pairs: of an epoch on one device; None if ``n2n compare`` has not noted them.
        baselines: PSNR in dB of the network and of classical filters by name, as the training measured them at its end.
    """

    folder: Path
    config: dict[str, Any]
    rows: tuple[Row, ...]
    finished: bool
    parameters: float | None
    macs_per_pixel: float | None
    device: str
    pairs: float | None
    baselines: dict[str, float]

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read a run from its folder.

        Raises:
            InputError: if it is no run, holds no whole epoch, or one of its files is damaged.
        """
        rows, facts = read_metrics(folder), read_facts(folder)
        if not rows:
            raise InputError(f"{folder} has no whole epoch yet")
        parameters, macs, pairs = (_number(facts.get(name)) for name in ("parameters", "macs_per_pixel", PAIRS))
        finished, device = facts.get("finished") is True, str(facts.get("device", ""))
        given = facts.get("baselines")
        found = [(str(name), _number(value)) for name, value in given.items()] if isinstance(given, dict) else []
        baselines = {name: value for name, value in found if value is not None}
        config = _read_config(folder / "config.yaml")
        return cls(folder, config, tuple(rows), finished, parameters, macs, device, pairs, baselines)

    def curve(self, tag: str) -> dict[int, float]:
        """Return the values of a figure by epoch: ``train/loss``, ``val/psnr``, ... (lightning_logs/README.md)."""
        return {int(row["epoch"]): row[tag] for row in self.rows if tag in row}

    @property
    def epochs(self) -> int:
        """Epochs trained, 0 before the end of the first."""
        return max(self.curve("train/loss"), default=0)

    @property
    def minutes(self) -> float:
        """Minutes of training and validation up to the end of the last epoch, without pauses."""
        return max((row["minutes"] for row in self.rows if "train/loss" in row), default=0.0)

    @property
    def pairs_per_second(self) -> float | None:
        """The median over whole epochs, validation included, on one device; None before the second epoch.

        Without ``pairs`` all batches count as full, and all steps as those of ``accumulate_grad_batches`` batches.
        """
        data, trainer = self.config.get("data"), self.config.get("trainer")
        size = data.get("batch_size") if isinstance(data, dict) else None
        together = trainer.get("accumulate_grad_batches", 1) if isinstance(trainer, dict) else 1
        if not (isinstance(size, int) and isinstance(together, int) and 0 < size * together < 2**63):
            return None
        epochs = [
            (row["step"] - before["step"], row["seconds"])
            for before, row in pairwise(self.rows)
            if row["epoch"] == before["epoch"] + 1 and row.get("seconds", 0) > 0
        ]
        most = max((steps for steps, _ in epochs), default=0)
        pairs = self.pairs or most * size * together
        rates = [pairs / seconds for steps, seconds in epochs if steps == most]
        return statistics.median(rates) if rates else None

    def best(self) -> tuple[int, dict[str, float]]:
        """Return the epoch of the best checkpoint by ``--checkpoint.monitor``, and its ``val/`` figures.

        Raises:
            InputError: if no checkpoint was chosen yet.
        """
        chosen = max((int(row["epoch"]) for row in self.rows if row.get("best") == 1), default=None)
        if chosen is None:
            raise InputError(f"no best checkpoint of {self.folder} was chosen yet: let it train on, with validation")
        (row,) = (row for row in self.rows if row["epoch"] == chosen)
        return chosen, {tag: value for tag, value in row.items() if tag.startswith("val/")}

    def until(self, epoch: int) -> Run:
        """Return the run as it was after an epoch."""
        return replace(self, rows=tuple(row for row in self.rows if row["epoch"] <= epoch))


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
    except OverflowError:
        return None


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the given folders of runs. For a folder that is no run, return the runs below it, sorted by name.

    Raises:
        InputError: if a folder is not there or has no run in it.
    """
    found: dict[Path, None] = {}
    for path in paths:
        files = [path / METRICS] if (path / METRICS).is_file() else path.rglob(METRICS)
        runs = sorted((file.parent for file in files if file.is_file()), key=_by_name)
        if not runs and (path / FACTS).is_file() and not (path / METRICS).exists():
            raise InputError(f"{path} has no whole epoch yet: wait until the first one has ended")
        if not runs:
            raise InputError(f"there is no {METRICS} in {path}: expected the folder of a run of n2n fit, or of several")
        found |= dict.fromkeys(runs)
    return list(found)


def _by_name(path: Path) -> list[tuple[int, str]]:
    """Sort numbers in names as numbers: version_2 comes before version_10."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in parts]


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    content = load_yaml(path, "the configuration that n2n fit saved")
    if not isinstance(content, dict) or not all(isinstance(content.get(x, {}), dict) for x in ("model", "trainer")):
        raise InputError(f"{path} is not the configuration of a run: expected that of n2n fit")
    return content
