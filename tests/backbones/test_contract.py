"""What every backbone must do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from n2n import Denoiser, backbones
from n2n.backbones.spec import build, describe
from n2n.errors import InputError
from tests.conftest import fit, write_course


def _block(c: int) -> int:
    """Count a NAFBlock: five 1×1 convolutions, the depthwise one, two norms and two scales."""
    return (2 + 1 + 1 + 2 + 1) * c * c + (2 + 1 + 1 + 2 + 1) * c + 2 * c * 10 + 4 * c + 2 * c


# Weights and biases, by hand from Table I and from the papers.
PARAMETERS = {
    "Model1": 32 * 128 + 128 + 128 * 32 + 32,
    "Model2": 2 * 27 * 32 + 32 + 3,
    "Model2v1": 2 * 27 * 32,
    "Model2v2": 2 * 27 * 32,
    "Model3": 2 * 27 * 32 + 32 + 3 + 2 * 32,
    "Model4": 2 * 27 * 64 + 64 + 3,
    "Model5": 2 * 27 * 128 + 128 + 3,
    "Model6": 2 * 27 * 32 + 2 * 9 * 32 * 128 + 32 + 128 + 32 + 3,
    "ModelPooling": 2 * 27 * 32 + 2 * 9 * 32 * 128 + 4 * 32 * 32,
    "ModelFinal": 100_224 + 64 + 48 + 48 + 48 + 64 + 3,
    # Down, up (from 96, three times from 144), and the head.
    "UNet": (27 * 48 + 48)
    + 6 * (9 * 48 * 48 + 48)
    + 4 * (9 * 96 * 96 + 96)
    + (9 * 96 * 96 + 96)
    + 3 * (9 * 144 * 96 + 96)
    + (9 * 99 * 64 + 64)
    + (9 * 64 * 32 + 32)
    + (9 * 32 * 3 + 3),
    "DnCNN": 27 * 64 + 64 + 15 * (9 * 64 * 64 + 2 * 64) + 27 * 64,
    "NAFNet": 2 * _block(32)
    + 2 * _block(64)
    + 4 * _block(128)
    + (27 * 32 + 32)
    + (27 * 32 + 3)
    + (4 * 32 * 64 + 64)
    + (4 * 64 * 128 + 128)
    + (128 * 256 + 64 * 128),
}
FAMILIES = ("UNet", "DnCNN", "NAFNet")


def make(name: str) -> nn.Module:
    network: nn.Module = getattr(backbones, name)()
    return network


def test_all_are_swept() -> None:
    assert sorted(PARAMETERS) == sorted(backbones.__all__)


@pytest.mark.parametrize("name", PARAMETERS)
def test_contract(name: str) -> None:
    network = make(name)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]
    sizes = [(32, 32), (33, 32)] if name == "Model1" else [(32, 32), (33, 47), (7, 5), (1, 40), (1, 1)]
    for size in sizes:
        x = torch.rand(2, 3, *size)
        assert network(x).shape == x.shape
    network(torch.rand(2, 3, 32, 32)).square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("name", PARAMETERS)
def test_description_builds_the_same_network(name: str) -> None:
    network = make(name).eval()
    again = build(describe(network)).eval()
    again.load_state_dict(network.state_dict())
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(network(x), again(x))


def test_channels_can_be_chosen() -> None:
    for name in PARAMETERS.keys() - {"Model1"}:
        assert getattr(backbones, name)(channels=1)(torch.rand(1, 1, 9, 9)).shape == (1, 1, 9, 9)
        assert getattr(backbones, name)(5).eval()(torch.rand(1, 5, 6, 3)).shape == (1, 5, 6, 3)


@pytest.mark.parametrize("name", FAMILIES)
def test_training_in_bfloat16_learns(name: str) -> None:
    torch.manual_seed(0)
    network = make(name).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    clean = nn.functional.interpolate(torch.rand(4, 3, 3, 3), (17, 22), mode="bilinear")
    noisy = (clean + 0.1 * torch.randn_like(clean)).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(15):
        with torch.autocast("cpu", torch.bfloat16):
            denoised = network(noisy)
        loss = nn.functional.mse_loss(denoised.float(), clean)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    # The order of the values in memory goes through the network unchanged: nothing is copied from layer to layer.
    assert denoised.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        coarse = network(noisy).float()
    with torch.no_grad():
        assert float((coarse - network(noisy)).abs().mean()) < 0.02


@pytest.mark.parametrize("name", FAMILIES)
def test_config_trains_on_grey_images(name: str, tmp_path: Path) -> None:
    root = write_course(tmp_path / "data", size=(1, 32, 32))
    assert fit("--config", f"{name.lower()}.yaml", "--name", name, "--trainer.max_epochs", "1", root=root) == 0
    denoiser = Denoiser.from_checkpoint(f"lightning_logs/{name}/version_0/checkpoints/best.ckpt", "cpu")
    assert type(denoiser.backbone).__name__ == name
    assert denoiser.backbone.channels == 1
    assert denoiser.denoise(torch.rand(2, 3, 21, 34)).shape == (2, 3, 21, 34)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("UNet", {"depth": 0}, "UNet's depth is 0: expected at least 1"),
        ("DnCNN", {"depth": 1}, "DnCNN's depth is 1: expected at least 2"),
        ("NAFNet", {"window": 31}, "NAFNet's window is 31: expected at least 32"),
        ("NAFNet", {"enc_blocks": [1, 1], "dec_blocks": [1]}, r"enc_blocks are \[1, 1\] and its dec_blocks \[1\]"),
    ],
)
def test_depths_that_make_no_network_are_refused(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        getattr(backbones, name)(**arguments)
