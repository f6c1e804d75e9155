"""Scenes in one flat array of pixels, and which of them are held out for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from n2n.data.stores.base import Draw, Store


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
    """

    name: str
    height: int
    width: int
    starts: tuple[int, ...]
    clean: int | None
    rows: tuple[int, int]

    @property
    def group(self) -> str:
        """The file of a scene that is a page (``name[page]``): pages of one file may show nearly the same."""
        return self.name.rpartition("[")[0] or self.name

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
    """

    pixels: NDArray[Any]
    scenes: Sequence[Scene]
    range: tuple[float, float]
    window: int | None = None
    draw: Draw | None = None
    scale: int = 1
    remarks: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.dtype = str(self.pixels.dtype)

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


def split_scenes(scenes: Sequence[Scene], fraction: float, seed: int) -> tuple[list[Scene], list[Scene], str]:
    """Hold whole scenes out for validation, all pages of a file together.

    A single scene is split by rows: the last ones are held out. A fraction of 0 holds out nothing, and 1 everything. Otherwise
    each part has at least one scene.

    Returns:
        The scenes to train on, those to validate on, and a line for the user or "".
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
        line = f"all images are pages of one file: the last {held} are held out for validation"
        return list(scenes[:-held]), list(scenes[-held:]), line
    # Those with clean images first: PSNR needs them.
    known = {scene.group for scene in scenes if scene.clean is not None}
    order = sorted(np.random.default_rng([seed, 3]).permutation(len(groups)), key=lambda i: groups[i] not in known)
    chosen = {groups[i] for i in order[:held]}
    return [s for s in scenes if s.group not in chosen], [s for s in scenes if s.group in chosen], ""
