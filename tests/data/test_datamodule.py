from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from n2n.data import datamodule
from n2n.data.batch import RawBatch
from n2n.data.datamodule import PairDataModule
from n2n.data.sources.course import CourseFiles
from tests.conftest import write_course


def data(folder: Path, on_device: bool | None, device: str) -> PairDataModule:
    module = PairDataModule(CourseFiles(str(write_course(folder))), on_device=on_device)
    module.setup("fit")
    # A device without memory of its own takes the GPU's part.
    strategy = SimpleNamespace(root_device=torch.device(device), broadcast=lambda seed: seed)
    trainer: Any = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1)
    trainer.training, trainer.max_epochs, trainer.current_epoch = True, 1, 0
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
        assert torch.equal(
            there.on_after_batch_transfer(moved, 0).noisy.cpu(), here.on_after_batch_transfer(other, 0).noisy
        )
