from __future__ import annotations

import numpy as np
import pytest

from n2n.data.value_range import TrainedRange, ValueRange
from n2n.denoiser.survey import Survey
from n2n.errors import InputError

TWELVE_BITS = TrainedRange.from_plain([0, 4095], "uint16")
FLOATS = TrainedRange.from_plain([0.0, 1.0], "float32")
COUNTS = TrainedRange.from_plain([0.0, 9000.0], "float32")


@pytest.mark.parametrize(
    ("trained", "dtype", "expected"),
    [
        (TrainedRange.from_plain(None, None), "uint8", (0, 255)),
        (TrainedRange.from_plain(None, None), "uint16", (0, 65535)),
        (TrainedRange.from_plain(None, None), "float32", (0, 1)),
        (TWELVE_BITS, "uint16", (0, 4095)),
        (TWELVE_BITS, "uint8", (0, 255)),
        (TWELVE_BITS, "int16", (-32768, 32767)),
        (FLOATS, "float64", (0, 1)),
        (FLOATS, "uint8", (0, 255)),
        (COUNTS, "float16", (0, 9000)),
    ],
)
def test_range_of_an_image(trained: TrainedRange, dtype: str, expected: tuple[float, float]) -> None:
    assert trained.resolve(np.dtype(dtype)) == ValueRange(*expected)
    assert trained.resolve(np.dtype(dtype), ValueRange(3, 4)) == ValueRange(3, 4)


def test_integers_for_a_network_of_counts_need_a_range() -> None:
    with pytest.raises(InputError, match="--range LOW HIGH"):
        COUNTS.resolve(np.dtype(np.uint16))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 0], "uint8"),
        ([0], "uint8"),
        ("ab", "uint8"),
        ([0, 1], "int64"),
        ([0, float("nan")], "uint8"),
        ([0, True], "uint8"),
        (None, "uint8"),
        ([0, 255], None),
    ],
)
def test_hostile_checkpoints_are_refused(values: object, dtype: object) -> None:
    with pytest.raises(InputError):
        TrainedRange.from_plain(values, dtype)


@pytest.mark.parametrize(
    ("values", "scale", "remark"),
    [
        (
            np.array([0, 4500], np.uint16),
            ValueRange(0, 4095),
            "from 0 to 4500, outside the network's range of 0 to 4095",
        ),
        (np.array([0, 4095], np.uint16), ValueRange(0, 4095), None),
        (np.array([-0.05, 1.05], np.float32), ValueRange(0, 1), None),
        (np.array([0, 1.15], np.float32), ValueRange(0, 1), "from 0 to 1.15, outside the network's range of 0 to 1"),
        (np.array([0, 251], np.float32), ValueRange(0, 1), "divide by 255 or give --range 0 255"),
        (np.array([-7, 251], np.float32), ValueRange(0, 1), "give --range LOW HIGH"),
    ],
)
def test_values_outside_are_remarked_on(values: np.ndarray, scale: ValueRange, remark: str | None) -> None:
    lines = Survey.of(values).remarks(scale, values.dtype.kind == "f")
    assert lines == [] if remark is None else remark in lines[0]


def test_denoised_integers_are_limited_to_the_range_and_to_the_values_of_the_image() -> None:
    survey = Survey(-5, 300)
    assert survey.limits(ValueRange(0, 100), np.dtype(np.int16)) == (-5, 300)
    assert survey.limits(ValueRange(-50, 1000), np.dtype(np.int16)) == (-50, 1000)
    assert survey.limits(ValueRange(0, 100), np.dtype(np.uint8)) == (0, 255)
    assert survey.limits(ValueRange(0, 1000), np.dtype(np.uint16), white=511) == (0, 511)
    assert survey.limits(ValueRange(0, 1), np.dtype(np.float32)) is None


def test_values_without_data_are_counted() -> None:
    survey = Survey.of(np.array([1, np.nan, np.inf])) | Survey.of(np.array([2.0])) | Survey.of(np.array([np.nan]))
    assert survey == Survey(1, 2, 3)
    assert survey.remarks(ValueRange(0, 2), floats=True) == [
        "3 values are NaN or infinite, so without data: they are left as they are"
    ]
    survey = Survey.of(np.array([[-9999, 7], [8, -9999]], np.int16), -9999)
    assert survey == Survey(7, 8, 2)
    assert "2 values are -9999, so without data" in survey.remarks(ValueRange(0, 9), floats=False, nodata=-9999)[0]


@pytest.mark.parametrize(
    ("trained", "dtype", "white", "expected"),
    [
        (TrainedRange(), "uint16", 4095, (0, 4095)),
        (TrainedRange(), "uint8", 15, (0, 15)),
        (TWELVE_BITS, "uint16", 4095, (0, 4095)),
        (TWELVE_BITS, "uint16", 16383, (0, 4095)),
        (TWELVE_BITS, "uint16", 1023, (0, 1023)),
        (TWELVE_BITS, "uint8", 15, (0, 15)),
        (FLOATS, "uint16", 1023, (0, 1023)),
    ],
)
def test_bits_that_a_file_states_are_its_range(
    trained: TrainedRange, dtype: str, white: float, expected: tuple[float, float]
) -> None:
    assert trained.resolve(np.dtype(dtype), white=white) == ValueRange(*expected)
    assert trained.resolve(np.dtype(dtype), ValueRange(3, 4), white) == ValueRange(3, 4)
