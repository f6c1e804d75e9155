"""What tests of all formats share: copies by n2n, prediction with a network that changes nothing, and damaged files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from n2n.cli import main
from n2n.data.images import create_image, open_image
from n2n.errors import InputError
from tests.write_checkpoints import same, write_checkpoint

RNG = np.random.default_rng(0)
# Rows of a strip; it divides no height of the tests' images.
ROWS = 7


def values(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Return random values: all of an integer dtype, 0 to 1 of a float."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return RNG.random(shape).astype(kind)
    limits = np.iinfo(kind)
    found: NDArray[Any] = RNG.integers(limits.min, limits.max, shape, endpoint=True).astype(kind)
    return found


def copy(source: str, target: str) -> None:
    """Read an image in strips, and write it."""
    with open_image(Path(source)) as image, open_image(Path(source)) as like:
        create_image(Path(target), like).write(image.strips(ROWS))


def look(path: str) -> tuple[NDArray[Any], str, tuple[int, ...]]:
    """Return the samples of a file's pages, pages×H×W×(C + extra), its axes and the shape that they belong to."""
    with open_image(Path(path)) as image:
        pages = [image.samples(page, 0, image.height) for page in range(image.pages)]
        return np.stack(pages), image.axes, image.shape


def predict(source: str, target: str, channels: int = 1, *options: str) -> None:
    """Run the command with a network that changes nothing."""
    checkpoint = write_checkpoint("same.ckpt", same, channels)
    args = ["predict", "--ckpt_path", str(checkpoint), "--input", source, "--output", target, *options]
    assert main([*args, "--trainer.accelerator", "cpu"]) == 0


def refusal(act: Callable[[], object]) -> str:
    """Return the line of an act that is refused."""
    with pytest.raises(InputError) as caught:
        act()
    return str(caught.value)
