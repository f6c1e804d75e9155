"""Scenes in one flat array of pixels, and the store of those that are held out for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from n2n.data.batch import RawBatch
from n2n.data.stores.base import Draw, Store

# Pairs of each scene, and the side in pixels above which only the centre is used. These give a good estimate of the error in
# less time than the training takes.
_PAIRS = 4
_SIDE = 1024


@dataclass(frozen=True)
class Scene:
    """One scene in the flat array: captures of one size.

    Attributes:
        name: for the user.
        height: of every capture, in pixels.
        width: of every capture, in pixels.
        starts: index of the first pixel of each capture.
        clean: index of the first pixel of the clean image, or None.
        rows: the rows used, as (first, end): all of them, unless the scene is split into training and validation.
        correlated: whether its noise is correlated between neighbouring pixels, if that is known.
        file: of its first capture, if it has one. Scenes of one file are its pages, which may show nearly the same.
    """

    name: str
    height: int
    width: int
    starts: tuple[int, ...]
    clean: int | None
    rows: tuple[int, int]
    correlated: bool = False
    file: str | None = None

    @property
    def group(self) -> str:
        """Scenes of one group are held out together: those of one file, or else of one name."""
        return self.file or self.name

    @property
    def shortest_side(self) -> int:
        """The smaller of the number of rows used and the width, in pixels."""
        return min(self.rows[1] - self.rows[0], self.width)


@dataclass(eq=False)
class SceneArray(Store):
    """Base class of the stores of scenes.

    Args:
        pixels: T×C, the pixels of all captures one after another, row by row.
        scenes: where each of them lies.
        range: values that become 0 and 1.
        window: largest distance, in captures, between the two of a pair; None for any two, 0 for single captures.
        draw: makes noisy views; None if the captures are noisy views of each other.
        scale: factor by which ``draw`` makes images smaller.
        remarks: lines for the user.
        dtype: name of the files' NumPy dtype; by default that of ``pixels``.
        gaps: whether NaN means a pixel without data.
    """

    pixels: NDArray[Any]
    scenes: Sequence[Scene]
    range: tuple[float, float]
    window: int | None = None
    draw: Draw | None = None
    scale: int = 1
    remarks: Sequence[str] = ()
    dtype: str = ""
    gaps: bool = False

    def __post_init__(self) -> None:
        self.dtype = self.dtype or str(self.pixels.dtype)

    @property
    def has_clean(self) -> bool:
        """Whether the clean image of every scene is known."""
        drawn = self.draw is not None and self.draw.from_clean
        return drawn or all(scene.clean is not None for scene in self.scenes)

    @property
    def has_pairs(self) -> bool:
        """Whether there are two captures of each scene, or ``draw`` makes two views of a clean image."""
        if self.draw is not None:
            return self.draw.from_clean and self.draw.suited_loss is None
        return all(len(scene.starts) > 1 for scene in self.scenes)


def channels_first(pixels: Tensor) -> Tensor:
    """View N×H×W×C pixels as N×C×H×W, in channels_last order, which is the fast one for the network."""
    return pixels.permute(0, 3, 1, 2)


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


def split_scenes(scenes: Sequence[Scene], fraction: float, seed: int) -> tuple[list[Scene], list[Scene], str]:
    """Hold whole scenes out; returns those to train on, those to validate on, and a line for the user or "".

    All pages of a file stay together. A single scene is split by rows: the last ones are held out. A fraction of 0 holds out
    nothing, and 1 everything. Otherwise each part has at least one scene, and each kind of noise, white or correlated, that two
    files or more have is held out too.
    """
    if fraction in (0, 1):
        return (list(scenes), [], "") if fraction == 0 else ([], list(scenes), "")
    if len(scenes) == 1:
        (scene,) = scenes
        cut = round(scene.height * (1 - fraction))
        line = f"there is one scene only: its last {scene.height - cut} rows are held out for validation"
        return [replace(scene, rows=(0, cut))], [replace(scene, rows=(cut, scene.height))], line
    groups = list(dict.fromkeys(scene.group for scene in scenes))
    count = len(groups) if len(groups) > 1 else len(scenes)
    held = min(max(1, round(fraction * count)), count - 1)
    if len(groups) == 1:
        last = "the last one is" if held == 1 else f"the last {held} are"
        line = f"all images are pages of one file: {last} held out for validation"
        return list(scenes[:-held]), list(scenes[-held:]), line
    # Those with clean images first: PSNR needs them.
    known = {scene.group for scene in scenes if scene.clean is not None}
    order = sorted(np.random.default_rng([seed, 3]).permutation(len(groups)), key=lambda i: groups[i] not in known)
    shuffled = [groups[i] for i in order]
    kind = {scene.group: scene.correlated for scene in scenes}
    of_kind = [[group for group in shuffled if kind[group] == correlated] for correlated in (False, True)]
    # One of each kind, then the others.
    first = [some[0] for some in of_kind if len(some) > 1]
    chosen = set([*first, *(group for group in shuffled if group not in first)][: max(held, len(first))])
    line = ""
    for some, text in zip(of_kind, ("white", "correlated between neighbouring pixels"), strict=True):
        if some and not chosen & set(some):
            line = (
                f"warning: only {Path(some[0]).name} has noise that is {text}, and no held-out scene has it: the PSNR does not "
                "show how well it is removed"
            )
    return [s for s in scenes if s.group not in chosen], [s for s in scenes if s.group in chosen], line
