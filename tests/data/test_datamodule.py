from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from n2n.data import datamodule
from n2n.data.batch import Batch, RawBatch
from n2n.data.datamodule import PairDataModule
from n2n.data.sources.arrays import Arrays
from n2n.data.sources.course import CourseFiles
from n2n.data.stores.scenes import Scene, SceneStore
from n2n.errors import InputError
from tests.conftest import write_course


def data(folder: Path, on_device: bool | None, device: str) -> PairDataModule:
    module = PairDataModule(CourseFiles(str(write_course(folder))), on_device=on_device)
    module.setup("fit")
    # A device without memory of its own takes the GPU's part.
    strategy = SimpleNamespace(root_device=torch.device(device), broadcast=lambda seed: seed)
    trainer: Any = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1)
    module.trainer = trainer
    return module


SIZE = 2 * 60 * 3 * 32 * 32


@pytest.mark.parametrize(
    ("on_device", "free", "moved"),
    [(None, 2 * SIZE, True), (None, 2 * SIZE - 1, False), (True, 0, True), (False, 100 * SIZE, False)],
)
def test_images_are_kept_on_the_device_where_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_device: bool | None, free: int, moved: bool
) -> None:
    monkeypatch.setattr(datamodule, "free_memory", lambda device: free)
    module = data(tmp_path, on_device, "meta")
    first = next(iter(module.train_dataloader())).first
    assert first.device.type == ("meta" if moved else "cpu")
    assert first.shape == (60, 3, 32, 32)
    assert module.train_dataloader().store.resident == moved


def test_batches_travel_only_where_they_are_not(tmp_path: Path) -> None:
    module = data(tmp_path, None, "cpu")
    batch = next(iter(module.train_dataloader()))
    assert module.transfer_batch_to_device(batch, torch.device("cpu"), 0) is batch
    moved = module.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert isinstance(moved, RawBatch)
    assert moved.first.device.type == "meta"
    assert moved.clean is None
    assert moved.seed == batch.seed


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("on_device", [True, False])
def test_batches_on_a_gpu_are_those_of_the_host(tmp_path: Path, on_device: bool) -> None:
    there, here = (data(tmp_path / where, on_device, where) for where in ("cuda", "cpu"))
    for one, other in zip(there.train_dataloader(), here.train_dataloader(), strict=True):
        moved = there.transfer_batch_to_device(one, torch.device("cuda", 0), 0)
        scaled, expected = (
            there.on_after_batch_transfer(moved, 0).noisy.cpu(),
            here.on_after_batch_transfer(other, 0).noisy,
        )
        # CUDA multiplies by the reciprocal instead of dividing.
        torch.testing.assert_close(scaled, expected, atol=1e-7, rtol=1e-6)


def test_the_batch_says_which_store_it_comes_from(tmp_path: Path) -> None:
    # Whatever the trainer does meanwhile.
    module = data(tmp_path, None, "cpu")
    train, val = (
        module.on_after_batch_transfer(next(iter(loader)), 0)
        for loader in (module.train_dataloader(), module.val_dataloader())
    )
    assert (train.clean, len(train.noisy)) == (None, 60)
    assert (val.target, len(val.noisy)) == (None, 20)
    assert val.clean is not None


def test_float64_is_cast_before_it_travels() -> None:
    images = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    module = PairDataModule(CourseFiles())
    moved = module.transfer_batch_to_device(RawBatch(images, None, images, 0), torch.device("meta"), 0)
    assert moved.first.dtype == torch.float32
    assert moved.clean is not None
    assert moved.clean.dtype == torch.float32


def test_the_store_decides_which_figures_there_are() -> None:
    # The first scene has a clean image and two captures, the second two captures, the third a clean image.
    pixels = np.random.default_rng(0).random((7 * 16, 1), np.float32)
    scenes = [
        Scene("a", 4, 4, (0, 16), 32, (0, 4)),
        Scene("b", 4, 4, (48, 64), None, (0, 4)),
        Scene("c", 4, 4, (80,), 96, (0, 4)),
    ]

    def batches(*chosen: int) -> list[Batch]:
        store = SceneStore(pixels, [scenes[i] for i in chosen], (0, 1))
        module = PairDataModule(CourseFiles(), val_source=SimpleNamespace(train_pairs=list, val_pairs=lambda: store))
        module.setup("validate")
        return [module.on_after_batch_transfer(batch, 0) for batch in module.val_dataloader()]

    assert [(batch.clean is None, batch.independent) for batch in batches(0, 1)] == [(True, True)] * 2
    assert [(batch.clean is None, batch.independent) for batch in batches(0, 2)] == [(False, False)] * 2


def test_ranges_that_differ_are_refused() -> None:
    views = np.random.default_rng(0).random((2, 2, 16, 16), np.float32)
    train, val = (Arrays(*views, value_range=(0, high), val_fraction=part, patch=8) for high, part in ((1, 0), (2, 1)))
    with pytest.raises(InputError, match="training images have the range 0 to 1 and validation images 0 to 2"):
        PairDataModule(train, val_source=val).setup("fit")
