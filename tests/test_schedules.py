from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from n2n.errors import InputError
from n2n.schedules import OneCycle
from tests.conftest import fit, write_course


def test_cycle_is_pytorchs() -> None:
    rates: list[list[float]] = []
    for make in (
        lambda optimizer: OneCycle(optimizer, rise=0.3, total_steps=100),
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 101, final_div_factor=1e12),
    ):
        optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        scheduler = make(optimizer)
        rates.append([])
        for _ in range(100):
            rates[-1].append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    # PyTorch's rises one step sooner, of 30.
    assert rates[0] == pytest.approx(rates[1], abs=0.006)
    with pytest.raises(InputError, match="rise is 1"):
        OneCycle(optimizer, rise=1.0)


def rates(name: str) -> list[float]:
    events = EventAccumulator(f"lightning_logs/{name}/version_0")
    events.Reload()
    return [event.value for event in events.Scalars("lr-Adam")]


def test_cycle_is_as_long_as_the_training_also_when_resumed(tmp_path: Path) -> None:
    root = write_course(tmp_path / "data")
    options = ["--model.scheduler", "n2n.schedules.OneCycle", "--model.scheduler.rise", "0.5"]
    options += [
        "--model.scheduler_interval",
        "step",
        "--model.optimizer.lr",
        "1e-3",
        "--trainer.log_every_n_steps",
        "1",
    ]
    assert fit(*options, "--trainer.max_epochs", "4", root=root) == 0
    # Four epochs of three steps; the rate of a step is logged before it.
    whole = rates("run")
    assert len(whole) == 12
    assert whole[0] == pytest.approx(4e-5)
    assert whole[3] == pytest.approx(1e-3 * (0.04 + 0.96 / 2))
    assert whole[6] == pytest.approx(1e-3)
    assert whole[9] == pytest.approx(5e-4)
    assert whole[11] == pytest.approx(1e-3 * (1 + math.cos(math.pi * 5 / 6)) / 2)
    part = ["--ckpt_path", "lightning_logs/run/version_0/checkpoints/last.ckpt", "--name", "longer"]
    assert fit(*options, "--trainer.max_epochs", "6", *part, root=root) == 0
    # The first step has the rate that the optimiser was stopped with; the next, 13 of 18, lies on the longer cycle.
    assert rates("longer")[1] == pytest.approx(1e-3 * (1 + math.cos(math.pi * 4 / 9)) / 2)
    assert rates("longer")[-1] == pytest.approx(1e-3 * (1 + math.cos(math.pi * 8 / 9)) / 2)
