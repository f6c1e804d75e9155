"""The camera's pipeline: each step against what it is known to do, and the noise that comes out."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from n2n.data.corruption import Camera
from n2n.data.corruption.pipeline import jpeg, linear
from n2n.data.corruption.pipeline.colour import Colours, camera_matrices, process, unprocess
from n2n.data.corruption.pipeline.finish import Finish
from n2n.data.corruption.pipeline.mosaic import METHODS, demosaic, filters, mosaic


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(*shape: int, seed: int = 0) -> Tensor:
    """Return random images without fine detail."""
    noise = torch.rand(*shape[:2], shape[2] // 8 + 2, shape[3] // 8 + 2, generator=seeded(seed))
    return functional.interpolate(noise, shape[2:], mode="bicubic").clamp(0, 1)


def colours(curved: bool) -> Colours:
    matrices = camera_matrices(torch.eye(4), torch.ones(4, 1, 1))
    return Colours(matrices, torch.tensor([2.4, 1.2, 1.9]).view(1, 3, 1, 1), torch.tensor(curved).view(1, 1, 1, 1))


@pytest.mark.parametrize("curved", [True, False])
def test_processing_undoes_unprocessing(curved: bool) -> None:
    # Below the highlights, which saturate.
    images = 0.9 * smooth(4, 3, 32, 32)
    assert (process(unprocess(images, colours(curved)), colours(curved)) - images).abs().max() < 1e-3
    white = torch.ones(4, 3, 2, 2)
    light = unprocess(white, colours(curved))
    assert (light * colours(curved).gains).min() > 1.1
    assert torch.allclose(process(light, colours(curved)), white, atol=1e-5)


def test_colour_matrices_keep_grey() -> None:
    matrices = camera_matrices(torch.eye(4), torch.tensor([0.0, 0.5, 1.0, 1.0]).view(4, 1, 1))
    assert torch.allclose(matrices.sum(-1), torch.ones(4, 3), atol=1e-6)
    assert torch.equal(matrices[0], torch.eye(3))


@pytest.mark.parametrize("method", range(len(METHODS)), ids=list(METHODS))
def test_demosaicing_keeps_constants_and_ramps(method: int) -> None:
    places = filters(torch.arange(4), 16, 20)
    assert torch.equal(places.sum(1), torch.ones(4, 16, 20))
    methods = torch.full((4,), method)
    constant = torch.tensor([0.2, 0.5, 0.7]).view(1, 3, 1, 1).expand(4, 3, 16, 20)
    assert torch.allclose(demosaic(mosaic(constant, places), places, methods), constant, atol=1e-6)
    ramp = (torch.arange(16.0)[:, None] / 16 + torch.arange(20.0) / 40).expand(4, 3, 16, 20)
    made = demosaic(mosaic(ramp, places), places, methods)
    assert torch.allclose(made[..., 2:-2, 2:-2], ramp[..., 2:-2, 2:-2], atol=1e-6)


@pytest.mark.parametrize("quality", [30, 70, 98])
@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_agrees_with_pillow(quality: int, halved: bool, channels: int) -> None:
    pixels = (smooth(1, channels, 64, 80) * 255).round().byte()
    file = io.BytesIO()
    array = pixels[0].permute(1, 2, 0).squeeze(-1).numpy()
    Image.fromarray(array).save(file, "JPEG", quality=quality, subsampling=2 if halved else 0)
    theirs = torch.from_numpy(np.asarray(Image.open(file)).reshape(64, 80, channels).copy()).permute(2, 0, 1)
    ours = jpeg.compress(
        pixels / 255, torch.tensor([quality]), torch.tensor([halved]), torch.zeros(1, 2, dtype=torch.long)
    )
    difference = (ours[0] * 255 - theirs).abs()
    assert difference.mean() < (1.0 if halved else 0.4)
    # A coefficient halfway between two steps may be rounded otherwise, which changes a block.
    assert difference.quantile(0.98) <= (4 if halved else 2) * (2 if quality < 50 else 1)


def test_jpeg_blocks_start_anywhere() -> None:
    images = torch.rand(2, 3, 32, 24, generator=seeded(0))
    offset = torch.tensor([[0, 0], [3, 15]])
    made = jpeg.compress(images, torch.full((2,), 80.0), torch.tensor([False, True]), offset)
    padded = functional.pad(images[1:], (15, 9, 3, 13), mode="replicate")
    whole = jpeg.compress(padded, torch.tensor([80.0]), torch.tensor([True]), torch.zeros(1, 2, dtype=torch.long))
    assert torch.equal(made[1], whole[0, :, 3:35, 15:39])
    assert torch.equal(made[:1], jpeg.compress(images[:1], torch.tensor([80.0]), torch.tensor([False]), offset[:1]))


def test_resampling() -> None:
    scale = torch.tensor([0.7, 1.0, 1.3]).view(3, 1, 1)
    matrices = linear.resampling(scale, 30, 40)
    assert torch.allclose(matrices.sum(-1), torch.ones(3, 40))
    # A ramp stays a ramp away from the edges, with the centres in one place.
    made = (matrices @ (torch.arange(30.0) - 14.5))[:, 14:26]
    assert torch.allclose(made, (torch.arange(14.0, 26) - 19.5) / scale[..., 0], atol=0.15)
    assert torch.equal(matrices[1, 5:35], torch.eye(30))
    # Images of half the size are smoothed: without the wider kernel, 0.64 of the variance of white noise is left.
    halved = linear.resampling(torch.full((1, 1, 1), 0.5), 40, 20)
    assert halved[0, 10].square().sum() < 0.45
    assert torch.allclose(linear.gaussian(torch.zeros(1, 1, 1), 9), torch.eye(9))
    kernel = linear.gaussian(torch.full((1, 1, 1), 2.0), 41)[0, 20]
    assert ((torch.arange(41.0) - 20).square() * kernel).sum().sqrt() == pytest.approx(2, abs=1e-3)


def test_finish() -> None:
    one, none = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
    images = torch.rand(1, 3, 20, 24, generator=seeded(0))
    same = Finish((20, 24), (20, 24), scale=one, luma=none, chroma=none, radius=one, amount=none)
    assert torch.allclose(same(images), images, atol=1e-5)
    grey = images.mean(1, keepdim=True).expand_as(images)
    pale = Finish((20, 24), (20, 24), scale=one, luma=none, chroma=3 * one, radius=one, amount=none)
    assert torch.allclose(pale(grey), grey, atol=1e-4)
    assert (pale(images) - pale(images).mean(1, keepdim=True)).std() < 0.2 * (images - grey).std()
    sharp = Finish((20, 24), (20, 24), scale=one, luma=none, chroma=none, radius=one, amount=one)
    assert sharp(images).std() > 1.3 * images.std()


@pytest.mark.parametrize("channels", [1, 3])
def test_two_views_share_all_but_the_noise(channels: int) -> None:
    images = smooth(64, channels, 32, 32)
    first, second, clean = Camera().pair(images, seeded(1))
    one, other = ((view - clean).flatten(1) for view in (first, second))
    # The same strength, although that of the images differs much: each draws its parameters once.
    strengths = torch.stack([one.std(1), other.std(1)]).log()
    assert torch.corrcoef(strengths)[0, 1] > 0.95
    assert strengths.std() > 0.3
    residues = torch.stack([x - x.mean(1, keepdim=True) for x in (one, other)])
    assert (residues[0] * residues[1]).mean().abs() < 0.1 * residues.square().mean()
    assert (first * 255 - (first * 255).round()).abs().max() < 1e-4
    # Some photographs are left as they are, the others are softer.
    kept = (clean == images).flatten(1).all(1).float().mean()
    assert 0.2 < kept < 0.8
    assert torch.equal(Camera(soft=0.0).pair(images, seeded(1))[2], images)


ALL_STEPS = dict.fromkeys(
    ("tone", "smooth", "resample", "sharpen", "halved", "soft", "colour", "amount", "chroma"), 1.0
)
ALL_STEPS |= {"shot": 0.01, "white_balance": 2.0, "luma": 0.5, "zoom": 0.8, "quality": 80.0, "lens": 0.5}


def test_each_step_counts() -> None:
    images = smooth(1, 3, 32, 32)
    whole = Camera(**ALL_STEPS)(images, seeded(1))
    for name, value in ALL_STEPS.items():
        other = Camera(**ALL_STEPS | {name: 0.0 if value == 1 else 0.9 * value})(images, seeded(1))
        assert not torch.equal(other, whole), name


def test_what_is_clean_keeps_its_place_when_resampled() -> None:
    images = smooth(4, 3, 48, 48)
    camera = Camera(soft=1.0, resample=1.0, zoom=0.8, lens=0.0, smooth=0.0, sharpen=0.0)
    assert (camera.pair(images, seeded(1))[2] - images).abs().mean() < 0.01


def test_filters_and_blocks_start_anywhere() -> None:
    grey = torch.full((80, 3, 24, 24), 0.5)
    plain = {"shot": 0.01, "soft": 0.0, "resample": 0.0, "smooth": 0.0, "sharpen": 0.0}
    # Green has less noise where it is interpolated.
    noise = Camera(quality=98.0, **plain)(grey, seeded(1))[:, 1] - 0.5
    green = noise.square().mean(0).view(12, 2, 12, 2).mean((0, 2))
    assert green.max() < 1.5 * green.min()
    steps = Camera(quality=30.0, **plain)(grey, seeded(1)).diff(dim=3).abs().mean((0, 1, 2))
    edges = torch.stack([steps[start::8].mean() for start in range(8)])
    assert edges.max() < 1.5 * edges.min()


def statistics(noise: Tensor) -> dict[str, Tensor]:
    """Measure noise of N colour images: standard deviations and correlations of each image."""
    noise = noise - noise.mean((2, 3), keepdim=True)
    sigma = noise.square().mean((2, 3)).sqrt()
    unit = noise / sigma[..., None, None]

    def lag(k: int) -> Tensor:
        across, down = unit[..., k:] * unit[..., :-k], unit[..., k:, :] * unit[..., :-k, :]
        return (across.mean((1, 2, 3)) + down.mean((1, 2, 3))) / 2

    between = {f"{a}{b}": (unit[:, a] * unit[:, b]).mean((1, 2)) for a, b in ((0, 1), (1, 2), (0, 2))}
    return {**{f"sigma {c}": 255 * sigma[:, c] for c in range(3)}, **{f"lag {k}": lag(k) for k in (1, 2, 3)}, **between}


# Ranges of the quantiles 10 %, 50 % and 90 %. Three real cameras in low light have medians of 12, 7, 10 (sigma), 0.48, 0.16,
# 0.04 (lags), and 0.0, 0.0, 0.2 (between red and green, green and blue, red and blue).
EXPECTED = {
    "sigma 0": ((2, 6), (9, 16), (20, 40)),
    "sigma 1": ((1, 5), (6, 11), (14, 30)),
    "sigma 2": ((2, 6), (8, 15), (18, 38)),
    "lag 1": ((0.3, 0.5), (0.45, 0.65), (0.6, 0.8)),
    "lag 2": ((-0.02, 0.1), (0.1, 0.25), (0.25, 0.5)),
    "lag 3": ((-0.05, 0.03), (0.0, 0.1), (0.1, 0.3)),
    "01": ((-0.5, 0.0), (-0.1, 0.35), (0.3, 0.8)),
    "12": ((-0.5, 0.0), (-0.1, 0.35), (0.3, 0.8)),
    "02": ((-0.2, 0.15), (0.1, 0.4), (0.4, 0.8)),
}


def test_noise_covers_that_of_real_cameras() -> None:
    # As dim as photographs are.
    images = smooth(100, 3, 56, 56).square()
    first, second, _ = Camera().pair(images, seeded(2))
    measured = statistics((first - second) / 2**0.5)
    for name, ranges in EXPECTED.items():
        for part, (low, high) in zip((0.1, 0.5, 0.9), ranges, strict=True):
            assert low < measured[name].quantile(part) < high, (name, part)


def test_bias_is_small_but_in_black() -> None:
    images = torch.linspace(0, 1, 64).view(1, 1, 1, 64).expand(200, 3, 16, 64)
    first, second, clean = Camera(soft=0.0).pair(images, seeded(3))
    bias = ((first + second) / 2 - clean).mean((0, 1, 2)) * 255
    assert bias[8:].abs().max() < 4
    assert 0 < bias[:4].max() < 20
