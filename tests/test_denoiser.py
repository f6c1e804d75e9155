from __future__ import annotations

from pathlib import Path

import pytest
import torch

from n2n import Denoiser, DenoisingModule, backbones
from n2n.errors import InputError


@pytest.mark.parametrize("name", ["Model2", "Model6", "ModelPooling", "ModelFinal"])
def test_tiles_leave_no_trace(name: str) -> None:
    torch.manual_seed(0)
    network = getattr(backbones, name)()
    noisy = torch.rand(1, 3, 150, 131)
    whole = Denoiser(network, 3, "cpu").denoise(noisy)
    tiled = Denoiser(network, 3, "cpu", tile=48, overlap=16).denoise(noisy)
    assert torch.allclose(whole, tiled, atol=1e-5)


def test_grey_and_colour_meet() -> None:
    colour, grey = Denoiser(backbones.Model2(), 3, "cpu"), Denoiser(backbones.Model2(1), 1, "cpu")
    assert colour.denoise(torch.rand(2, 1, 9, 9)).shape == (2, 1, 9, 9)
    noisy = torch.rand(1, 3, 9, 9)
    assert torch.allclose(grey.denoise(noisy)[:, 1:2], grey.denoise(noisy[:, 1:2]), atol=1e-6)
    with pytest.raises(InputError, match="3 channels and got 2"):
        colour.denoise(torch.rand(1, 2, 9, 9))


def test_checkpoint_gives_the_trained_network(checkpoint: Path) -> None:
    module = DenoisingModule.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).eval()
    noisy = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        assert torch.allclose(Denoiser.from_checkpoint(checkpoint, "cpu").denoise(noisy), module(noisy), atol=1e-6)


def test_module_built_in_python_can_be_rebuilt() -> None:
    module = DenoisingModule(backbones.ModelFinal(widths=(8,), negative_slope=0.2))
    assert module.hparams["backbone"]["class_path"] == "n2n.backbones.paper.ModelFinal"
    assert module.hparams["backbone"]["init_args"]["negative_slope"] == 0.2


def test_other_files_are_refused() -> None:
    torch.save({"a": 1}, "other.ckpt")
    with pytest.raises(InputError, match="of another kind"):
        Denoiser.from_checkpoint("other.ckpt")
    Path("text.ckpt").write_text("no checkpoint")
    with pytest.raises(InputError, match="damaged or not a PyTorch file"):
        Denoiser.from_checkpoint("text.ckpt")
    with pytest.raises(InputError, match="is not there"):
        Denoiser.from_checkpoint("none.ckpt")
