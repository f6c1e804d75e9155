"""Means and variances against theory, within five standard errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from n2n.data.corruption import (
    Bernoulli,
    Corruption,
    Gaussian,
    Impulse,
    PixelSampling,
    Poisson,
    PoissonGaussian,
    SampleCells,
    SensorNoise,
    TextOverlay,
    base,
)

DRAWS = 20_000
VALUES = torch.tensor([0.0, 0.1, 0.5, 1.0])


def draws(corruption: Corruption, seed: int = 1) -> Tensor:
    """Draw each of four grey values many times: 4×DRAWS."""
    clean = VALUES[:, None, None, None].expand(4, 1, 100, DRAWS // 100)
    return corruption(clean, torch.Generator().manual_seed(seed)).flatten(1)


def assert_moments(noisy: Tensor, mean: Tensor, variance: Tensor) -> None:
    noisy, n = noisy.double(), noisy.shape[1]
    assert ((noisy.mean(1) - mean).abs() <= 5 * noisy.std(1) / n**0.5 + 1e-7).all()
    squares = (noisy - mean[:, None]).square()
    assert ((squares.mean(1) - variance).abs() <= 5 * squares.std(1) / n**0.5 + 1e-7).all()


@pytest.mark.parametrize(
    ("corruption", "variance"),
    [
        (Gaussian(25.0), torch.full((4,), (25 / 255) ** 2)),
        (Poisson(30.0), VALUES / 30),
        (Poisson(0.5), VALUES / 0.5),
        (PoissonGaussian(30.0, 25.0), VALUES / 30 + (25 / 255) ** 2),
        (SensorNoise(25.0, 0.0), torch.full((4,), (25 / 255) ** 2)),
        (SensorNoise(25.0, 1.0), 2 * VALUES * (25 / 255) ** 2),
        (SensorNoise(25.0, 0.3), (0.7 + 0.6 * VALUES) * (25 / 255) ** 2),
        (Bernoulli(0.2), VALUES.square() * 0.8 / 0.2),
        (Bernoulli(1.0), torch.zeros(4)),
    ],
    ids=str,
)
def test_zero_mean_and_the_stated_variance(corruption: Corruption, variance: Tensor) -> None:
    assert corruption.zero_mean
    assert_moments(draws(corruption), VALUES, variance)


def test_impulse() -> None:
    # A mixture of x and a uniform number: its second moment is (1 − p)·x² + p/3.
    p = 0.3
    noisy, mean = draws(Impulse(p)), (1 - p) * VALUES + p / 2
    assert_moments(noisy, mean, (1 - p) * VALUES.square() + p / 3 - mean.square())
    kept = (noisy == VALUES[:, None]).double().mean(1)
    assert ((kept - (1 - p)).abs() < 5 * (p * (1 - p) / DRAWS) ** 0.5 + 1e-3).all()
    assert torch.equal(draws(Impulse(0.0)), VALUES[:, None].expand(4, DRAWS))


@pytest.mark.parametrize(
    "corruption", [Gaussian(25.0), Poisson(30.0), PoissonGaussian(30.0, 25.0), Bernoulli(0.5)], ids=str
)
def test_nothing_is_clipped(corruption: Corruption) -> None:
    noisy = draws(corruption)
    assert noisy.max() > 1
    assert (noisy.min() < 0) == ("Gaussian" in type(corruption).__name__)


def test_both_views_of_sensor_noise_have_one_strength() -> None:
    clean = torch.full((40, 1, 100, 100), 0.5)
    views = SensorNoise((0.0, 50.0), (0.0, 1.0)).pair(clean, torch.Generator().manual_seed(0))[:2]
    one, other = (view.std((1, 2, 3)) for view in views)
    assert torch.allclose(one, other, rtol=0.08)
    assert one.max() > 4 * one.min()
    noise = [view - clean for view in views]
    assert abs(float((noise[0] * noise[1]).mean())) < 1e-4
    # Without noise the image is as good as unchanged.
    quiet = SensorNoise(0.0, 1.0)(clean, torch.Generator().manual_seed(0))
    assert (quiet - clean).abs().max() < 0.5 / 255


def test_each_image_draws_its_level() -> None:
    N = 300
    noisy = Gaussian((10.0, 50.0))(torch.full((N, 1, 100, 100), 0.5), torch.Generator().manual_seed(1))
    sigma = noisy.std((1, 2, 3)) * 255
    # Each estimate is within 5 · sigma / √(2·10,000) of its sigma.
    assert sigma.min() > 10 * 0.96
    assert sigma.max() < 50 * 1.04
    assert (sigma.mean() - 30).abs() < 5 * 40 / 12**0.5 / N**0.5
    assert (sigma.std() - 40 / 12**0.5).abs() < 2

    keep = (Bernoulli((0.1, 0.9))(torch.ones(N, 1, 100, 100), None) > 0).float().mean((1, 2, 3))
    assert keep.min() < 0.2 < 0.8 < keep.max()
    # Black stays black and white has variance 1 / peak.
    variance = Poisson((1.0, 2.0))(torch.ones(N, 1, 100, 100), None).var((1, 2, 3))
    assert 0.45 < variance.min() < 0.6 < 0.85 < variance.max() < 1.1


@pytest.mark.parametrize("corruption", [Bernoulli(0.5), Impulse(0.5), TextOverlay(0.5)], ids=str)
def test_a_pixel_is_hit_in_all_channels_or_none(corruption: Corruption) -> None:
    clean = torch.full((2, 3, 64, 64), 0.3)
    hit = corruption(clean, torch.Generator().manual_seed(1)) != clean
    if isinstance(corruption, Bernoulli):
        hit = corruption(clean, torch.Generator().manual_seed(1)) == 0
    assert torch.equal(hit.all(1), hit.any(1))
    assert 0.3 < hit.float().mean() < 0.7


def test_text_covers_up_to_the_fraction() -> None:
    clean = torch.full((20, 3, 128, 96), 0.5)
    for p in (0.0, 0.25, 0.5, 0.9):
        covered = (TextOverlay(p, (6, 12))(clean, torch.Generator().manual_seed(2)) != clean).any(1).float()
        # Within one string, whose letters are at most 12 of about 60 pixels.
        assert (covered.mean((1, 2)) <= p).all()
        assert (covered.mean((1, 2)) > p - 720 / (128 * 96)).all()
    fractions = (TextOverlay((0.1, 0.5), (6, 12))(clean, None) != clean).any(1).float().mean((1, 2))
    assert fractions.max() - fractions.min() > 0.1
    assert torch.equal(TextOverlay(0.0)(clean, None), clean)


def test_text_favours_no_part_of_the_image() -> None:
    clean = torch.full((400, 1, 48, 48), 0.5)
    covered = (TextOverlay(0.4, (6, 10))(clean, torch.Generator().manual_seed(1)) != clean).float()[:, 0]
    thirds = covered.view(400, 3, 16, 3, 16).mean((2, 4))
    error = thirds.std(0) / 400**0.5
    assert ((thirds.mean(0) - covered.mean()).abs() < 5 * error).all()


def test_text_has_strings_of_one_colour() -> None:
    noisy = TextOverlay(0.3, (12, 12))(torch.full((1, 3, 64, 64), 0.5), torch.Generator().manual_seed(1))
    colours, counts = torch.unique(noisy.flatten(2)[0], dim=1, return_counts=True)
    assert 3 < colours.shape[1] < 40
    assert counts.max() > 64 * 64 * 0.7 - 1  # the image
    assert noisy.min() >= 0
    assert noisy.max() <= 1


def test_cells_are_those_of_pixel_sampling() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    image = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    corruption = SampleCells(8)
    assert corruption.scale == 8
    clean = corruption.clean(image)
    assert clean.shape == (1, 3, 4, 6)
    corners = np.array([[0, 0], [0, 16]])
    rounded = torch.from_numpy(PixelSampling(crop=32, cell=8).clean(photo, corners))
    assert torch.equal((clean[0, :, :, :4] * 255).round().byte(), rounded[0])
    assert torch.equal((clean[0, :, :, 2:] * 255).round().byte(), rounded[1])

    noisy = corruption(image.expand(5000, -1, -1, -1), torch.Generator().manual_seed(1))
    cells = image.view(3, 4, 8, 6, 8).permute(1, 3, 0, 2, 4).flatten(3)
    for row, column in np.ndindex(4, 6):
        # All channels of a pick come from one pixel of its cell, and every pixel of the cell is picked.
        same = (noisy[:, :, row, column, None] == cells[row, column]).all(1)
        assert same.any(1).all()
        assert same.any(0).all()
    picked = noisy.flatten(1).T
    assert_moments(picked, clean.flatten().double(), cells.double().var(3, correction=0).permute(2, 0, 1).flatten())


def test_photons_are_counted_where_pytorch_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "WITHOUT_POISSON", {"cpu"})
    clean, generator = torch.full((4, 1, 100, 100), 0.5), torch.Generator().manual_seed(3)
    first, second = (Poisson(30.0)(clean, generator) for _ in range(2))
    assert first.mean().item() == pytest.approx(0.5, abs=0.005)
    assert first.var().item() == pytest.approx(0.5 / 30, rel=0.05)
    both = torch.stack([first.flatten(), second.flatten()])
    assert abs(torch.corrcoef(both)[0, 1].item()) < 0.02
    assert torch.equal(Poisson(30.0)(clean, generator.manual_seed(3)), first)
