"""The LightningDataModule: a source of pairs becomes batches on the device."""

from __future__ import annotations

from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from n2n.data.augmentation import Augmentation
from n2n.data.sources import HasCleanTargets, PairSource
from n2n.data.store import Batch, PairLoader, PairSampler, RawBatch, Store
from n2n.errors import InputError


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
        sampler = PairSampler(len(store), batch_size, shuffle, seed, rank, world_size)
        # Every process must find out, not only one that has nothing to do.
        if len(store) < world_size:
            what = "training" if shuffle else "validation"
            raise InputError(
                f"{len(store)} {what} pairs are too few for {world_size} devices: use fewer, or hold out others"
            )
        return PairLoader(store, sampler)

    def train_dataloader(self) -> PairLoader:
        """Shuffled batches of noisy views, as the files have them."""
        return self._loader(self._train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> PairLoader:
        """Batches of what is validated on, as the files have it."""
        return self._loader(self._val, self.val_batch_size, shuffle=False)

    def on_after_batch_transfer(self, batch: RawBatch, dataloader_idx: int) -> Batch:
        """Cast and scale a batch on its device, and draw its noisy views if its source makes them: float32, N×C×H×W."""
        training = self.trainer.training if self.trainer is not None else self._train is not None
        store = self._train if training else self._val
        assert store is not None
        low, high = store.range

        def scale(images: Tensor | None) -> Tensor | None:
            if images is None:
                return None
            # Not in place: float32 images are the store's own memory here.
            images = images.float()
            # 0 in all ordinary files; then the subtraction can be saved.
            return (images - low if low else images) / (high - low)

        first, second, clean = scale(batch.first), scale(batch.second), scale(batch.clean)
        assert first is not None
        generator = torch.Generator(first.device).manual_seed(batch.seed)
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
