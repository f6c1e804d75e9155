from __future__ import annotations

import math

import pytest
import torch

from n2n.metrics import PSNR, PSNRPerImage, psnr_from_mse


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
