"""What a run writes into its folder beside checkpoints and panels."""

from __future__ import annotations

import contextlib
import csv
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from filelock import FileLock, Timeout
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from n2n.checkpoints.on_disk import claim_version
from n2n.errors import InputError
from n2n.module import DenoisingModule
from n2n.system.files import WINDOWS, replacing
from n2n.trainer.callbacks import BestCheckpoint
from n2n.trainer.run_folder import FACTS, METRICS, Row, read_facts, read_metrics

# In run.yaml: the minutes until the last interruption.
_MINUTES = "minutes"
_FIRST_COLUMNS = ("epoch", "step", "minutes", "seconds", "best")


def write_facts(folder: Path, **facts: Any) -> None:
    """Add facts about a run to its ``run.yaml``, which reports read; facts of other names stay.

    Raises:
        OSError: if it cannot be written.
        InputError: if the file there cannot be read.
    """
    with replacing(folder / FACTS) as part:
        part.write_text(
            yaml.safe_dump(read_facts(folder) | facts, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )


class SaveConfig(SaveConfigCallback):
    """Saves the configuration, with the number of channels that the images have, and starts the files of the run."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Save the configuration. The data are open by now, and their channels known.

        Raises:
            InputError: if another process trains in the folder.
        """
        if isinstance(trainer.logger, RunLogger):
            trainer.logger.lock()
        if self.overwrite:
            # A run from the saved configuration of a resumed one starts anew.
            self.config.ckpt_path = None
        assert isinstance(pl_module, DenoisingModule)
        pl_module.configure_model()
        init_args = pl_module.hparams["backbone"].get("init_args", {})
        if "channels" in init_args:
            self.config.model.backbone.init_args.channels = init_args["channels"]
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start ``metrics.csv``."""
        if isinstance(trainer.logger, RunLogger):
            trainer.logger.start()


class Metrics:
    """Writes ``metrics.csv``: a row for each epoch, after the rows of the processes that trained the run before.

    Lightning's CSVLogger is not used because it deletes the file of a run that is resumed.

    Args:
        folder: of the run.

    Raises:
        InputError: if the file of an earlier process is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / METRICS
        self.rows = read_metrics(folder) if self._path.exists() else []
        self._started = time.monotonic()
        self._epoch_end: float | None = None
        self._minutes_before: float | None = None
        # Those of an interrupted epoch are in no row.
        noted = read_facts(folder).get(_MINUTES)
        self._noted = float(noted) if isinstance(noted, float) and math.isfinite(noted) else 0.0

    def minutes(self) -> float:
        """Return how long the run was trained, in all processes."""
        before = self._last_minutes() if self._minutes_before is None else self._minutes_before
        return before + (time.monotonic() - self._started) / 60

    def _last_minutes(self) -> float:
        """Return the minutes of the processes before, of which the last one may have been interrupted."""
        return max(self.rows[-1]["minutes"] if self.rows else 0.0, self._noted)

    def add(self, figures: Mapping[str, float]) -> None:
        """Add figures to the row of their ``epoch``, which counts from 0 as Lightning does, and write the file."""
        now, epoch = time.monotonic(), figures["epoch"] + 1
        if self._minutes_before is None:
            # An earlier process may have trained this epoch, and later ones, without saving them.
            self.rows = [row for row in self.rows if row["epoch"] < epoch]
            self._minutes_before = self._last_minutes()
        if not self.rows or self.rows[-1]["epoch"] < epoch:
            self.rows.append({})
        row = self.rows[-1]
        row |= {**figures, "epoch": epoch, "minutes": self.minutes()}
        # Logged last in an epoch. The first epoch of a process has no seconds: they would include its start.
        if "train/loss" in figures:
            if self._epoch_end is not None:
                row["seconds"] = now - self._epoch_end
            self._epoch_end = now
        try:
            self._write()
        except PermissionError:
            if not WINDOWS:
                raise
            # Another program may show it, such as Excel. The training goes on, and the next epoch writes all rows.
            rank_zero_info(
                f"Warning: {self._path} is in use by another program; it lacks epoch {epoch:g} until this closes it"
            )

    def _write(self) -> None:
        with replacing(self._path) as part, part.open("w", encoding="utf-8", newline="") as file:
            others = sorted({name for row in self.rows for name in row} - set(_FIRST_COLUMNS))
            table = csv.DictWriter(file, [*_FIRST_COLUMNS, *others], lineterminator="\n")
            table.writeheader()
            # Nine digits give back every float32.
            table.writerows({name: f"{value:.9g}" for name, value in row.items()} for row in self.rows)


class RunLogger(TensorBoardLogger):
    """Logs to TensorBoard's files and to ``metrics.csv``, in a ``version_N`` that no other process gets."""

    _claimed = _told = False
    _lock: FileLock | None = None
    _metrics: Metrics | None = None
    # Whether this epoch has the best checkpoint, and the figures of a validation after that.
    _best = False
    _later: Row | None = None

    @rank_zero_only
    def lock(self) -> None:
        """Keep other processes from training in the folder, until this one has ended.

        Raises:
            InputError: if one does.
        """
        folder = Path(self.log_dir)
        lock = FileLock(folder / ".lock")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
        except Timeout:
            raise InputError(
                f"another process trains in {folder}: wait until it has ended, or name another run"
            ) from None
        except (OSError, NotImplementedError):
            # A file system without locks. If the folder cannot be written, the first file says so.
            return
        self._lock = lock

    @rank_zero_only
    def start(self) -> None:
        """Start ``metrics.csv`` and ``run.yaml``, as training starts."""
        folder = Path(self.log_dir)
        self._metrics = Metrics(folder)
        write_facts(folder, finished=False)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log figures. Lightning adds the epoch to those that the module logs; only they go to ``metrics.csv``.

        TensorBoard sorts charts by name and opens on the first, so all are below ``train`` and ``val``.
        """
        self._told = self._told or bool(metrics)
        shown = {f"train/{name}" if name.startswith("lr-") else name: value for name, value in metrics.items()}
        shown.pop("epoch", None)
        super().log_metrics(shown, step)
        if self._metrics is None or "epoch" not in metrics:
            return
        row = {**metrics, "step": step or 0}
        if "train/loss" in metrics:
            # The last of an epoch, after its checkpoints are saved.
            row |= {"best": 1.0} if self._best else {}
            self._best, self._later = False, None
        elif self._best:
            # The row has the figures of the best checkpoint, which an earlier validation of the epoch chose.
            self._later = row
            return
        self._metrics.add(row)

    def note_minutes(self) -> None:
        """Keep the minutes of an epoch that is interrupted, for the process that goes on with it."""
        if self._metrics is not None:
            # The checkpoint is saved by now: a full disk must not hide that.
            with contextlib.suppress(OSError, InputError):
                write_facts(Path(self.log_dir), **{_MINUTES: self._metrics.minutes()})

    @property
    def rows(self) -> list[Row]:
        """The rows of ``metrics.csv``."""
        return self._metrics.rows if self._metrics is not None else []

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Note whether the checkpoint of this validation is the best so far, by ``--checkpoint.monitor``."""
        score = checkpoint_callback.current_score
        if not isinstance(checkpoint_callback, BestCheckpoint) or score is None or not math.isfinite(score):
            return
        if score == checkpoint_callback.best_model_score:
            self._best = True
            if self._later is not None and self._metrics is not None:
                self._metrics.add(self._later)
                self._later = None

    def _get_next_version(self) -> int:
        # Private in Lightning (tried with 2.6), which calls it only if no version was given; ``version`` itself would be asked
        # for again and again. Other processes of this training write nothing.
        rank = getattr(rank_zero_only, "rank", 0)
        if rank:
            return super()._get_next_version()
        number = claim_version(Path(self.root_dir))
        self._claimed = True
        return number

    def finalize(self, status: str) -> None:
        """Close the files. A run that failed before it logged anything leaves nothing."""
        super().finalize(status)
        if self._lock is not None:
            self._lock.release()
        folder, root = Path(self.log_dir), Path(self.save_dir)
        with contextlib.suppress(OSError):
            if status == "failed" and self._claimed and not self._told and not (folder / "checkpoints").exists():
                written = ("config.yaml", "hparams.yaml", FACTS, ".lock")
                for file in (*folder.glob("events.out.tfevents.*"), *(folder / name for name in written)):
                    file.unlink(missing_ok=True)
            # The name of a run may have folders in it.
            for empty in (folder, *folder.parents):
                if empty == root.parent:
                    break
                empty.rmdir()
