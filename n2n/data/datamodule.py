"""The LightningDataModule: turns a source of pairs into batches on the device."""

from __future__ import annotations

from typing import Literal

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from n2n.data.augmentation import Augmentation
from n2n.data.batch import Batch, ImageInfo, RawBatch, WantsImageInfo
from n2n.data.images.gaps import fill_gaps
from n2n.data.images.values import to_unit
from n2n.data.loader import PairLoader, PairSampler
from n2n.data.sources.base import HasCleanTargets, PairSource
from n2n.data.stores.base import Store
from n2n.errors import InputError
from n2n.system.hardware import CUDA, free_memory

# Fraction of a GPU's free memory that the images may take; the network needs the rest.
_PART = 0.5
# Batches to cut in advance if they come from the host.
_AHEAD = 3


class PairDataModule(L.LightningDataModule):
    """Makes training batches (noisy, noisy) and validation batches (noisy, and noisy or clean or both) from a source.

    Batches travel to the device in the files' dtype, often a quarter of the bytes, and become float32 in [0, 1] there.

    Args:
        source: where the pairs come from.
        val_source: where the validation pairs come from, if not from ``source``. Tests use the validation pairs, too.
        batch_size: training pairs per batch and device.
        val_batch_size: validation pairs per batch and device; the results do not depend on it. Images that differ in size
            come one by one.
        target: what the network learns to output: another noisy view of the image, or, for comparison, the clean image.
        augmentations: changes of the training views at each step, applied in this order (see :mod:`n2n.data.augmentation`).
        on_device: whether to keep the images in the GPU's memory, where batches are cut without the host; None to do so if
            they take at most half of the free memory. Otherwise a thread cuts batches in advance, into pinned memory. It
            changes neither the results nor the work on CPUs.

    Raises:
        InputError: for sizes below 1, and for augmentations that need a noisy target if it is clean.
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
        for one in (source, val_source):
            if one is not None and not isinstance(one, PairSource):
                raise InputError(
                    f"the source is a {type(one).__name__}: expected a source of pairs, such as n2n.data.Folders; DataLoaders "
                    "go to Trainer.fit"
                )
        if min(batch_size, val_batch_size) < 1:
            raise InputError(f"batch_size is {batch_size} and val_batch_size {val_batch_size}: expected at least 1")
        self.augmentations = augmentations or []
        for augmentation in self.augmentations:
            if target == "clean" and augmentation.needs_noisy_target:
                raise InputError(
                    f"{type(augmentation).__name__} needs noisy targets, and target is clean: leave it out"
                )
        # Loggers get the network's hyper-parameters only; the data's are in config.yaml.
        self.save_hyperparameters(logger=False)
        if not isinstance(self.hparams.get("source"), dict):
            # Built in Python, not by the command line: a checkpoint cannot hold the source.
            self.hparams.clear()
        self.source, self.val_source = source, val_source or source
        self.batch_size, self.val_batch_size, self.target = batch_size, val_batch_size, target
        self.on_device = on_device
        # Made once, and seeded for each batch.
        self._generator: torch.Generator | None = None
        self._train: Store | None = None
        self._val: Store | None = None

    def prepare_data(self) -> None:
        """Let the sources make what they need, in one process per machine, before the others open it."""
        self.setup((self.trainer and self.trainer.state.fn) or "fit")

    def setup(self, stage: str) -> None:
        """Open the stores that the stage ("fit", "validate" or "test") needs, and tell the module about the images.

        Raises:
            InputError: if training and validation images differ in channels or range, if they cannot be augmented, or if the
                target is clean and there are no clean images.
        """
        if stage == "fit" and self._train is None:
            if self.target == "clean" and isinstance(self.source, HasCleanTargets):
                self._train = self.source.clean_train_pairs()
            else:
                self._train = self.source.train_pairs()
            _describe("Training", self._train)
            if not self._train.one_by_one and self.batch_size > len(self._train):
                rank_zero_info(
                    f"  data.batch_size is {self.batch_size} and there are {len(self._train)} training pairs: each step takes "
                    "all of them; a smaller one makes more steps of an epoch"
                )
        if self._val is None:
            self._val = self.val_source.val_pairs()
            _describe("Validation", self._val)
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
                f"{type(self.source).__name__} takes both views from one image, so they cannot be augmented: leave "
                "data.augmentations out"
            )
        if self._train and self.target == "clean" and not self._train.has_clean:
            raise InputError("target is clean, and this source of pairs has no clean images to train on")
        if self.trainer is not None and isinstance(self.trainer.lightning_module, WantsImageInfo):
            self.trainer.lightning_module.set_images(self.image_info)

    @property
    def image_info(self) -> ImageInfo:
        """What is known about the images after ``setup``: of the training images if they are open."""
        store = self._train or self._val
        if store is None:
            raise RuntimeError("the images are known after setup()")
        suited = self._train.draw.suited_loss if self._train is not None and self._train.draw is not None else None
        return ImageInfo(
            store.shape,
            store.range,
            store.dtype,
            None if self.target == "clean" else suited,
        )

    @property
    def has_clean(self) -> bool:
        """Whether there are clean images to validate against, after ``setup``."""
        return self._val is not None and self._val.has_clean

    @property
    def has_pairs(self) -> bool:
        """Whether there are pairs with independent noise to validate on, after ``setup``."""
        return self._val is not None and self._val.has_pairs

    @property
    def val_count(self) -> int:
        """Number of images or pairs to validate on, after ``setup``."""
        return 0 if self._val is None else len(self._val)

    @property
    def scene_names(self) -> dict[int, str]:
        """The names of the held-out scenes by their numbers in batches, after ``setup``; empty if they have none."""
        return dict(enumerate(scene.name for scene in getattr(self._val, "scenes", ())))

    def _loader(self, store: Store | None, batch_size: int, shuffle: bool) -> PairLoader:
        if store is None:
            raise RuntimeError("call setup() before the loaders")
        rank, world_size, seed = 0, 1, torch.initial_seed() % 2**63
        if self.trainer:
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
            # Without --seed_everything each process has its own seed, but all must share one order.
            seed = self.trainer.strategy.broadcast(seed)
        if store.one_by_one:
            batch_size = 1
        sampler = PairSampler(len(store), batch_size, shuffle, seed, rank, world_size, store.index_device)
        # All processes check this, not only those without work.
        if len(store) < world_size:
            what = "training" if shuffle else "validation"
            raise InputError(
                f"{len(store)} {what} pairs are too few for {world_size} devices: use fewer, or hold out others"
            )
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type in CUDA
        return PairLoader(store, sampler, _AHEAD if on_gpu and not store.resident else 0, training=shuffle)

    def _placed(self, store: Store | None) -> Store | None:
        """Move a store to the GPU if it fits there, or if ``on_device`` says so."""
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
        """Return shuffled batches of noisy views, in the files' dtype."""
        self._train = self._placed(self._train)
        return self._loader(self._train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> PairLoader:
        """Return the validation batches, in the files' dtype."""
        self._val = self._placed(self._val)
        return self._loader(self._val, self.val_batch_size, shuffle=False)

    def test_dataloader(self) -> PairLoader:
        """Return the validation batches: there is no separate test set."""
        return self.val_dataloader()

    def transfer_batch_to_device(self, batch: RawBatch, device: torch.device, dataloader_idx: int) -> RawBatch:
        """Move a batch to the device, unless it was cut there; the host does not wait if the memory is pinned."""
        if batch.first.device == device:
            return batch
        # Apple's GPUs have no float64, and might read memory that is already free (pytorch#189690).
        no_wait = device.type in CUDA
        return batch.map(lambda x: (x.float() if x.dtype == torch.float64 else x).to(device, non_blocking=no_wait))

    def on_after_batch_transfer(self, batch: RawBatch, dataloader_idx: int) -> Batch:
        """Scale a batch on its device to float32 in [0, 1], N×C×H×W, and draw its noisy views if its source makes them."""
        store = self._train if batch.training else self._val
        assert store is not None
        low, high = store.range
        batch = batch.map(lambda images: to_unit(images, low, high))
        if self._generator is None or self._generator.device != batch.first.device:
            self._generator = torch.Generator(batch.first.device)
        generator = self._generator.manual_seed(batch.seed)
        if store.draw is None:
            views = Batch(batch.first, batch.second, batch.clean)
        else:
            # Random numbers cannot be drawn of NaN.
            drawn = fill_gaps(batch.first) if store.gaps and store.draw.from_clean else batch.first
            views = store.draw(drawn, generator)
            if drawn is not batch.first:
                views = _with_gaps(views, batch.first)
        views = views._replace(gaps=store.gaps)
        if not batch.training:
            # The store decides which figures there are, not the batch: all processes must log the same ones.
            return views._replace(
                clean=views.clean if store.has_clean else None,
                independent=views.independent and store.has_pairs,
                scene=batch.scene,
            )
        if self.target == "clean":
            views = views._replace(target=views.clean, independent=False)
        # Training does not use the clean images, and augmentations do not change them.
        views = views._replace(clean=None)
        for augmentation in self.augmentations:
            views = augmentation(views, generator)
        return views


def _with_gaps(views: Batch, clean: Tensor) -> Batch:
    """Return views of clean images, of their size or smaller, with NaN where these have it."""
    lost = clean.isnan().float()
    if lost.shape != views.noisy.shape:
        lost = F.adaptive_max_pool2d(lost, views.noisy.shape[-2:])
    noisy, target, whole = (
        image if image is None else image.masked_fill(lost > 0, torch.nan)
        for image in (views.noisy, views.target, views.clean)
    )
    assert noisy is not None
    return views._replace(noisy=noisy, target=target, clean=whole)


def _describe(what: str, store: Store) -> None:
    C, H, W = store.shape
    size = ", each of its own size" if store.one_by_one else f" of {C}×{H}×{W}"
    rank_zero_info("\n  ".join([f"{what} pairs: {len(store):,}{size}", *store.remarks]))


def _span(store: Store) -> str:
    low, high = store.range
    return f"{low:g} to {high:g}"
