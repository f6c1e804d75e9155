"""The pretended device refuses what the real ones refuse, and does the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.devices import pretend
from tests.devices.target import Target

DEVICE = pretend.NAME


@pytest.fixture(autouse=True)
def _pretended(target: Target) -> None:
    if not target.pretended:
        pytest.skip("a real device")


def ones(*shape: int, **options: Any) -> torch.Tensor:
    return torch.ones(shape, device=DEVICE, **options)


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "sum": (lambda: ones(3) + torch.ones(3), "at least two devices"),
    "in place": (lambda: ones(3).mul_(torch.ones(3)), "at least two devices"),
    "convolution": (lambda: torch.conv2d(ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3)), "at least two devices"),
    "where": (lambda: torch.where(torch.ones(3) > 0, ones(3), ones(3)), "at least two devices"),
    "cat": (lambda: torch.cat([ones(3), torch.ones(3)]), "at least two devices"),
    "gather": (lambda: ones(3).gather(0, torch.tensor([1])), "at least two devices"),
    "index_select": (lambda: ones(3).index_select(0, torch.tensor([1])), "at least two devices"),
    "index of the CPU": (lambda: torch.ones(3)[torch.tensor([1]).to(DEVICE)], "at least two devices"),
    "index_put": (lambda: ones(3).index_put_((torch.tensor([1]),), torch.ones(1)), "at least two devices"),
    "loss": (lambda: torch.nn.functional.mse_loss(ones(3), torch.ones(3)), "at least two devices"),
    "module": (lambda: torch.nn.Linear(3, 3)(ones(3)), "at least two devices"),
    "numpy": (lambda: ones(3).numpy(), "can't convert"),
    "asarray": (lambda: np.asarray(ones(3)), "can't convert"),
    "pinning": (lambda: ones(3).pin_memory(), "only dense CPU tensors can be pinned"),
    "CPU generator": (lambda: torch.rand(3, device=DEVICE, generator=torch.Generator()), "for generator"),
    "CPU generator, normal": (lambda: ones(3).normal_(generator=torch.Generator()), "for generator"),
    "CPU generator, poisson": (lambda: torch.poisson(ones(3), generator=torch.Generator()), "for generator"),
    "device generator": (lambda: torch.rand(3, generator=torch.Generator(DEVICE)), "for generator"),
    "device generator, permutation": (lambda: torch.randperm(3, generator=torch.Generator(DEVICE)), "for generator"),
    "fused step": (lambda: fused_step(torch.zeros(())), "at least two devices"),
}
# By profile.
CUDA: dict[str, Callable[[], object]] = {
    "index": lambda: torch.zeros(3, dtype=torch.uint16).to(DEVICE)[torch.tensor([0])],
    "subtract": lambda: torch.zeros(3, dtype=torch.uint16).to(DEVICE) - 1,
    "maximum": lambda: torch.zeros(3, dtype=torch.uint16).to(DEVICE).max(),
    "wider": lambda: torch.zeros(3, dtype=torch.uint32).to(DEVICE) * 2,
}
MPS: dict[str, Callable[[], object]] = {
    "make": lambda: ones(3, dtype=torch.float64),
    "cast": lambda: ones(3).double(),
    "move": lambda: torch.ones(3, dtype=torch.float64).to(DEVICE),
    "number": lambda: torch.tensor(1.0, dtype=torch.float64, device=DEVICE),
}
ALLOWED: dict[str, Callable[[], object]] = {
    "number of the CPU": lambda: ones(3) * torch.tensor(2.0),
    "index of the CPU": lambda: ones(3)[torch.tensor([1])],
    "copy": lambda: torch.ones(3).copy_(ones(3)),
    "to and from": lambda: torch.ones(3).to(DEVICE).cpu().numpy(),
    "list": lambda: ones(3).tolist(),
    "item": lambda: float(ones(3).sum()),
    "own generator": lambda: torch.rand(3, device=DEVICE, generator=torch.Generator(DEVICE)),
    "uint16 cast": lambda: torch.zeros(3, dtype=torch.uint16).to(DEVICE).float(),
    "uint16 view": lambda: torch.zeros(3, dtype=torch.uint16).to(DEVICE).view(torch.int16)[torch.tensor([0])],
    "float64 of the CPU": lambda: ones(3).cpu().double(),
    "pinning of the CPU": lambda: torch.ones(3).pin_memory().to(DEVICE),
    "fused step": lambda: fused_step(ones()),
}


def fused_step(steps: torch.Tensor) -> None:
    weight = ones(3)
    torch._fused_adam_(
        *([weight], [ones(3)], [ones(3)], [ones(3)], [], [steps]),
        lr=0.1,
        beta1=0.9,
        beta2=0.9,
        weight_decay=0.0,
        eps=1e-8,
        amsgrad=False,
        maximize=False,
    )


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    run, message = REFUSED[name]
    with pytest.raises((RuntimeError, TypeError), match=message):
        run()


@pytest.mark.parametrize("name", [*CUDA, *MPS])
def test_dtypes(name: str, target: Target) -> None:
    refused = CUDA if target.name.endswith("cuda") else MPS
    if name not in refused:
        pytest.skip("another device refuses this")
    with pytest.raises((NotImplementedError, TypeError), match=r"not implemented|float64"):
        refused[name]()


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(name: str) -> None:
    ALLOWED[name]()


def test_autocast() -> None:
    layer, images = torch.nn.Conv2d(1, 2, 3).to(DEVICE), ones(1, 1, 8, 8)
    with torch.autocast(DEVICE, torch.bfloat16):
        out = layer(images)
        assert out.dtype == torch.bfloat16
        loss = torch.nn.functional.mse_loss(out, torch.zeros_like(out))
        assert loss.dtype == torch.float32
        assert torch.cat([out, images[..., :6, :6].expand_as(out)]).dtype == torch.float32
    torch.autograd.backward(loss)
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    assert layer.weight.grad.device.type == DEVICE
    assert layer(images).dtype == torch.float32


def test_out_of_memory() -> None:
    with pretend.out_of_memory(100):
        ones(25)
        with pytest.raises(torch.OutOfMemoryError):
            ones(26)
    ones(26)


def test_saved_as_a_tensor_of_the_cpu(tmp_path: Any) -> None:
    torch.save(ones(3), tmp_path / "x.pt")
    assert type(torch.load(tmp_path / "x.pt", weights_only=True)) is torch.Tensor
