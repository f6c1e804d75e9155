"""Images of any size and dtype in one flat array, and the patches cut from it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from n2n.data.batch import RawBatch
from n2n.data.stores.base import Draw

# Pairs of one held-out scene that are validated on, and the side in pixels above which their centre is cut out: enough to
# know the error, without spending more time on it than on training.
_VAL_PAIRS = 4
_VAL_SIDE = 1024
# CUDA cannot index unsigned integers of more than 8 bits: on a device, their bits are kept as signed ones.
_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32}


@dataclass(frozen=True)
class Scene:
    """One scene in the flat array: captures of one size.

    Attributes:
        name: for the user.
        height: of every capture, in pixels.
        width: of every capture.
        starts: index of the first pixel of each capture.
        clean: that of the clean image, or None.
        rows: the rows that belong to this part of the data (all of them, unless a scene is split), as (first, end).
    """

    name: str
    height: int
    width: int
    starts: tuple[int, ...]
    clean: int | None
    rows: tuple[int, int]

    @property
    def group(self) -> str:
        """The file of which this is a page, where scenes are pages (``name[page]``): they may show nearly the same."""
        return self.name.rpartition("[")[0] or self.name


class _Captures:
    """What the two stores share: the flat array and its meaning.

    Args:
        pixels: T×C, the pixels of all captures one after another, row by row.
        scenes: where each of them lies.
        value_range: values that become 0 and 1.
        draw: makes noisy views; None where the captures are noisy views of each other.
        remarks: lines for the user.
    """

    def __init__(
        self,
        pixels: NDArray[Any],
        scenes: Sequence[Scene],
        value_range: tuple[float, float],
        draw: Draw | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        self.pixels, self.scenes, self.range, self.draw, self.remarks = pixels, scenes, value_range, draw, remarks
        self.dtype = str(pixels.dtype)
        # Also where the pixels are on a device: chance is drawn on the host, so that it draws the same everywhere.
        self.index_device = torch.device("cpu")
        self.resident = False

    @property
    def has_clean(self) -> bool:
        """Whether the clean image of every scene is known."""
        if self.draw is not None and self.draw.from_clean:
            return True
        return all(scene.clean is not None for scene in self.scenes)

    @property
    def has_pairs(self) -> bool:
        """Whether there are two captures of each scene, or ``draw`` makes two views of a clean image."""
        if self.draw is not None:
            return self.draw.from_clean and self.draw.suited_loss is None
        return all(len(scene.starts) > 1 for scene in self.scenes)


def _images(pixels: Tensor) -> Tensor:
    """N×H×W×C pixels as N×C×H×W in channels_last order, which is what the network wants."""
    return pixels.permute(0, 3, 1, 2)


def _cut(pixels: Any, grid: Any, numbers: Any) -> Any:
    """Cut patches out of T×C pixels, N×side×side×C; all three are NumPy arrays or all are tensors."""
    first, turn, line = numbers[:, :, None, None]
    places = grid[turn[:, 0, 0]]
    return pixels[first + line * places[..., 0] + places[..., 1]]


class PatchStore(_Captures):
    """Random patches of the training scenes; every epoch draws other ones, and other pairs of captures.

    Every scene gets the share of patches that its area calls for.

    Args:
        pixels: as for all captures.
        scenes: as for all captures; each has at least one patch of room, and two captures if pairs are wanted.
        value_range: as for all captures.
        patch: side of a patch in pixels.
        patches: how many make an epoch.
        flips: whether patches are flipped and turned by quarters at random, both views alike.
        window: how many frames apart the captures of a pair may be; None for any two, 0 for no pairs but single captures.
        draw: as for all captures.
        scale: by how much ``draw`` makes images smaller.
        remarks: as for all captures.
    """

    one_by_one = False

    def __init__(
        self,
        pixels: NDArray[Any],
        scenes: Sequence[Scene],
        value_range: tuple[float, float],
        patch: int,
        patches: int,
        flips: bool = True,
        window: int | None = None,
        draw: Draw | None = None,
        scale: int = 1,
        remarks: Sequence[str] = (),
    ) -> None:
        super().__init__(pixels, scenes, value_range, draw, remarks)
        self.patch, self.patches, self.window, self.scale = patch, patches, window, scale
        areas = np.cumsum([(s.rows[1] - s.rows[0]) * s.width for s in scenes], dtype=np.float64)
        self._ends = areas / areas[-1]
        self._width = np.array([s.width for s in scenes])
        self._top = np.array([s.rows[0] for s in scenes])
        self._room = np.array([[s.rows[1] - s.rows[0] - patch + 1, s.width - patch + 1] for s in scenes])
        self._count = np.array([len(s.starts) for s in scenes])
        self._first = np.cumsum(self._count) - self._count
        self._starts = np.concatenate([np.array(s.starts, np.int64) for s in scenes])
        # Row and column of each pixel of a patch in the eight orientations.
        y, x = np.mgrid[:patch, :patch]
        grids = [np.rot90(turned, k) for turned in (np.stack([y, x], 2), np.stack([x, y], 2)) for k in (0, 1, 2, 3)]
        self._grid = np.stack(grids if flips else grids[:1]).astype(np.int64)
        # The pixels and the grid on a device.
        self._moved: tuple[Tensor, Tensor] | None = None

    @property
    def nbytes(self) -> int:
        """Size in bytes of all captures, those that are not trained on too."""
        return self.pixels.nbytes

    def to(self, device: torch.device) -> PatchStore:
        """Copy the captures to a device."""
        moved = copy(self)
        moved.resident = device.type != "cpu"
        pixels = torch.from_numpy(self.pixels)
        if pixels.dtype in _SIGNED:
            pixels = pixels.view(_SIGNED[pixels.dtype])
        elif pixels.dtype == torch.float64:
            pixels = pixels.float()  # Apple's GPUs have no float64
        moved._moved = pixels.to(device), torch.from_numpy(self._grid).to(device)
        return moved

    def __len__(self) -> int:
        """Return the number of patches an epoch."""
        return self.patches

    @property
    def has_clean(self) -> bool:
        """Whether the patches are clean; the clean images of noisy scenes are there to validate against."""
        return self.draw is not None and self.draw.from_clean

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of what the network sees."""
        side = self.patch // self.scale
        return self.pixels.shape[1], side, side

    def batch(self, indices: Tensor, seed: int) -> RawBatch:
        """Cut patches at random places out of the scenes that the indices stand for."""
        rng = np.random.default_rng(seed)
        # An index stands for its share of the area of all scenes; a random point in it chooses the scene, so that all have
        # their turn also where there are more scenes than patches.
        point = (indices.numpy() + rng.random(len(indices))) / self.patches
        scene = np.minimum(np.searchsorted(self._ends, point, side="right"), len(self.scenes) - 1)
        count, width = self._count[scene], self._width[scene]
        corner = rng.integers(0, self._room[scene]) + np.stack([self._top[scene], np.zeros_like(scene)], 1)
        offset = corner[:, 0] * width + corner[:, 1]
        turn = rng.integers(0, len(self._grid), len(scene))

        def cut(start: NDArray[np.int64]) -> Tensor:
            # Each patch by three numbers: its first pixel, its orientation, the length of a line.
            numbers = np.stack([start + offset, turn, width])
            if self._moved is None:
                # NumPy does this faster than torch.
                return _images(torch.from_numpy(_cut(self.pixels, self._grid, numbers)))
            pixels, grid = self._moved
            patches = _cut(pixels, grid, torch.from_numpy(numbers).to(pixels.device))
            stored = torch.from_numpy(self.pixels[:0]).dtype
            return _images(patches.view(stored) if stored in _SIGNED else patches)

        one = rng.integers(0, count)
        first = cut(self._starts[self._first[scene] + one])
        second = None
        if self.window != 0:
            reach = count if self.window is None else self.window
            low, high = np.maximum(0, one - reach), np.minimum(count - 1, one + reach)
            # Any of them but the first itself.
            other = rng.integers(low, high)
            other += other >= one
            second = cut(self._starts[self._first[scene] + other])
        return RawBatch(first, second, None, seed)


class SceneStore(_Captures):
    """Held-out scenes to validate on, whole; of very large ones the centre.

    Args:
        pixels: as for all captures.
        scenes: as for all captures.
        value_range: as for all captures.
        window: as for :class:`PatchStore`.
        draw: as for all captures.
        scale: by how much ``draw`` makes images smaller; their sides are cut to multiples of it.
        remarks: as for all captures.
    """

    one_by_one = True

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
            pairs = min(captures // 2, _VAL_PAIRS)
            for first in (np.arange(pairs) * captures // pairs).tolist():
                self.items.append((number, first, first + 1))

    # Images of any size, each a batch: there is little to gain by keeping them on a device.
    nbytes = 0

    def to(self, device: torch.device) -> SceneStore:
        """Return the store as it is."""
        return self

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.items)

    def _box(self, scene: Scene) -> tuple[int, int, int, int]:
        """Return top, bottom, left and right of what is validated on."""
        top, bottom, left, right = *scene.rows, 0, scene.width
        side = _VAL_SIDE * self.scale
        if bottom - top > side:
            top += (bottom - top - side) // 2
        if right - left > side:
            left += (right - left - side) // 2
        height = min(bottom - top, side) // self.scale * self.scale
        width = min(right - left, side) // self.scale * self.scale
        return top, top + height, left, left + width

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of the first image as the network sees it."""
        top, bottom, left, right = self._box(self.scenes[0])
        return self.pixels.shape[1], (bottom - top) // self.scale, (right - left) // self.scale

    def batch(self, indices: Tensor, seed: int) -> RawBatch:
        """Give one image, by its index; what ``draw`` adds to it is the same in every epoch."""
        (index,) = indices.tolist()
        number, first, second = self.items[index]
        scene = self.scenes[number]
        top, bottom, left, right = self._box(scene)

        def cut(start: int | None) -> Tensor | None:
            if start is None:
                return None
            whole = self.pixels[start : start + scene.height * scene.width]
            return _images(torch.from_numpy(whole).reshape(1, scene.height, scene.width, -1)[:, top:bottom, left:right])

        image = cut(scene.starts[first])
        assert image is not None
        return RawBatch(image, None if second is None else cut(scene.starts[second]), cut(scene.clean), index, number)


def split_scenes(scenes: Sequence[Scene], fraction: float, seed: int) -> tuple[list[Scene], list[Scene], str]:
    """Hold scenes out for validation: whole ones, never patches of one that is trained on, and all pages of a file together.

    Of a single scene the last rows are held out, since there is no other. A fraction of 0 holds nothing out and 1 all; in
    between there is at least one scene on either side.

    Returns:
        The scenes to train on, those to validate on, and a line for the user where that needs one.
    """
    if fraction in (0, 1):
        return (list(scenes), [], "") if fraction == 0 else ([], list(scenes), "")
    if len(scenes) == 1:
        (scene,) = scenes
        cut = round(scene.height * (1 - fraction))
        upper, lower = replace(scene, rows=(0, cut)), replace(scene, rows=(cut, scene.height))
        return (
            [upper],
            [lower],
            f"there is one scene only: its last {scene.height - cut} rows are held out for validation",
        )
    groups = list(dict.fromkeys(scene.group for scene in scenes))
    if len(groups) == 1:
        held = min(max(1, round(fraction * len(scenes))), len(scenes) - 1)
        line = f"all images are pages of one file: the last {held} are held out for validation"
        return list(scenes[:-held]), list(scenes[-held:]), line
    held = min(max(1, round(fraction * len(groups))), len(groups) - 1)
    # Those with clean images first: they say most.
    known = {scene.group for scene in scenes if scene.clean is not None}
    order = sorted(np.random.default_rng([seed, 3]).permutation(len(groups)), key=lambda i: groups[i] not in known)
    chosen = {groups[i] for i in order[:held]}
    return [s for s in scenes if s.group not in chosen], [s for s in scenes if s.group in chosen], ""
