from __future__ import annotations

import math

import pytest
import torch

from n2n.metrics import PSNR, BlindPSNR, PSNRPerImage, psnr_from_mse, t95


def test_psnr_is_the_papers_formula() -> None:
    images, clean = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    images[0] += 0.1
    whole, single = PSNR(), PSNRPerImage()
    whole.update(images, clean)
    single.update(images, clean)
    assert whole.compute().item() == pytest.approx(-10 * math.log10(0.005 + 1e-8), abs=1e-4)
    # 20 dB for the first image, and for the identical one what the epsilon leaves: 80 dB.
    assert single.compute().item() == pytest.approx(50.0, abs=1e-3)
    assert psnr_from_mse(torch.tensor(0.0)).item() == pytest.approx(80.0)


def test_batches_do_not_matter() -> None:
    images, clean = torch.rand(2, 50, 3, 8, 8)
    for kind in (PSNR, PSNRPerImage):
        whole, parts = kind(), kind()
        whole.update(images, clean)
        for part, other in zip(images.split(7), clean.split(7), strict=True):
            parts.update(part, other)
        assert whole.compute().item() == pytest.approx(parts.compute().item(), abs=1e-4)


def test_what_is_scored_is_clipped() -> None:
    metric = PSNR()
    metric.update(torch.full((1, 1, 2, 2), 1.5), torch.ones(1, 1, 2, 2))
    assert metric.compute().item() == pytest.approx(80.0)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="images are"):
        PSNR().update(torch.rand(2, 3, 4, 4), torch.rand(2, 1, 4, 4))


def noisy_pairs(
    images: int, first_sigma: float, second_sigma: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(images, 3, 64, 64, generator=generator)
    first, second = (
        clean + sigma * torch.randn(clean.shape, generator=generator) for sigma in (first_sigma, second_sigma)
    )
    return clean, first, second


def test_blind_psnr_is_the_true_one_also_for_unequal_noise() -> None:
    clean, first, second = noisy_pairs(40, 0.1, 0.2)
    denoised = [0.3 * clean.mean((2, 3), keepdim=True) + 0.6 * x for x in (first, second)]
    blind, true = BlindPSNR(), PSNR()
    for part in range(0, 40, 7):
        views = [x[part : part + 7] for x in (first, second, *denoised)]
        blind.update(views[0], views[1], views[2], views[3])
    for x in denoised:
        true.update(x, clean)
    estimate = blind.compute()
    assert estimate.psnr.item() == pytest.approx(true.compute().item(), abs=0.02)
    assert estimate.low < true.compute() < estimate.high
    assert estimate.high - estimate.low < 0.5
    # Mean of the two variances: 0.025.
    assert estimate.noisy.item() == pytest.approx(-10 * math.log10(0.025), abs=0.05)
    assert str(estimate).startswith(f"{estimate.psnr:.2f} dB (95 % interval {estimate.low:.2f} dB to")


def test_blind_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(1)
    covered = 0
    for _ in range(60):
        clean = torch.full((20, 1, 16, 16), 0.5)
        first, second = (clean + 0.1 * torch.randn(clean.shape, generator=generator) for _ in range(2))
        blind = BlindPSNR()
        # The error varies from image to image.
        bias = torch.rand(20, 1, 1, 1, generator=generator) * 0.2
        blind.update(first, second, clean + bias, clean + bias)
        estimate = blind.compute()
        # Of what the images are drawn from: the mean of the square of a uniform number.
        covered += bool(estimate.low < -10 * math.log10(0.04 / 3) < estimate.high)
    # 57 expected of 60.
    assert covered >= 53


def test_blind_psnr_says_when_it_cannot_say() -> None:
    clean, first, second = noisy_pairs(5, 0.5, 0.5)
    perfect = BlindPSNR()
    perfect.update(first, second, clean, clean + 0.01)
    assert perfect.compute().high == float("inf")
    few = BlindPSNR()
    few.update(first[:4], second[:4], clean[:4] + 0.3, clean[:4] + 0.3)
    assert math.isnan(few.compute().low)
    assert "from 4 scenes; an interval needs at least 5: hold out more" in str(few.compute())
    worse = BlindPSNR()
    # Outputs with the other view's noise in them are no outputs of a network: the estimate is negative.
    worse.update(first, second, second, first)
    assert "the estimated error is not positive" in str(worse.compute())
    single = BlindPSNR()
    single.update(first[:1], second[:1], clean[:1] + 0.3, clean[:1] + 0.3)
    assert "(from 1 scene; an interval needs" in str(single.compute())


def test_images_of_one_scene_count_once() -> None:
    _, first, second = noisy_pairs(40, 0.1, 0.1)
    biases = torch.tensor([0.1, 0.15, 0.2, 0.25, 0.3]).repeat_interleave(8)[:, None, None, None]
    apart, together = BlindPSNR(), BlindPSNR()
    for i in range(40):
        views = first[i : i + 1], second[i : i + 1], first[i : i + 1] * 0 + biases[i], second[i : i + 1] * 0 + biases[i]
        apart.update(*views)
        together.update(*views, scene=i // 8)
    one, other = apart.compute(), together.compute()
    assert one.psnr == other.psnr
    # Five scenes say less than forty.
    assert other.high - other.low > 3 * (one.high - one.low)


def test_the_interval_is_students_over_scenes_weighted_by_their_size() -> None:
    errors, noises = torch.linspace(0.02, 0.07, 6), torch.linspace(0.03, 0.01, 6)
    sizes = torch.tensor([16.0, 8.0, 8.0, 16.0, 8.0, 16.0])
    blind = BlindPSNR()
    for error, noise, size in zip(errors, noises, sizes, strict=True):
        clean = torch.full((1, 1, 4, int(size)), 0.5)
        # Two views that differ by twice a constant have this noise, and outputs off by another constant have this error.
        step, bias = (noise / 2).sqrt(), (error + noise / 2).sqrt()
        blind.update(clean + step, clean - step, clean + bias, clean + bias)
    found = blind.compute()
    weights = sizes / sizes.sum()
    mse = (weights * errors).sum()
    half = 2.571 * (6 / 5 * (weights * (errors - mse)).square().sum()).sqrt()
    expected = (mse, mse + half, mse - half, (weights * noises).sum())
    for figure, value in zip((found.psnr, found.low, found.high, found.noisy), expected, strict=True):
        assert figure.item() == pytest.approx(-10 * math.log10(value), abs=1e-4)


@pytest.mark.parametrize(("freedom", "value"), [(1, 12.706), (5, 2.571), (11, 2.201), (30, 2.042), (1000, 1.962)])
def test_t_is_students(freedom: int, value: float) -> None:
    assert t95(freedom) == pytest.approx(value, abs=0.003)


def test_larger_images_count_more_for_the_whole() -> None:
    whole, single = PSNR(), PSNRPerImage()
    for side, error in ((10, 0.1), (20, 0.2)):
        for metric in (whole, single):
            metric.update(torch.full((1, 1, side, side), error), torch.zeros(1, 1, side, side))
    assert whole.compute().item() == pytest.approx(-10 * math.log10((0.01 + 4 * 0.04) / 5), abs=1e-4)
    assert single.compute().item() == pytest.approx((20 - 10 * math.log10(0.04)) / 2, abs=1e-4)
