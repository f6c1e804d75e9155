"""The state of random numbers in a checkpoint. Whole trainings resume in tests/trainer/test_resume.py and in the sweep."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from n2n.module.resume import Resume

STATE = torch.arange(16, dtype=torch.uint8)


def trainer(device: str) -> Any:
    return SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device(device)), train_dataloader=None, optimizers=[]
    )


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, torch.device]]:
    """A GPU with a generator in one state; what is put into it."""
    found: list[tuple[Tensor, torch.device]] = []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda _: STATE)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: found.append((state, device)))
    return found


def test_generator_of_a_gpu_goes_on(restored: list[tuple[Tensor, torch.device]]) -> None:
    resume = Resume()
    resume.load(Resume.save(trainer("cuda:0"), {}))
    resume.restore(trainer("cuda:1"))
    assert restored == [(STATE, torch.device("cuda:1"))]
    # Once: a second training of the same module goes its own way.
    resume.restore(trainer("cuda:1"))
    assert len(restored) == 1


@pytest.mark.parametrize(("saved", "now"), [("cuda:0", "cpu"), ("cpu", "cuda:0")])
def test_another_kind_of_device_goes_on_without(
    saved: str, now: str, restored: list[tuple[Tensor, torch.device]]
) -> None:
    resume = Resume()
    resume.load(Resume.save(trainer(saved), {}))
    resume.restore(trainer(now))
    assert restored == []


def test_checkpoint_of_an_older_version_has_none(restored: list[tuple[Tensor, torch.device]]) -> None:
    state = Resume.save(trainer("cuda:0"), {})
    del state["cuda_random"]
    resume = Resume()
    resume.load(state)
    resume.restore(trainer("cuda:0"))
    assert restored == []
