"""Held-out scenes, whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from n2n.data.batch import RawBatch
from n2n.data.stores.base import Draw
from n2n.data.stores.scenes import Scene, SceneArray, channels_first

# Pairs of each scene, and the side in pixels above which only the centre is used: enough for a good estimate of the error,
# in less time than the training takes.
_PAIRS = 4
_SIDE = 1024


class SceneStore(SceneArray):
    """Held-out scenes to validate on. Each image is whole; of a very large one only the centre is used.

    Args:
        pixels: see :class:`SceneArray`.
        scenes: see :class:`SceneArray`.
        value_range: see :class:`SceneArray`.
        window: see :class:`~n2n.data.stores.patches.PatchStore`.
        draw: see :class:`SceneArray`.
        scale: factor by which ``draw`` makes images smaller; sides are cut to multiples of it.
        remarks: see :class:`SceneArray`.
    """

    one_by_one = True
    # Each image is a batch of its own size, so keeping them on a device would gain little.
    nbytes = 0

    def __init__(
        self,
        pixels: NDArray[Any],
        scenes: Sequence[Scene],
        value_range: tuple[float, float],
        window: int | None = None,
        draw: Draw | None = None,
        scale: int = 1,
        remarks: Sequence[str] = (),
    ) -> None:
        super().__init__(pixels, scenes, value_range, draw, remarks)
        self.scale = scale
        # Scene, first and second capture of each pair.
        self.items: list[tuple[int, int, int | None]] = []
        for number, scene in enumerate(scenes):
            captures = len(scene.starts)
            if window == 0 or captures == 1:
                self.items.append((number, 0, None))
                continue
            # Neighbours, spread over the captures; no capture is used twice.
            pairs = min(captures // 2, _PAIRS)
            for first in (np.arange(pairs) * captures // pairs).tolist():
                self.items.append((number, first, first + 1))

    def to(self, device: torch.device) -> SceneStore:
        """Return the store unchanged: it stays on the host."""
        return self

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.items)

    def _centre(self, first: int, end: int) -> slice:
        """Return the part of the rows or columns ``first`` to ``end`` that is used."""
        side = _SIDE * self.scale
        start = first + max(0, end - first - side) // 2
        return slice(start, start + min(end - first, side) // self.scale * self.scale)

    def _box(self, scene: Scene) -> tuple[slice, slice]:
        """Return the rows and the columns of a scene that are used."""
        return self._centre(*scene.rows), self._centre(0, scene.width)

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

        return RawBatch(
            cut(scene.starts[first]),
            None if second is None else cut(scene.starts[second]),
            None if scene.clean is None else cut(scene.clean),
            index,
            number,
        )
