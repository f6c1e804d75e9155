"""Folders of runs without training, with the times that a test needs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml
from torch import Tensor

from n2n.trainer.panels import PanelRow, write_panel


def write_run(
    folder: Path,
    epochs: Iterable[tuple[int, float, Mapping[str, float]]],
    *,
    finished: bool = False,
    steps: int = 10,
) -> Path:
    """Write what ``n2n fit`` writes of a run: ``metrics.csv`` and ``run.yaml``.

    Args:
        folder: of the run.
        epochs: for each the number, from 1; the minutes of training at its end; its figures, also ``best`` and ``seconds``.
        finished: whether the training ended by itself.
        steps: an epoch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"epoch": epoch, "step": epoch * steps - 1, "minutes": minutes, **row} for epoch, minutes, row in epochs]
    with (folder / "metrics.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)) or ["epoch"])
        table.writeheader()
        table.writerows(rows)
    (folder / "run.yaml").write_text(yaml.safe_dump({"finished": finished}))
    return folder


def add_panel(folder: Path, *columns: Tensor, psnr: tuple[float, float] | None, epoch: int = 2) -> None:
    """Add a panel of noisy, denoised and clean images, each N×C×H×W in [0, 1]."""
    pixels = [(x.expand(-1, 3, -1, -1) * 255).round().byte().permute(0, 2, 3, 1).numpy() for x in columns]
    rows = tuple(PanelRow(tuple(pictures), psnr) for pictures in zip(*pixels, strict=True))
    write_panel(folder, epoch, rows)
