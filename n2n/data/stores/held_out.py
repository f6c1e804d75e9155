"""Held-out scenes, whole."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from n2n.data.batch import RawBatch
from n2n.data.stores.scenes import Scene, SceneArray, channels_first

# Pairs of each scene, and the side in pixels above which only the centre is used. These give a good estimate of the error in
# less time than the training takes.
_PAIRS = 4
_SIDE = 1024


class SceneStore(SceneArray):
    """Held-out scenes to validate on, whole: the centre of very large ones, with sides cut to multiples of ``scale``."""

    one_by_one = True
    # Each image is a batch of its own size, so keeping them on a device would gain little.
    nbytes = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        # Scene, first and second capture of each pair.
        self.items: list[tuple[int, int, int | None]] = []
        for number, scene in enumerate(self.scenes):
            captures = len(scene.starts)
            if self.window == 0 or captures == 1:
                self.items.append((number, 0, None))
                continue
            # Neighbours, spread over the captures; no capture is used twice.
            pairs = min(captures // 2, _PAIRS)
            firsts = (np.arange(pairs) * captures // pairs).tolist()
            self.items += [(number, first, first + 1) for first in firsts]

    def to(self, device: torch.device) -> SceneStore:
        """Return the store unchanged: it stays on the host."""
        return self

    def __len__(self) -> int:
        return len(self.items)

    def _box(self, scene: Scene) -> tuple[slice, slice]:
        """Return the rows and the columns of a scene that are used."""
        most = _SIDE * self.scale

        def centre(first: int, end: int) -> slice:
            start = first + max(0, end - first - most) // 2
            return slice(start, start + min(end - first, most) // self.scale * self.scale)

        return centre(*scene.rows), centre(0, scene.width)

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of the first image at the input of the network."""
        height, width = ((part.stop - part.start) // self.scale for part in self._box(self.scenes[0]))
        return self.pixels.shape[1], height, width

    def batch(self, indices: Tensor, seed: int) -> RawBatch:
        """Return one image by its index. The index is the seed of ``draw``, so every epoch gets the same noise."""
        (index,) = indices.tolist()
        number, first, second = self.items[index]
        scene = self.scenes[number]
        rows, columns = self._box(scene)

        def cut(start: int) -> Tensor:
            whole = self.pixels[start : start + scene.height * scene.width]
            return channels_first(torch.from_numpy(whole).reshape(1, scene.height, scene.width, -1)[:, rows, columns])

        target = None if second is None else cut(scene.starts[second])
        clean = None if scene.clean is None else cut(scene.clean)
        return RawBatch(cut(scene.starts[first]), target, clean, index, number)
