"""Images in memory, as arrays of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from n2n.errors import InputError, reason


def as_array(images: Any) -> NDArray[Any]:
    """Return what has a shape and a dtype, such as an array of NumPy, h5py or xarray or a tensor, as an array of NumPy.

    bfloat16, which NumPy does not have, becomes float32.

    Raises:
        InputError: for anything else. The pixels of a Pillow image may be numbers of colours, or have opacity. Also for masked
            values, whose numbers would be taken for those of the image, and for tensors that are no plain memory.
    """
    if isinstance(images, Tensor):
        try:
            plain = images.detach().cpu()
            return np.asarray((plain.float() if plain.dtype == torch.bfloat16 else plain).numpy())
        except (TypeError, RuntimeError) as error:
            raise InputError(
                f"got a tensor that is no array ({reason(error)}): expected a dense one of pixels"
            ) from None
    if not (hasattr(images, "shape") and hasattr(images, "dtype")):
        raise InputError(
            f"got a {type(images).__name__}: expected a NumPy array or a torch tensor, such as "
            "numpy.asarray(image.convert('RGB')) of a Pillow image; n2n predict denoises files"
        )
    if np.ma.is_masked(images):
        raise InputError(
            "got an array with masked values: expected NaN in their places, as array.astype(float).filled(numpy.nan) gives it"
        )
    return np.asarray(images)
