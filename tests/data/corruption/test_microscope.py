"""Micrographs that are made of photographs."""

from __future__ import annotations

import pytest
import torch

from n2n.data.corruption import Microscope
from n2n.errors import InputError


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_scene_is_dimmed_and_has_the_offset_of_the_detector() -> None:
    images = torch.rand(3, 1, 8, 8, generator=seeded())
    corruption = Microscope(sigma=0.0, exposure=0.2, gamma=2.0, blur=0.0, black=0.03)
    noisy, target, clean = corruption.pair(images, seeded())
    assert torch.allclose(clean, 0.03 + 0.2 * images**2)
    # Sigma 0 leaves the steps of single photons, of which there are very many.
    assert torch.allclose(noisy, clean, atol=1e-3)
    assert torch.allclose(target, clean, atol=1e-3)
    assert torch.allclose(corruption(images, seeded()), clean, atol=1e-3)


def test_the_optics_blur_along_rows_and_columns() -> None:
    point = torch.zeros(1, 1, 21, 25)
    point[0, 0, 10, 12] = 1
    _, _, clean = Microscope(sigma=0.0, exposure=1.0, gamma=1.0, blur=1.5, black=0.0).pair(point, seeded())
    for profile in (clean[0, 0].sum(0), clean[0, 0].sum(1)):
        places = torch.arange(len(profile)) - len(profile) // 2
        assert float((places.square() * profile).sum()) == pytest.approx(1.5**2, rel=0.02)


def test_photon_noise_grows_with_the_light_and_not_with_the_offset() -> None:
    images = torch.tensor([0.0, 0.25, 0.5, 1.0]).view(4, 1, 1, 1).expand(4, 1, 256, 256)
    noisy, target, clean = Microscope(25.5, 1.0, 0.5, 1.0, 0.0, 0.04).pair(images, seeded())
    # Variance 2 · sigma² · light, with light from 0 to 0.5.
    expected = 2 * 0.01 * torch.tensor([0.0, 0.125, 0.25, 0.5])
    for view in (noisy, target):
        assert torch.allclose((view - clean).var((1, 2, 3)), expected, rtol=0.03)
        assert torch.allclose(view.mean((1, 2, 3)), clean.mean((1, 2, 3)), atol=2e-3)
    difference = (noisy - target).var((1, 2, 3))
    assert torch.allclose(difference, 2 * expected, rtol=0.03)


def test_each_image_has_parameters_of_its_own_within_the_ranges() -> None:
    white = torch.ones(400, 1, 4, 4)
    _, _, clean = Microscope(exposure=(0.05, 1.0), black=(0.0, 0.05)).pair(white, seeded())
    light = clean.mean((1, 2, 3))
    assert light.min() >= 0.05
    assert light.max() <= 1.05
    # Even in the logarithm: half of them lie below the geometric mean.
    assert (light < (0.05 * 1.0) ** 0.5).float().mean() == pytest.approx(0.45, abs=0.07)
    _, _, black = Microscope(black=(0.0, 0.05)).pair(torch.zeros(50, 1, 4, 4), seeded())
    assert len(set(black.mean((1, 2, 3)).tolist())) == 50


@pytest.mark.parametrize(
    "wrong", [{"exposure": 0.0}, {"gamma": (2.0, 1.0)}, {"black": 2.0}, {"sigma": -1.0}, {"photons": 1.5}]
)
def test_numbers_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is .*: expected a number"):
        Microscope(**wrong)
