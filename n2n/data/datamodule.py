"""The LightningDataModule: a source of pairs becomes batches on the device."""

from __future__ import annotations

from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info

from n2n.data.augmentation import Augmentation
from n2n.data.batch import Batch, RawBatch
from n2n.data.images.values import to_unit
from n2n.data.loader import PairLoader, PairSampler
from n2n.data.sources.base import HasCleanTargets, PairSource
from n2n.data.stores.base import Store
from n2n.errors import InputError
from n2n.system.hardware import free_memory

# Part of a GPU's free memory that the images may take: the network needs the rest.
_PART = 0.5
# Batches that are cut ahead where they come from the host.
_AHEAD = 3


class PairDataModule(L.LightningDataModule):
    """Training batches (noisy, noisy) and validation batches (noisy, noisy or clean or both) from a source of pairs.

    Batches travel to the device as the files' integers, a quarter of the bytes, and become float32 in [0, 1] there.

    Args:
        source: where the pairs come from.
        val_source: where the validation pairs come from, if not from ``source``.
        batch_size: training pairs a batch, on each device.
        val_batch_size: validation pairs a batch, on each device; the results do not depend on it. Images that differ in size
            come one by one.
        target: what the network learns to give: another noisy view of the image, or, to compare with, the clean image.
        augmentations: what is done to the training views at each step, one after the other (see :mod:`n2n.data.augmentation`).
        on_device: whether the images are kept in the GPU's memory, where batches are cut then without the host; None for
            where they take at most half of what is free. Else a thread cuts them ahead, in pinned memory. Without effect on
            the results, and on CPUs.

    Raises:
        InputError: for sizes below 1, and for augmentations that need a noisy target where it is clean.
    """

    def __init__(
        self,
        source: PairSource,
        val_source: PairSource | None = None,
        batch_size: int = 100,
        val_batch_size: int = 250,
        target: Literal["noisy", "clean"] = "noisy",
        augmentations: list[Augmentation] | None = None,
        on_device: bool | None = None,
    ) -> None:
        super().__init__()
        if min(batch_size, val_batch_size) < 1:
            raise InputError(f"batch_size is {batch_size} and val_batch_size {val_batch_size}: expected at least 1")
        self.augmentations = augmentations or []
        for augmentation in self.augmentations:
            if target == "clean" and augmentation.needs_noisy_target:
                raise InputError(
                    f"{type(augmentation).__name__} needs noisy targets, and target is clean: leave it out"
                )
        # The network's hyper-parameters are logged; what the data was made from stands in config.yaml.
        self.save_hyperparameters(logger=False)
        if not isinstance(self.hparams.get("source"), dict):
            # Built in Python, not by the command line: a checkpoint holds plain values, and a source is none.
            self.hparams.clear()
        self.source, self.val_source = source, val_source or source
        self.batch_size, self.val_batch_size, self.target = batch_size, val_batch_size, target
        self.on_device = on_device
        # Seeded anew for each batch; made once.
        self._generator: torch.Generator | None = None
        self._train: Store | None = None
        self._val: Store | None = None

    def prepare_data(self) -> None:
        """Let the sources make what they need, in one process a machine, before the others open it."""
        self.setup((self.trainer and self.trainer.state.fn) or "fit")

    def setup(self, stage: str) -> None:
        """Open the stores that the stage ("fit" or "validate") needs.

        Raises:
            InputError: if training and validation images differ in channels or range, or there are no clean images to train on.
        """
        if stage == "fit" and self._train is None:
            if self.target == "clean" and isinstance(self.source, HasCleanTargets):
                self._train = self.source.clean_train_pairs()
            else:
                self._train = self.source.train_pairs()
            _tell("Training", self._train)
            if not self._train.one_by_one and self.batch_size > len(self._train):
                rank_zero_info(
                    f"  data.batch_size is {self.batch_size} and there are {len(self._train)} training pairs: each step takes "
                    "all of them; a smaller one makes more steps of an epoch"
                )
        if self._val is None:
            self._val = self.val_source.val_pairs()
            _tell("Validation", self._val)
        if self._train and self._train.shape[0] != self._val.shape[0]:
            raise InputError(
                f"training images have {self._train.shape[0]} channels and validation images {self._val.shape[0]}: "
                "set the channels of the sources alike"
            )
        if self._train and self._train.range != self._val.range:
            raise InputError(
                f"training images have the range {_span(self._train)} and validation images {_span(self._val)}: "
                "set the value_range of the sources alike"
            )
        if self._train and self._train.draw and self.augmentations and not self._train.draw.augmentable:
            raise InputError(
                f"{type(self.source).__name__} makes its pairs of one image, which no augmentation may change: leave "
                "data.augmentations out"
            )
        if self._train and self.target == "clean" and not self._train.has_clean:
            raise InputError("target is clean, and this source of pairs has no clean images to train on")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """C, H, W of the images, after ``setup``; training images where they are open."""
        return self._open_store.shape

    @property
    def batch_shape(self) -> tuple[int, int, int, int]:
        """N, C, H, W of the training batches of one device, after ``setup``; the last of an epoch may be smaller."""
        store = self._open_store
        return min(self.batch_size, len(store)), *store.shape

    @property
    def image_format(self) -> dict[str, Any]:
        """What a checkpoint keeps of the images, after ``setup``: ``range``, the values of the files that became 0 and 1,
        and ``dtype``, the name of their NumPy dtype.
        """  # noqa: D205
        return {"range": list(self._open_store.range), "dtype": self._open_store.dtype}

    @property
    def suited_loss(self) -> str | None:
        """Import path of the loss that the noise of the targets needs, where it has no zero mean; else None."""
        if self.target == "clean":
            return None
        return self._train.draw.suited_loss if self._train is not None and self._train.draw is not None else None

    @property
    def has_clean(self) -> bool:
        """Whether there are clean images to validate against, after ``setup``."""
        return self._val is not None and self._val.has_clean

    @property
    def has_pairs(self) -> bool:
        """Whether there are pairs of independent noise to validate on, after ``setup``."""
        return self._val is not None and self._val.has_pairs

    @property
    def _open_store(self) -> Store:
        store = self._train or self._val
        if store is None:
            raise RuntimeError("what the images are is known after setup()")
        return store

    def _loader(self, store: Store | None, batch_size: int, shuffle: bool) -> PairLoader:
        if store is None:
            raise RuntimeError("setup() comes before the loaders")
        rank, world_size, seed = 0, 1, torch.initial_seed() % 2**63
        if self.trainer:
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
            # Without --seed_everything every process has a seed of its own, and they must share one order.
            seed = self.trainer.strategy.broadcast(seed)
        if store.one_by_one:
            batch_size = 1
        sampler = PairSampler(len(store), batch_size, shuffle, seed, rank, world_size, store.index_device)
        # Every process must find out, not only one that has nothing to do.
        if len(store) < world_size:
            what = "training" if shuffle else "validation"
            raise InputError(
                f"{len(store)} {what} pairs are too few for {world_size} devices: use fewer, or hold out others"
            )
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return PairLoader(store, sampler, ahead=_AHEAD if on_gpu and not store.resident else 0)

    def _placed(self, store: Store | None) -> Store | None:
        """Move a store to the GPU where it fits, or where that is asked for."""
        device = self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")
        if store is None or not store.nbytes or device.type == "cpu" or store.resident or self.on_device is False:
            return store
        free = free_memory(device)
        if self.on_device or store.nbytes <= free * _PART:
            return store.to(device)
        rank_zero_info(
            f"The images ({store.nbytes / 1e9:.1f} GB) stay in the host's memory: {device} has {free / 1e9:.1f} GB free."
        )
        return store

    def train_dataloader(self) -> PairLoader:
        """Shuffled batches of noisy views, as the files have them."""
        self._train = self._placed(self._train)
        return self._loader(self._train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> PairLoader:
        """Batches of what is validated on, as the files have it."""
        self._val = self._placed(self._val)
        return self._loader(self._val, self.val_batch_size, shuffle=False)

    def transfer_batch_to_device(self, batch: RawBatch, device: torch.device, dataloader_idx: int) -> RawBatch:
        """Move a batch to the device, unless it was cut there; from pinned memory the host need not wait."""
        if batch.first.device == device:
            return batch
        first, second, clean = (
            x if x is None else x.to(device, non_blocking=True) for x in (batch.first, batch.second, batch.clean)
        )
        assert first is not None
        return batch._replace(first=first, second=second, clean=clean)

    def on_after_batch_transfer(self, batch: RawBatch, dataloader_idx: int) -> Batch:
        """Cast and scale a batch on its device, and draw its noisy views if its source makes them: float32, N×C×H×W."""
        training = self.trainer.training if self.trainer is not None else self._train is not None
        store = self._train if training else self._val
        assert store is not None
        images = (batch.first, batch.second, batch.clean)
        first, second, clean = (x if x is None else to_unit(x, *store.range) for x in images)
        assert first is not None
        if self._generator is None or self._generator.device != first.device:
            self._generator = torch.Generator(first.device)
        generator = self._generator.manual_seed(batch.seed)
        views = Batch(first, second, clean) if store.draw is None else store.draw(first, generator, self._progress())
        if not training:
            return views._replace(scene=batch.scene)
        if self.target == "clean":
            views = views._replace(target=views.clean)
        # Validated on, not trained on; what is changed below would no longer belong to it.
        views = views._replace(clean=None)
        for augmentation in self.augmentations:
            views = augmentation(views, generator)
        return views

    def _progress(self) -> float:
        """How far the training is, 0 to 1."""
        if self.trainer is None or not self.trainer.max_epochs or self.trainer.max_epochs < 0:
            return 1.0
        return min(1.0, self.trainer.current_epoch / self.trainer.max_epochs)


def _tell(what: str, store: Store) -> None:
    C, H, W = store.shape
    size = "each of its own size" if store.one_by_one else f"of {C}×{H}×{W}"
    rank_zero_info("\n  ".join([f"{what} pairs: {len(store):,} {size}", *store.remarks]))


def _span(store: Store) -> str:
    low, high = store.range
    return f"{low:g} to {high:g}"
