from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

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
    # A training that is longer than it said stays at the end.
    assert OneCycle(optimizer, total_steps=100).factor(1.5) == 0
    with pytest.raises(InputError, match="rise is 1"):
        OneCycle(optimizer, rise=1.0)


def rates(name: str) -> list[float]:
    events = EventAccumulator(f"lightning_logs/{name}/version_0")
    events.Reload()
    return [event.value for event in events.Scalars("train/lr-Adam")]


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
    with pytest.warns(UserWarning, match="OneCycle was planned for 12 steps and is for 18 now: .* goes on at 0.00075"):
        assert fit(*options, "--trainer.max_epochs", "6", *part, root=root) == 0
    # The first step has the rate that the optimiser was stopped with; the next, 13 of 18, lies on the longer cycle.
    assert rates("longer")[1] == pytest.approx(1e-3 * (1 + math.cos(math.pi * 4 / 9)) / 2)
    assert rates("longer")[-1] == pytest.approx(1e-3 * (1 + math.cos(math.pi * 8 / 9)) / 2)


class Watched(torch.nn.MSELoss):
    """Keeps how far the training was at each step."""

    progress = 0.0
    seen: ClassVar[list[float]] = []

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if output.requires_grad:
            self.seen.append(self.progress)
        return super().forward(output, target)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        # Six batches of ten pairs an epoch.
        ("--trainer.max_epochs 2", 12),
        ("--trainer.max_steps 8", 8),
        ("--trainer.max_steps 8 --trainer.max_epochs 5", 8),
        ("--trainer.max_steps 8 --trainer.max_epochs 1", 6),
        ("--trainer.max_time 00:01:00:00 --trainer.max_epochs 1", 6),
    ],
)
def test_progress_runs_from_0_to_1_over_the_steps(options: str, steps: int, tmp_path: Path) -> None:
    Watched.seen.clear()
    common = ("--trainer.max_epochs", "-1", "--data.batch_size", "10", "--trainer.log_every_n_steps", "1")
    watched = ("--model.loss", "tests.test_schedules.Watched", "--model.scheduler", "n2n.schedules.OneCycle")
    schedule = ("--model.scheduler_interval", "step")
    assert fit(*common, *options.split(), *watched, *schedule, root=write_course(tmp_path / "data")) == 0
    assert Watched.seen == pytest.approx([step / steps for step in range(steps)])
    cycle = OneCycle(torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]))
    assert rates("run") == pytest.approx([1e-3 * cycle.factor(step / steps) for step in range(steps)])


def test_progress_counts_the_steps_of_the_optimiser_and_goes_on_when_resumed(tmp_path: Path) -> None:
    root = write_course(tmp_path / "data")
    options = ("--data.batch_size", "10", "--model.loss", "tests.test_schedules.Watched", "--trust", "tests")
    Watched.seen.clear()
    accumulate = ("--trainer.accumulate_grad_batches", "2", "--trainer.max_epochs")
    assert fit(*options, *accumulate, "1", root=root) == 0
    # Six batches make three steps.
    assert Watched.seen == pytest.approx([0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    Watched.seen.clear()
    last = ("--ckpt_path", "lightning_logs/run/version_0/checkpoints/last.ckpt")
    assert fit(*options, *accumulate, "2", *last, root=root) == 0
    assert Watched.seen == pytest.approx([3 / 6, 3 / 6, 4 / 6, 4 / 6, 5 / 6, 5 / 6])


@pytest.mark.parametrize(
    ("limit", "epochs"),
    [("--trainer.max_epochs 4 --trainer.accumulate_grad_batches 2", 4), ("--trainer.max_steps 8", 3)],
)
def test_schedule_by_epochs_is_as_long_as_the_training(limit: str, epochs: int, tmp_path: Path) -> None:
    common = ("--trainer.max_epochs", "-1", "--data.batch_size", "20", "--trainer.log_every_n_steps", "1")
    schedule = ("--model.scheduler", "n2n.schedules.OneCycle")
    assert fit(*common, *limit.split(), *schedule, root=write_course(tmp_path / "data")) == 0
    cycle = OneCycle(torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]))
    assert rates("run") == pytest.approx([1e-3 * cycle.factor(epoch / epochs) for epoch in range(epochs)])


TIMED = ("--trainer.max_epochs", "-1", "--trainer.max_time", "00:00:00:05")


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("--model.scheduler n2n.schedules.OneCycle", "the scheduler OneCycle"),
        ("--model.loss n2n.losses.AnnealedL0", "the loss AnnealedL0"),
    ],
)
def test_what_needs_an_end_is_refused_without_one(
    what: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_course(tmp_path / "data")
    assert fit(*TIMED, *what.split(), root=root) == 2
    assert f"{name} needs an end: set --trainer.max_epochs or --trainer.max_steps" in capsys.readouterr().err


@pytest.mark.usefixtures("half_a_second_a_step")
def test_nothing_else_needs_an_end(tmp_path: Path) -> None:
    assert fit(*TIMED, root=write_course(tmp_path / "data")) == 0
