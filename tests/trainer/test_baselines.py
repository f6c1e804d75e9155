from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from n2n.data.batch import Batch
from n2n.trainer.baselines.comparison import Comparison, compare_with_filters, describe, estimate_noise
from n2n.trainer.baselines.filters import Noise, bm3d, filters, gaussian_blur, median, total_variation
from tests.conftest import fit, write_course

QUIET = Noise(0.0, 0.1**2)


@pytest.fixture(autouse=True)
def _filters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare with all filters that need no package."""
    monkeypatch.setattr("n2n.trainer.baselines.comparison.filters", filters)
    monkeypatch.setattr("n2n.trainer.baselines.filters.find_spec", lambda _: None)


def scene(seed: int = 0, side: int = 64) -> Tensor:
    """Return a smooth image with an edge, 1×1×side×side in [0, 1]."""
    y, x = np.mgrid[:side, :side]
    image = 0.5 + 0.2 * np.sin(x / (7 + seed)) * np.cos(y / 9) + 0.2 * (x > side / 2)
    return torch.from_numpy(image.astype(np.float32))[None, None]


def noisy(clean: Tensor, seed: int, sigma: float = 0.1) -> Tensor:
    return clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("with_clean", [True, False])
def test_pixels_without_data_do_not_count(with_clean: bool) -> None:
    clean = scene().expand(2, 1, -1, -1)
    views = Batch(noisy(clean, 0), noisy(clean, 1), clean if with_clean else None, scene=0)
    whole = compare_with_filters([views], torch.round, 2)
    holed = views.noisy.clone()
    holed[0, 0, :5, :5] = torch.nan
    views = views._replace(noisy=holed, gaps=True)
    nothing = torch.full_like(clean, torch.nan)
    unknown = Batch(nothing, nothing, nothing if with_clean else None, scene=1, gaps=True)
    found = compare_with_filters([views, unknown], torch.round, 4)
    assert whole is not None
    assert found is not None
    assert found.psnr == pytest.approx(whole.psnr, abs=0.1)
    assert list(found.scenes) == [0]
    assert "is better than the network" in describe(found, {})[1]
    noise = estimate_noise(views)
    assert noise.floor + 0.5 * noise.slope == pytest.approx(0.1**2, rel=0.1)


def test_a_blur_of_a_point_is_a_gaussian() -> None:
    point = torch.zeros(2, 3, 21, 21)
    point[:, 1, 10, 10] = 1.0
    blurred = gaussian_blur(point, 2.0, QUIET)
    assert torch.allclose(blurred.sum((2, 3)), torch.tensor([0.0, 1.0, 0.0]).expand(2, 3), atol=1e-5)
    assert blurred[0, 1, 10, 12] / blurred[0, 1, 10, 10] == pytest.approx(np.exp(-0.5), rel=1e-4)
    assert torch.equal(gaussian_blur(torch.ones(1, 1, 3, 2), 4.0, QUIET).round(decimals=5), torch.ones(1, 1, 3, 2))


def test_a_median_takes_out_a_point_and_keeps_an_edge() -> None:
    image = torch.zeros(2, 3, 9, 9)
    image[..., 5:] = 1.0
    dotted = image.clone()
    dotted[:, :, 4, 2] = 9.0
    assert torch.equal(median(dotted, 3, QUIET), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_filters_that_need_packages_take_noise_out(channels: int) -> None:
    pytest.importorskip("skimage")
    clean = scene().expand(2, channels, -1, -1)
    views = noisy(clean, 0)
    before = (views - clean).square().mean()
    assert (total_variation(views, 1.2, QUIET) - clean).square().mean() < 0.3 * before
    pytest.importorskip("bm3d")
    assert (bm3d(views, 1.0, QUIET) - clean).square().mean() < 0.2 * before


def test_variance_stabilised_bm3d_keeps_the_mean_of_photon_noise() -> None:
    pytest.importorskip("bm3d")
    clean = scene()
    counted = torch.poisson(clean * 30, generator=torch.Generator().manual_seed(0)) / 30
    denoised = bm3d(counted, 1.0, Noise(1 / 30, 0.0))
    assert abs(float(denoised.mean() - clean.mean())) < 0.005
    assert (denoised - clean).square().mean() < 0.1 * (counted - clean).square().mean()


@pytest.mark.parametrize("known", [True, False])
def test_noise_is_fitted_to_brightness(known: bool) -> None:
    clean = scene(side=256)
    noise = (0.02 * clean + 0.03**2).sqrt()
    first, second = (
        clean + noise * torch.randn(clean.shape, generator=torch.Generator().manual_seed(i)) for i in (1, 2)
    )
    found = estimate_noise(Batch(first, None if known else second, clean if known else None))
    assert found.slope == pytest.approx(0.02, rel=0.15)
    assert found.floor == pytest.approx(0.03**2, abs=0.0015)


@pytest.mark.parametrize("known", [True, False])
def test_the_estimate_from_pairs_ranks_as_the_clean_images_do(known: bool) -> None:
    cleans = [scene(i, 128) for i in range(4)]
    batches = [
        Batch(noisy(clean, 2 * i), noisy(clean, 2 * i + 1), clean if known else None, scene=i)
        for i, clean in enumerate(cleans)
    ]
    found = compare_with_filters(batches, lambda images: gaussian_blur(images, 1.0, QUIET), 4)
    assert found is not None
    assert found.estimated is not known
    assert found.psnr["noisy"] == pytest.approx(20.0, abs=0.3)
    # The blur's best strength is at least as good as one of its strengths.
    assert found.psnr["Gaussian blur"] >= found.psnr["network"] > found.psnr["noisy"] + 5
    assert sorted(found.scenes) == [0, 1, 2, 3]


def test_with_a_slow_filter_few_images_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bm3d")
    pytest.importorskip("skimage")
    monkeypatch.setattr("n2n.trainer.baselines.filters.find_spec", importlib.util.find_spec)
    monkeypatch.setattr("n2n.trainer.baselines.comparison._IMAGES", 2)
    cleans = [scene(i) for i in range(6)]
    batches = [Batch(noisy(clean, i), None, clean, scene=i) for i, clean in enumerate(cleans)]
    found = compare_with_filters(batches, lambda images: images, 6)
    assert found is not None
    assert sorted(found.scenes) == [0, 3]
    best, second, *_ = sorted(found.psnr, key=found.psnr.__getitem__, reverse=True)
    assert {best, second} == {"VST + BM3D", "total variation"}


def test_bm3d_is_left_out_where_an_image_is_too_small_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("n2n.trainer.baselines.filters.find_spec", lambda name: name == "bm3d" or None)
    monkeypatch.setattr("n2n.trainer.baselines.filters.bm3d", lambda images, *_: images)
    cleans = [scene(0), scene(1, 8)]
    batches = [Batch(noisy(clean, i), None, clean, scene=i) for i, clean in enumerate(cleans)]
    found = compare_with_filters(batches, lambda images: images, 2)
    assert found is not None
    assert "VST + BM3D" not in found.psnr
    assert sorted(found.scenes) == [0, 1]


def test_nothing_is_said_without_pairs_and_clean_images() -> None:
    clean = scene()
    assert compare_with_filters([Batch(clean, clean, independent=False)], lambda x: x, 1) is None


def test_lines_name_what_is_better_and_where() -> None:
    psnr = {"network": 33.0, "median": 31.0, "noisy": 20.0}
    lines = describe(Comparison(psnr, {}, True), {})
    start = "PSNR over all pixels beside classical filters at their best strength, dB, "
    start += "estimated from the centres of held-out pairs: "
    assert lines == [f"{start}network 33.00, median 31.00, noisy 20.00."]
    scenes = {0: psnr, 1: {"network": 28.0, "median": 30.5, "noisy": 20.0}}
    assert (
        "in 1 of 2 held-out scenes a filter is better than the network, most in b: median 30.50 dB, network 28.00"
        in (describe(Comparison(psnr, scenes, False), {0: "a", 1: "b"})[1])
    )
    worse = {"network": 30.0, "median": 31.0}
    assert "Warning: median is better than the network." in describe(Comparison(worse, {}, False), {})[1]


def test_a_training_ends_with_the_comparison(caplog: pytest.LogCaptureFixture) -> None:
    assert fit(root=write_course(Path("data"))) == 0
    assert "beside classical filters at their best strength, dB, on the centres of held-out images: " in caplog.text
    facts = yaml.safe_load(Path("lightning_logs/run/version_0/run.yaml").read_text())
    assert {"network", "noisy", "Gaussian blur", "median"} <= facts["baselines"].keys()
