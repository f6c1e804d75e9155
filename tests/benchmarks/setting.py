"""What a benchmark is asked for, where it runs, and its tables."""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import lightning as L
import torch

from n2n import __version__
from n2n.system.hardware import device_name
from n2n.trainer.quiet import silence

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Setting:
    """The options of ``python -m tests.benchmarks``, and a folder for whatever is written meanwhile."""

    device: torch.device
    networks: list[str]
    rounds: int
    pairs: int
    val_pairs: int
    batch_size: int
    epochs: int
    psnr_epochs: int
    data: Path | None
    photos: Path | None
    checkpoint: str
    side: int
    precision: str
    quick: bool
    folder: Path

    @property
    def accelerator(self) -> str:
        """The device's name for Lightning."""
        return "gpu" if self.device.type == "cuda" else self.device.type


def _commit() -> str:
    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (", with changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine(setting: Setting) -> str:
    """Say in one line what the figures were measured on: machine, threads, versions and commit."""
    where = device_name(setting.device)
    if setting.device.type != "cpu":
        where += f", {device_name(torch.device('cpu'))}"
    return (
        f"{where} ({platform.machine()}); Python {platform.python_version()}, torch {torch.__version__}, "
        f"lightning {L.__version__}, n2n {__version__}; commit {_commit()}; {setting.rounds} rounds."
    )


def take_turns(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Let each run once a round, so that a busy machine slows all of them down; every other round backwards."""
    results: dict[str, list[float]] = {name: [] for name in contestants}
    for i in range(rounds):
        for name in list(contestants)[:: 1 if i % 2 == 0 else -1]:
            results[name].append(contestants[name]())
            print(f"  {name}: {results[name][-1]:.4g}", file=sys.stderr, flush=True)
    return results


def side_by_side(
    base: tuple[str, Callable[[], float]], others: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Let each of the others take turns with the base alone, so that what is compared ran one right after the other.

    A first run of each is not counted: memory is not in place and files are not in the system's cache yet.

    Returns:
        For each of the others the figures of the base beside it, and its own.
    """
    name, run = base
    run()
    results = {}
    for other, contestant in others.items():
        contestant()
        found = take_turns({name: run, other: contestant}, rounds)
        results[other] = found[name], found[other]
    return results


def ratios(above: Sequence[float], below: Sequence[float]) -> str:
    """Two cells of a table: the median of the ratios of neighbours, and their range."""
    found = [a / b for a, b in zip(above, below, strict=True)]
    return f"{statistics.median(found):.3f} | {min(found):.3f} to {max(found):.3f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Set a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@contextmanager
def quietly() -> Iterator[StringIO]:
    """Keep what runs inside from writing between the tables; gives what it would have written."""
    with redirect_stdout(StringIO()) as log, redirect_stderr(log), silence(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield log
