"""A tiny search."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import write_course

LR, OPTIMIZER = "model.optimizer.init_args.lr", "model.optimizer"
GRID: dict[str, Any] = {
    "sampler": "grid",
    # The arguments before the class: the class is given first all the same.
    "space": {LR: [1e-3, "1e-2"], OPTIMIZER: ["torch.optim.Adam", "torch.optim.SGD"]},
}


def write_search(path: Path = Path("search.yaml"), epochs: int = 1, **section: Any) -> list[str]:
    """Write a search of Model2 on the course's files in ``data``; returns its command line."""
    if not Path("data").exists():
        write_course(Path("data"), 40)
    content = {
        "name": "s",
        "search": section,
        "trainer": {"max_epochs": epochs, "accelerator": "cpu"},
        "model": {"backbone": {"class_path": "n2n.backbones.Model2"}},
        "data": {"source": {"class_path": "n2n.data.CourseFiles", "init_args": {"root": "data"}}, "batch_size": 20},
        "panel": {"images": 0},
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return ["search", "--config", str(path)]


def read_trials(name: str = "s") -> list[dict[str, str]]:
    with Path("lightning_logs", name, "trials.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing: it takes longer than the trials."""
    monkeypatch.setattr("n2n.commands.search.figures.draw", lambda *_: [])
