from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from n2n.data.scenes.inspection import PairReport, compare, mismatch, remarks
from n2n.data.sources.dead_leaves import draw, texture_bank

RNG = np.random.default_rng(0)
TEXTURES = texture_bank(0, 4, 128)
SCENE = draw(512, np.random.default_rng(5), TEXTURES).astype(np.float32)


def noise(sigma: float) -> NDArray[np.float32]:
    return RNG.normal(0, sigma, SCENE.shape).astype(np.float32)


def test_independent_white_noise_is_in_order() -> None:
    report = compare(SCENE + noise(20), SCENE + noise(20))
    # Of the colours' mean.
    assert report.sigma == pytest.approx(20 / 3**0.5, rel=0.02)
    assert remarks([("a", report)]) == []


def test_signal_dependent_noise_is_in_order() -> None:
    first, second = (RNG.poisson(SCENE / 255 * 30) / 30 for _ in range(2))
    assert remarks([("a", compare(first, second))]) == []


def test_identical_captures() -> None:
    assert compare(SCENE, SCENE.copy()).identical
    assert remarks([("a", compare(SCENE, SCENE))]) == []


def test_drift_is_named_with_the_worst_scene() -> None:
    reports = [(str(i), compare(SCENE + noise(10), SCENE + noise(10) + drift)) for i, drift in enumerate([0, 3, -4])]
    (line,) = remarks(reports)
    assert "brightness drifts between captures, by -0.70 times the noise in 2 of 3 scenes (most in 2)" in line


def test_correlation_in_space_is_noticed() -> None:
    first, second = (noise(20) for _ in range(2))
    blurred = [SCENE + (n + np.roll(n, 1, axis=1)) / 2**0.5 for n in (first, second)]
    report = compare(*blurred)
    # 0.5 along the rows, none along the columns.
    assert report.space == pytest.approx(0.25, abs=0.02)
    (line,) = remarks([("a", report)])
    assert "correlated between neighbouring pixels (0.25)" in line


def test_movement_between_captures_is_noticed() -> None:
    (line,) = remarks([("a", compare(SCENE + noise(5), np.roll(SCENE, 2, axis=0) + noise(5)))])
    assert "something moved between the captures" in line


def test_noise_that_both_captures_have_is_noticed() -> None:
    shared = noise(20)
    report = compare(SCENE + shared + noise(20), SCENE + shared + noise(20))
    assert report.shared == pytest.approx(0.5, abs=0.12)
    (line,) = remarks([("a", report)])
    assert "share part of their noise" in line
    # One scene of three may be fine texture.
    plain = compare(SCENE + noise(20), SCENE + noise(20))
    assert remarks([("a", report), ("b", plain), ("c", plain)]) == []


def test_tiny_images_are_compared_too() -> None:
    assert compare(np.zeros((1, 1, 1)), np.ones((1, 1, 1))).drift == float("inf")
    assert compare(RNG.normal(size=(3, 1, 1)), RNG.normal(size=(3, 1, 1))).shared is None


@pytest.mark.parametrize("side", [8, 12, 24])
def test_chance_in_small_images_is_no_alarm(side: int) -> None:
    rng = np.random.default_rng(side)
    pairs = [rng.normal(size=(2, side, side, 1)) for _ in range(300)]
    (line,) = remarks([(str(i), compare(*pair)) for i, pair in enumerate(pairs)])
    assert not line.startswith("warning")


def test_what_is_no_chance_is_an_alarm_in_small_images() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 16, 16, 1))
    report = compare(first, second + 2)
    assert report.pixels == 256
    assert "brightness drifts" in remarks([("a", report)])[0]


def test_limits_hold_for_reports_without_a_number_of_pixels() -> None:
    assert len(remarks([("a", PairReport(False, 1.0, 0.11)), ("b", PairReport(False, 1.0, 0, 0.16))])) == 2
    assert remarks([("a", PairReport(False, 1.0, 0.09, 0.14))]) == []


def leaves(number: int, sigma: float, side: int = 96) -> NDArray[np.float64]:
    """Draw a scene of its own, with new noise."""
    return draw(side, np.random.default_rng(number), TEXTURES) + RNG.normal(0, sigma, (side, side, 3))


@pytest.mark.parametrize("sigma", [0, 25, 50])
def test_captures_of_different_scenes_are_noticed(sigma: float) -> None:
    wrong = [compare(leaves(i, sigma), leaves(i + 1, sigma)) for i in range(8)]
    line = mismatch(wrong)
    assert line is not None
    assert "in 8 of 8 scenes" in line
    assert "--data.source.check false" in line
    # Most scenes decide.
    right = [compare(leaves(i, sigma + 1), leaves(i, sigma + 1)) for i in range(8)]
    line = mismatch([*wrong, *right[1:]])
    assert line is not None
    assert "in 8 of 15 scenes" in line
    assert mismatch([*wrong, *right]) is None
    # They say nothing about the noise.
    assert remarks([("wrong", report) for report in wrong]) == []


@pytest.mark.parametrize("side", [32, 96, 256])
@pytest.mark.parametrize("sigma", [5, 50, 100])
def test_captures_of_one_scene_are_never_taken_for_different_ones(sigma: float, side: int) -> None:
    assert not any(compare(leaves(i, sigma, side), leaves(i, sigma, side)).different_scenes for i in range(8))


def test_what_is_no_different_scene_is_not_taken_for_one() -> None:
    flat = np.full((96, 96, 1), 100.0)
    assert not compare(flat + RNG.normal(size=flat.shape), flat + RNG.normal(size=flat.shape)).different_scenes
    # Noise on which neighbours agree.
    smooth = [flat + np.kron(RNG.normal(size=(48, 48)), np.ones((2, 2)))[..., None] for _ in range(2)]
    assert not compare(*smooth).different_scenes
    # A lamp that fades, and a camera that moves.
    assert not compare(SCENE + noise(1), SCENE * 0.9 + noise(1)).different_scenes
    assert not compare(SCENE + noise(1), np.roll(SCENE, 2, axis=0) + noise(1)).different_scenes


@pytest.mark.parametrize(("side", "judged"), [(144, False), (145, True)])
def test_small_images_say_that_shared_noise_could_not_be_judged(side: int, judged: bool) -> None:
    shared = RNG.normal(0, 20, (side, side, 1))
    first, second = (100 + shared + RNG.normal(0, 20, shared.shape) for _ in range(2))
    (line,) = remarks([("a", compare(first, second))])
    assert line.startswith("warning: captures of a scene share part of their noise") == judged
    assert ("could not check" in line and "145×145 px" in line) != judged
