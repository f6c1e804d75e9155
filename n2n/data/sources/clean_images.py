"""A source of clean images that are made noisy on the fly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from n2n.data.batch import Batch
from n2n.data.corruption import Corruption
from n2n.data.scenes.frames import SceneFiles
from n2n.data.sources.folders import all_images
from n2n.data.sources.scene_source import SceneSource
from n2n.data.sources.single_images import single_scenes


class CorruptedPairs:
    """Draws two views of each image with independent noise, on the device and new at each step."""

    from_clean = True
    augmentable = True

    def __init__(self, corruption: Corruption) -> None:
        self.corruption = corruption
        self.suited_loss = None if corruption.zero_mean else corruption.suited_loss

    def __call__(self, images: Tensor, generator: torch.Generator, progress: float) -> Batch:
        """Draw both views. They are not clipped, which would bias the noise."""
        noisy, target = (self.corruption(images, generator) for _ in range(2))
        return Batch(noisy, target, self.corruption.clean(images), independent=self.corruption.zero_mean)


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
        self.scale = corruption.scale
        self.train_draw = self.val_draw = CorruptedPairs(corruption)

    def find(self) -> tuple[list[SceneFiles], list[str]]:
        """Find the images."""
        return single_scenes(all_images(self.root), {}, self.root)
