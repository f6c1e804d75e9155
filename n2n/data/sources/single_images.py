"""Sources that draw both views from one image: from its neighbouring pixels if it is noisy, by a corruption if it is clean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from n2n.data.batch import Batch
from n2n.data.corruption import Corruption
from n2n.data.flat_noise import BlockSample, neighbours
from n2n.data.images.gaps import find_gaps
from n2n.data.scenes.frames import Frame, SceneFiles, warning
from n2n.data.scenes.inspection import CORRELATED
from n2n.data.scenes.opening import Opener, describe_axes, find_pages
from n2n.data.sources.folders import all_images, images_in
from n2n.data.sources.scene_source import SceneSource
from n2n.data.stores.base import Store
from n2n.data.value_range import ValueRange
from n2n.errors import InputError
from n2n.losses import Halves
from n2n.system.hardware import constant
from n2n.system.text import counted

# The pairs of pixels of a 2×2 cell that are neighbours, each in both orders; pixels are numbered row by row.
_NEIGHBOURS = ((0, 1), (0, 2), (1, 3), (2, 3), (1, 0), (2, 0), (3, 1), (3, 2))

# Images whose noise is measured, at most.
_MEASURED = 64


def pick_neighbours(images: Tensor, generator: torch.Generator) -> Tensor:
    """Choose two neighbouring pixels in each 2×2 cell: N×C×H×W -> their numbers in the cell, 2×N×1×H/2×W/2 int64."""
    N, _, H, W = images.shape
    pairs = constant(_NEIGHBOURS, images.device).long()
    choice = torch.randint(len(pairs), (N, 1, H // 2, W // 2), device=images.device, generator=generator)
    return pairs[choice].movedim(-1, 0)


def subsample(images: Tensor, pick: Tensor) -> Tensor:
    """Take the chosen pixel of each 2×2 cell: N×C×H×W and N×1×H/2×W/2 -> N×C×H/2×W/2."""
    N, C, H, W = images.shape
    cells = images[..., : H // 2 * 2, : W // 2 * 2].reshape(N, C, H // 2, 2, W // 2, 2).transpose(3, 4).flatten(4)
    return cells.gather(-1, pick[..., None].expand(-1, C, -1, -1, -1))[..., 0]


class NeighbourPairs:
    """Makes pairs of single images as Neighbor2Neighbor does (Huang et al., CVPR 2021, sections 4.1 and 4.2).

    Two neighbouring pixels of each 2×2 cell go to the two half-size images of a pair. Neighbours differ by more than noise;
    :class:`n2n.losses.Neighbor2Neighbor` subtracts that difference.
    """

    from_clean = False
    augmentable = False
    suited_loss: str | None = "n2n.losses.Neighbor2Neighbor"

    def __call__(self, images: Tensor, generator: torch.Generator) -> Batch:
        """Draw a pair of half-size images."""
        one, other = pick_neighbours(images, generator)

        def take(whole: Tensor) -> tuple[Tensor, Tensor]:
            return subsample(whole, one), subsample(whole, other)

        noisy, target = take(images)
        return Batch(noisy, target, halves=Halves(images, take), independent=False)


class SingleImages(SceneSource):
    """Single noisy images without pairs (Neighbor2Neighbor). The noise must be white: independent from pixel to pixel.

    Train with the loss :class:`n2n.losses.Neighbor2Neighbor`, as ``data/single.yaml`` does.

    Args:
        root: an image, a folder of images, or several; each page of a stack is an image.
        clean: a folder of clean images with the same names. They are used for validation only. Without them there is no PSNR.
        **kwargs: see :class:`~n2n.data.sources.scene_source.SceneSource`.
    """

    kind = "single-images"
    window = 0
    scale = 2

    def __init__(self, root: str | list[str], clean: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root, self.clean = [root] if isinstance(root, str) else list(root), clean
        self.searched = self.root
        self.train_draw = NeighbourPairs()
        # Validation compares whole images with clean ones, if there are any, else half-size pairs, for their loss.
        self.val_draw = None if clean is not None else self.train_draw

    def find(self) -> tuple[list[SceneFiles], list[str]]:
        """Find the images."""
        clean = images_in(self.clean) if self.clean is not None else {}
        return _single_scenes(all_images(self.root, self.clean), clean, self.root, self.opener)

    def train_pairs(self) -> Store:
        """Open the training images as random patches, and say if their noise is not white."""
        store = super().train_pairs()
        if line := self._correlated():
            store.remarks = [*store.remarks, line]
        return store

    def _correlated(self) -> str | None:
        """Return a warning if the noise of most images, where it can be measured, is correlated."""
        scale, (train, _, _) = ValueRange(*self._range), self._parts
        found = []
        for scene in train[:: -(-len(train) // _MEASURED)]:
            start, sample = scene.starts[0], BlockSample(scale)
            image = self._kept.array[start : start + scene.height * scene.width].reshape(scene.height, scene.width, -1)
            sample.add(image, image, find_gaps(image, None))
            # At each brightness, because texture that passes for noise is correlated.
            if noise := sample.noise():
                found.append((min(one.neighbours for one in noise), neighbours(noise)))
        wrong = [correlation for least, correlation in found if least > CORRELATED]
        if not 2 * len(wrong) > len(found):
            return None
        return (
            f"warning: the noise is correlated between neighbouring pixels ({np.median(wrong):.2f}) in {len(wrong)} of "
            f"{counted(len(found), 'image')}: Neighbor2Neighbor keeps such noise; take two captures of each scene, or denoise "
            "with a checkpoint for such noise (--ckpt_path camera for photographs)"
        )


class CorruptedPairs:
    """Draws two views of each image with independent noise, on the device and new at each step."""

    from_clean = True
    augmentable = True

    def __init__(self, corruption: Corruption) -> None:
        self.corruption = corruption
        self.suited_loss = None if corruption.zero_mean else corruption.suited_loss

    def __call__(self, images: Tensor, generator: torch.Generator) -> Batch:
        """Draw both views. They are not clipped, which would bias the noise."""
        noisy, target, clean = self.corruption.pair(images, generator)
        return Batch(noisy, target, clean, independent=self.corruption.zero_mean)


class CleanImages(SceneSource):
    """Clean images, made noisy on the fly: for noise that can be simulated, and for experiments.

    Args:
        root: an image, a folder of images, or several.
        corruption: makes a view noisy; input and target are independent draws.
        **kwargs: see :class:`~n2n.data.sources.scene_source.SceneSource`.
    """

    kind = "clean-images"
    window = 0

    def __init__(self, root: str | list[str], corruption: Corruption, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = [root] if isinstance(root, str) else list(root)
        self.searched = self.root
        self.scale = corruption.scale
        self.train_draw = self.val_draw = CorruptedPairs(corruption)

    def find(self) -> tuple[list[SceneFiles], list[str]]:
        """Find the images."""
        return _single_scenes(all_images(self.root), {}, self.root, self.opener)


def _single_scenes(
    files: list[tuple[str, Path]], clean: dict[str, Path], roots: list[str], opener: Opener
) -> tuple[list[SceneFiles], list[str]]:
    """Make a scene of each page of each file; returns the scenes and lines for the user."""
    pages, errors = find_pages(files, opener)
    unreadable = warning(errors, "file", "that cannot be read", 3)
    # The clean image of a page is the same page of the clean file, if it has that page.
    scenes = [
        SceneFiles.of(label, [Frame(file.path, page)], clean.get(file.name), page)
        for file in pages
        for page, label in file.places()
    ]
    if not scenes:
        raise InputError(f"there is no image in {', '.join(roots)}" + "".join(f" ({line})" for line in unreadable))
    return scenes, [counted(len(scenes), "image"), *describe_axes(pages), *unreadable]
