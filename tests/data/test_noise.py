"""The noise of training pairs, as a checkpoint describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from n2n import Denoiser
from n2n.cli import main
from n2n.data.corruption import Camera, Corruption, Gaussian, PoissonGaussian, SampleCells, SensorNoise
from n2n.data.noise import PairNoise, TrainedNoise
from n2n.errors import InputError
from tests.conftest import write_photos
from tests.write_checkpoints import same, write_checkpoint

PLAIN = TrainedNoise((None, (0.1, 0.2), *[None] * 6), (-0.02, 0.02)).plain()


def scenes(side: int, count: int = 64) -> Tensor:
    """Draw count×3×side×side images of which a part is flat and a part is textured."""
    generator = torch.Generator().manual_seed(0)
    texture = torch.rand((count, 3, side, side), generator=generator)
    level = 0.3 + 0.4 * torch.rand((count, 1, 1, 1), generator=generator)
    right = torch.arange(side) >= side // 2
    return torch.where(right, level + 0.3 * (texture - 0.5), level)


def described(corruption: Corruption, side: int = 64) -> TrainedNoise:
    generator, noise = torch.Generator().manual_seed(1), PairNoise()
    clean = scenes(side, 256)
    noise.add(*corruption.pair(clean, generator)[:2])
    found = noise.describe()
    assert found is not None
    assert TrainedNoise.from_plain(found.plain()) == found
    return found


def test_white_noise_of_one_level() -> None:
    found = described(Gaussian(25))
    for span in (one for one in found.sigma if one is not None):
        assert span == pytest.approx((25 / 255, 25 / 255), rel=0.1)
    assert not found.at_edges
    assert -0.1 < found.neighbours[0] <= found.neighbours[1] < 0.1


def test_the_weakest_and_the_strongest_noise_are_described() -> None:
    for span in (one for one in described(SensorNoise((10, 40), 0.0)).sigma if one is not None):
        assert span == pytest.approx((10.6 / 255, 39.4 / 255), rel=0.15)


def test_photon_noise_grows_with_brightness() -> None:
    found = described(PoissonGaussian(30, 0))
    dark, bright = found.sigma[2], found.sigma[5]
    assert dark is not None
    assert bright is not None
    assert dark[1] < bright[0]
    assert dark == pytest.approx((0.1, 0.1), rel=0.25)
    assert not found.at_edges


def test_noise_of_cameras_is_correlated() -> None:
    found = described(Camera(quality=95.0))
    assert found.neighbours[1] > 0.5
    assert not found.at_edges


def test_pixel_sampling_makes_noise_at_edges() -> None:
    found = described(SampleCells(8), side=256)
    assert found.at_edges
    assert found.neighbours[1] < 0.2


def test_few_or_small_pairs_are_not_described() -> None:
    noise = PairNoise()
    clean = scenes(64)
    noise.add(clean[:31], clean[:31].flip(0))
    assert noise.describe() is None
    noise.add(clean[..., :15], clean[..., :15])
    noise.add(clean, clean)
    noise.add(clean, torch.full_like(clean, torch.nan))
    assert noise.describe() is None
    # More than 512 pairs are not looked at.
    assert not noise.complete
    noise.add(*torch.zeros(2, 512, 1, 16, 16))
    assert noise.complete


@pytest.mark.parametrize(
    "change",
    [
        {"sigma": None},
        {"sigma": [[0.1, 0.2]] * 7},
        {"sigma": [[0.2, 0.1]] * 8},
        {"sigma": [[0.1, float("nan")]] * 8},
        {"sigma": [[0.1, float("inf")]] * 8},
        {"sigma": [["a", "b"]] * 8},
        {"sigma": [torch.zeros(2)] * 8},
        {"sigma": torch.zeros(8, 2)},
        {"neighbours": [0, 2]},
        {"neighbours": [10**400, 10**401]},
        {"neighbours": [True, True]},
        {"at_edges": 1},
        {"more": 1},
    ],
)
def test_hostile_descriptions_are_refused(change: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    for noise in (PLAIN | change, [PLAIN]):
        with pytest.raises(InputError, match="the checkpoint describes its noise in another way"):
            TrainedNoise.from_plain(noise)
    write_checkpoint("x.ckpt", same, noise=PLAIN | change)
    write_photos(Path("photos"), 1, (32, 32))
    command = ["predict", "--ckpt_path", "x.ckpt", "--input", "photos", "--output", "out", "--device", "cpu"]
    assert main(command) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "the checkpoint describes its noise in another way" in lines[0]


def test_descriptions_of_older_checkpoints_are_read() -> None:
    assert TrainedNoise.from_plain(PLAIN | {"second": [-0.1, 0.1]}) == TrainedNoise.from_plain(PLAIN)


def test_checkpoints_without_a_description_say_nothing() -> None:
    assert TrainedNoise.from_plain(None) is None
    assert Denoiser.from_checkpoint(write_checkpoint("x.ckpt", same), device="cpu").noise is None


def test_the_checkpoints_that_ship_are_described() -> None:
    for name in ("course", "quick"):
        noise = Denoiser.from_checkpoint(name, device="cpu").noise
        assert noise is not None
        assert noise.at_edges
        assert noise.neighbours[1] < 0.1
