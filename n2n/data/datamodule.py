"""The LightningDataModule: a source of pairs becomes batches on the device."""

from __future__ import annotations

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from n2n.data.sources import PairSource
from n2n.data.store import PairLoader, PairSampler, PairStore
from n2n.errors import InputError


class PairDataModule(L.LightningDataModule):
    """Training batches (noisy, noisy) and validation batches (noisy, clean) from a source of pairs.

    Batches travel to the device as uint8, a quarter of the bytes, and become float32 in [0, 1] there.

    Args:
        source: where the pairs come from.
        val_source: where the validation pairs come from, if not from ``source``.
        batch_size: training pairs a batch, on each device.
        val_batch_size: validation pairs a batch, on each device; the results do not depend on it.

    Raises:
        InputError: for sizes below 1.
    """

    def __init__(
        self,
        source: PairSource,
        val_source: PairSource | None = None,
        batch_size: int = 100,
        val_batch_size: int = 250,
    ) -> None:
        super().__init__()
        if min(batch_size, val_batch_size) < 1:
            raise InputError(f"batch_size is {batch_size} and val_batch_size {val_batch_size}: expected at least 1")
        # The network's hyper-parameters are logged; what the data was made from stands in config.yaml.
        self.save_hyperparameters(logger=False)
        if not isinstance(self.hparams.get("source"), dict):
            # Built in Python, not by the command line: a checkpoint holds plain values, and a source is none.
            self.hparams.clear()
        self.source, self.val_source = source, val_source or source
        self.batch_size, self.val_batch_size = batch_size, val_batch_size
        self._train: PairStore | None = None
        self._val: PairStore | None = None

    def prepare_data(self) -> None:
        """Let the sources make what they need, in one process a machine, before the others open it."""
        self.setup((self.trainer and self.trainer.state.fn) or "fit")

    def setup(self, stage: str) -> None:
        """Open the stores that the stage ("fit" or "validate") needs.

        Raises:
            InputError: if training and validation images differ in channels.
        """
        if stage == "fit" and self._train is None:
            self._train = self.source.train_pairs()
            rank_zero_info(f"Training pairs: {_describe(self._train)}")
        if self._val is None:
            self._val = self.val_source.val_pairs()
            rank_zero_info(f"Validation pairs: {_describe(self._val)}")
        if self._train and self._train.shape[0] != self._val.shape[0]:
            raise InputError(
                f"training images have {self._train.shape[0]} channels and validation images {self._val.shape[0]}: "
                "set the channels of the sources alike"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """C, H, W of the images, after ``setup``; training images where they are open."""
        store = self._train or self._val
        if store is None:
            raise RuntimeError("image_shape is known after setup()")
        return store.shape

    def _loader(self, store: PairStore | None, batch_size: int, shuffle: bool) -> PairLoader:
        if store is None:
            raise RuntimeError("setup() comes before the loaders")
        rank, world_size, seed = 0, 1, torch.initial_seed() % 2**63
        if self.trainer:
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
            # Without --seed_everything every process has a seed of its own, and they must share one order.
            seed = self.trainer.strategy.broadcast(seed)
        sampler = PairSampler(len(store), batch_size, shuffle, seed, rank, world_size)
        if len(sampler) == 0:
            raise InputError(f"{len(store)} pairs are too few for {world_size} devices: use fewer devices")
        return PairLoader(store, sampler)

    def train_dataloader(self) -> PairLoader:
        """Shuffled batches of two noisy views, uint8."""
        return self._loader(self._train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> PairLoader:
        """Batches of noisy and clean images, uint8."""
        return self._loader(self._val, self.val_batch_size, shuffle=False)

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Cast and scale a batch on its device: uint8 -> float32 in [0, 1], N×C×H×W."""
        first, second = batch
        return first.float().div_(255), second.float().div_(255)


def _describe(store: PairStore) -> str:
    C, H, W = store.shape
    return f"{len(store):,} of {C}×{H}×{W}" + (f" ({store.remark})" if store.remark else "")
