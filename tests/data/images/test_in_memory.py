from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from n2n.data.images.in_memory import as_array
from n2n.errors import InputError

VALUES = np.arange(12, dtype=np.uint8).reshape(3, 4)
TENSOR = torch.arange(12).reshape(3, 4)


@pytest.mark.parametrize(
    "images",
    [
        VALUES,
        VALUES.astype(">u2"),
        np.ma.MaskedArray(VALUES),
        TENSOR,
        TENSOR.T.contiguous().T,
        TENSOR.bfloat16(),
        TENSOR.float().requires_grad_(),
    ],
)
def test_arrays_and_tensors_keep_their_values(images: Any) -> None:
    array = as_array(images)
    assert type(array) is np.ndarray
    assert np.array_equal(array, VALUES)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (Image.fromarray(VALUES).convert("P"), r"got a Image: expected a NumPy array"),
        ([[1, 2]], "got a list"),
        # The numbers beneath a mask are no pixels.
        (np.ma.MaskedArray(VALUES, VALUES > 5), "masked values: expected NaN in their places"),
        (TENSOR.to_sparse(), "tensor that is no array"),
        (TENSOR.to("meta"), "tensor that is no array"),
        (TENSOR.to(torch.float8_e4m3fn), "tensor that is no array"),
    ],
)
def test_other_things_are_refused(images: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_array(images)


def test_the_advice_on_masked_values_works() -> None:
    masked: Any = np.ma.MaskedArray(VALUES, VALUES > 5)
    filled = as_array(masked.astype(float).filled(np.nan))
    assert np.array_equal(np.isnan(filled), VALUES > 5)
