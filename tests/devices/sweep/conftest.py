"""The device, and data of every kind of file and dtype."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from n2n.data.images.base import DTYPES
from n2n.system.hardware import CUDA
from tests.conftest import write_course, write_photos
from tests.devices import pretend
from tests.devices.target import Target, find

TARGET = find()
# Without a device there is nothing to test.
collect_ignore_glob = [] if TARGET is not None else ["*"]
# In float32 the tests compare to the CPU; Ampere and later would round to 10 bits.
torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(scope="session")
def target() -> Target:
    assert TARGET is not None
    return TARGET


@pytest.fixture(autouse=True, scope="session")
def _as_on_cuda(target: Target) -> Iterator[None]:
    """Let n2n use the pretended CUDA device as it uses CUDA: fused optimisers, pinned memory."""
    if target.name == "pretend-cuda":
        CUDA.add(pretend.NAME)
    yield
    CUDA.discard(pretend.NAME)


def noisy_images(dtype: str, captures: int, side: int, seed: int = 0) -> NDArray[Any]:
    """Draw noisy captures of one scene: captures×side×side, in 8 or 12 bits, or in [0, 1] for floats."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    clean = 0.5 + 0.3 * np.sin(7 * x + seed) * np.cos(5 * y)
    images = (clean + rng.normal(0, 0.05, (captures, side, side))).clip(0, 1)
    if dtype.startswith("float"):
        floats: NDArray[Any] = images.astype(dtype)
        return floats
    high = 4095 if dtype.endswith("16") else np.iinfo(dtype).max
    low = 0 if dtype.startswith("u") else -high
    integers: NDArray[Any] = (low + images * (high - low)).round().astype(dtype)
    return integers


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a folder with data for every source; ``stack_DTYPE`` and ``captures_DTYPE`` of every dtype."""
    root = tmp_path_factory.mktemp("files")
    write_course(root / "course", pairs=24, size=(3, 16, 16))
    write_course(root / "course_32", pairs=24, size=(3, 32, 32))
    write_photos(root / "photos")
    for dtype in DTYPES:
        for folder in ("stack", "captures", "clean"):
            (root / f"{folder}_{dtype}").mkdir()
        for scene in range(3):
            images = noisy_images(dtype, 4, 32, scene)
            np.save(root / f"stack_{dtype}" / f"{scene}.npy", images)
            np.save(root / f"clean_{dtype}" / f"{scene}.npy", noisy_images(dtype, 1, 32, scene)[0])
            for number, image in enumerate(images):
                np.save(root / f"captures_{dtype}" / f"{scene}_{number}.npy", image)
    for folder in ("a", "b"):
        (root / folder).mkdir()
        for scene in range(3):
            np.save(root / folder / f"{scene}.npy", noisy_images("uint16", 2, 32, scene)["ab".index(folder)])
    return root
