from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from n2n.data.images.values import from_unit, to_unit

DTYPES = ("uint8", "int8", "uint16", "int16", "float16", "float32", "float64")
RANGES: dict[str, list[tuple[float, float]]] = {
    "uint8": [(0, 255), (10, 200)],
    "int8": [(-128, 127)],
    "uint16": [(0, 65535), (0, 4095), (60000, 60100)],
    "int16": [(-32768, 32767)],
    "float16": [(0, 1), (1000, 1100)],
    "float32": [(0, 1), (1e6, 1e6 + 1), (1e6 + 0.03, 1e6 + 1.03), (-1e7, -1e7 + 8), (0.1, 0.1001)],
    "float64": [(0, 1), (1e6, 1e6 + 1), (1e12, 1e12 + 1), (1e15, 1e15 + 2)],
}
CASES = [(dtype, low, high) for dtype in DTYPES for low, high in RANGES[dtype]]


def values(dtype: str, low: float, high: float) -> np.ndarray:
    """Draw values between low and high, and those next to them."""
    drawn = np.random.default_rng(0).uniform(low, high, 1000)
    if np.dtype(dtype).kind == "f":
        return np.append(drawn, [low, high]).astype(dtype)
    return np.append(np.rint(drawn), [np.ceil(low), np.floor(high)]).astype(dtype)


@pytest.mark.parametrize(("dtype", "low", "high"), CASES)
def test_to_unit_is_right_to_float32(dtype: str, low: float, high: float) -> None:
    numbers = values(dtype, low, high)
    unit = to_unit(torch.from_numpy(numbers), low, high)
    assert unit.dtype == torch.float32
    span = Fraction(high) - Fraction(low)
    exact = [float((Fraction(number.item()) - Fraction(low)) / span) for number in numbers]
    # Three operations of float32, each with half a unit in the last place.
    assert np.allclose(unit.numpy(), exact, rtol=2e-7, atol=1e-10)


@pytest.mark.parametrize(("dtype", "low", "high"), CASES)
def test_values_come_back(dtype: str, low: float, high: float) -> None:
    numbers = values(dtype, low, high)
    back = from_unit(to_unit(torch.from_numpy(numbers), low, high), low, high, getattr(torch, dtype)).numpy()
    assert back.dtype == numbers.dtype
    # Of the range float32 keeps 24 bits, and of a value its dtype as many as it has.
    kept = 1e-7 * (high - low) + (np.spacing(np.abs(numbers)).astype(float) if numbers.dtype.kind == "f" else 0)
    assert (np.abs(back.astype(float) - numbers.astype(float)) <= kept).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_narrow_range_far_from_0_is_resolved(dtype: str) -> None:
    # The float32 next to 1e6 is 0.0625 away; a range that starts between two of them must not be moved to one of them.
    noisy = torch.tensor([1e6, 1e6 + 0.25, 1e6 + 0.75, 1e6 + 1], dtype=getattr(torch, dtype))
    assert to_unit(noisy, 1e6, 1e6 + 1).tolist() == [0, 0.25, 0.75, 1]
    shifted = to_unit(noisy, 1e6 - 0.03125, 1e6 + 0.96875)
    assert shifted.tolist() == [0.03125, 0.28125, 0.78125, 1.03125]
    back = from_unit(shifted, 1e6 - 0.03125, 1e6 + 0.96875, noisy.dtype)
    assert torch.equal(back, noisy)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
@pytest.mark.parametrize("low", [0.0, 3.0])
def test_values_near_0_get_the_numbers_of_a_plain_division(dtype: torch.dtype, low: float) -> None:
    images = torch.arange(256).to(dtype)
    assert torch.equal(to_unit(images, low, 255.0), (torch.arange(256).float() - low).div(255.0 - low))


def test_integers_are_rounded_and_clipped() -> None:
    unit = torch.tensor([-0.1, 0.0, 0.1, 0.5, 0.9, 1.0, 1.2])
    assert from_unit(unit, 0, 10, torch.uint8).tolist() == [0, 0, 1, 5, 9, 10, 12]
    assert from_unit(unit, 0, 255, torch.uint8).tolist() == [0, 0, 26, 128, 230, 255, 255]
    assert from_unit(unit, 0, 10, torch.int16, (2, 9)).tolist() == [2, 2, 2, 5, 9, 9, 9]
    assert from_unit(unit, 0, 10, torch.float32).tolist() == pytest.approx([-1, 0, 1, 5, 9, 10, 12])


def test_the_images_stay_as_they_are() -> None:
    for dtype in (torch.float32, torch.float64):
        for low in (0.0, 0.5):
            images = torch.linspace(0, 1, 11, dtype=dtype)
            before = images.clone()
            from_unit(to_unit(images, low, 1.5), low, 1.5, dtype)
            assert torch.equal(images, before)
