"""What the checks are asked for, and how they report."""

from __future__ import annotations

import contextlib
import io
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from n2n.cli import main as n2n
from tests.devices.target import Target, find

# How a check ended: "ok" and "failed" are of what can be wrong, "measured" of figures, "skipped" of what cannot run here.
OK, FAILED, MEASURED, SKIPPED = "ok", "failed", "measured", "skipped"
_ROWS = "rows.jsonl"


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what: was tried or measured.
        result: ``OK``, ``FAILED``, ``MEASURED`` or ``SKIPPED``.
        value: figures, or the first line of the error.
    """

    what: str
    result: str
    value: str = ""


@dataclass(frozen=True)
class Setting:
    """The options of ``python -m tests.devices.gpu``.

    Attributes:
        device: one of ``tests.devices.target.NAMES``.
        quick: whether everything is as small as it goes, to see whether it runs.
        data: a folder with the course's two files to measure on; None for generated pairs.
        folder: for whatever the checks write. They share ``cache`` in it.
    """

    device: str
    quick: bool
    data: Path | None
    folder: Path

    def target(self) -> Target:
        """Return the device; the pretended one is made here."""
        found = find(self.device)
        assert found is not None
        return found

    def write(self, file: Path) -> None:
        """Write the setting for the process of a check."""
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        file.write_text(json.dumps(plain))

    @classmethod
    def read(cls, file: Path) -> Setting:
        """Read what :meth:`write` wrote."""
        plain: dict[str, Any] = json.loads(file.read_text())
        data = plain["data"]
        return cls(plain["device"], plain["quick"], None if data is None else Path(data), Path(plain["folder"]))

    def add(self, row: Row) -> None:
        """Write a row of the check whose folder this is; it counts even if the check is stopped after that."""
        with (self.folder / _ROWS).open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")

    def rows(self) -> list[Row]:
        """Read the rows that :meth:`add` wrote."""
        file = self.folder / _ROWS
        # The last line of a process that was killed may be cut off.
        lines = file.read_text().split("\n")[:-1] if file.is_file() else []
        return [Row(**json.loads(line)) for line in lines]

    def pairs(self, count: int) -> list[str]:
        """Options of ``n2n fit`` for the training pairs.

        Args:
            count: of generated pairs, of the size of the course's; fewer in a quick run.
        """
        if self.data is not None:
            return ["--config", "data/ee559.yaml", "--data.source.init_args.root", str(self.data)]
        count, val = (min(count, 40), 20) if self.quick else (count, 1000)
        options = {"pairs": count, "val_pairs": val} | ({"size": 256} if self.quick else {})
        given = [word for name, value in options.items() for word in (f"--data.source.init_args.{name}", str(value))]
        return ["--data.source", "n2n.data.DeadLeaves", *given]


@dataclass(frozen=True)
class Fit:
    """A run of ``n2n fit``.

    Attributes:
        status: of the command.
        seconds: of the command, without the start of the process.
        figures: of its best checkpoint; empty if there is none.
        log: what it wrote.
        checkpoint: path of the best one.
    """

    status: int
    seconds: float
    figures: dict[str, float]
    log: str
    checkpoint: Path

    @property
    def psnr(self) -> str:
        """The PSNR of the best checkpoint, with its unit."""
        return f"{self.figures.get('val/psnr_per_image', float('nan')):.2f} dB"

    @property
    def error(self) -> str:
        """The last line that the command wrote."""
        return (self.log.strip().splitlines() or ["no output"])[-1][:200]


def command(target: Target, name: str, *options: str) -> tuple[int, float, str]:
    """Run an ``n2n`` command in this process, on the device; returns its status, seconds, and what it wrote."""
    log = io.StringIO()
    start = time.perf_counter()
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log), warnings.catch_warnings():
        status = n2n([name, *options, *target.options(name)])
    if target.device.type == "cuda":
        torch.cuda.synchronize()
    return status, time.perf_counter() - start, log.getvalue()


def fit(setting: Setting, target: Target, name: str, *options: str) -> Fit:
    """Run ``n2n fit`` in this process, as a run of the given name."""
    quiet = (
        "--trainer.enable_progress_bar",
        "false",
        "--trainer.default_root_dir",
        str(setting.folder),
        "--name",
        name,
    )
    status, seconds, log = command(target, "fit", *options, *quiet)
    checkpoint = setting.folder / "lightning_logs" / name / "version_0" / "checkpoints" / "best.ckpt"
    figures: dict[str, float] = {}
    if checkpoint.is_file():
        figures = torch.load(checkpoint, map_location="cpu", weights_only=True)["n2n"]["figures"]
    return Fit(status, seconds, figures, log, checkpoint)


def verdict(what: str, fine: bool, value: str) -> Row:
    """Return a row of what can be wrong."""
    return Row(what, OK if fine else FAILED, value)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Give the lines of a Markdown table."""
    for line in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
