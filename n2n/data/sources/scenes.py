"""Sources of the user's own images: files of any size and dtype become scenes, and scenes become patches."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from n2n.data.cache import Allocate, Cache, Kept
from n2n.data.scenes.frames import Frame, SceneFiles, some
from n2n.data.scenes.gather import gather
from n2n.data.sources.base import check_seed
from n2n.data.stores.base import Draw, Store
from n2n.data.stores.patches import PatchStore, Scene, SceneStore, split_scenes
from n2n.errors import InputError


class SceneSource(ABC):
    """What the sources of the user's own images share.

    The images are copied once into the cache folder, as one array that is mapped from there, so they may be larger than
    memory. On the way they are looked at: what cannot be used is left out and named.

    Args:
        channels: 1 (colour becomes luma), 3 (grey is repeated), or None for those of most captures.
        value_range: the two values of the files that become 0 and 1. None for 0 to 255 of 8 bits, 0 to the largest value of the
            bits in use for more, and for floats 0 to 1 if they fit in it, else what they span, as for signed integers.
        patch: side in pixels of the patches to train on.
        patches: how many of them make an epoch.
        flips: whether patches are flipped and turned at random.
        val_fraction: part of the scenes that is held out for validation; of a single scene, part of its rows. 0 to train on
            all; the data module then needs a ``val_source``, which in turn may hold out all, 1.
        seed: decides which scenes are held out.
        cache_dir: where the copy is kept; the user's cache folder if None.

    Raises:
        InputError: for numbers out of range; from the methods, if no image can be used.
    """

    # How many captures of a scene a pair may be apart (see PatchStore); 0 for sources of single images.
    window: int | None = None
    # The folder of clean images, of sources that take one.
    clean: str | None = None
    kind: ClassVar[str]

    def __init__(
        self,
        channels: Literal[1, 3] | None = None,
        value_range: tuple[float, float] | None = None,
        patch: int = 64,
        patches: int = 4000,
        flips: bool = True,
        val_fraction: float = 0.1,
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        if min(patch, patches) < 1:
            raise InputError(f"patch is {patch} and patches {patches}: expected at least 1")
        if not 0 <= val_fraction <= 1:
            raise InputError(f"val_fraction is {val_fraction}: expected 0 to 1")
        check_seed(seed)
        if value_range is not None and not value_range[0] < value_range[1]:
            raise InputError(
                f"value_range is {value_range[0]:g} to {value_range[1]:g}: expected the smaller value first"
            )
        self.channels, self.value_range, self.patch, self.patches, self.flips = (
            channels,
            value_range,
            patch,
            patches,
            flips,
        )
        self.val_fraction, self.seed, self.cache_dir = val_fraction, seed, cache_dir

    @abstractmethod
    def find(self) -> tuple[list[SceneFiles], list[str]]:
        """Find the files; returns the scenes, and lines on what was left out.

        Raises:
            InputError: if there are none.
        """

    # What makes views of single images; sources of pairs need none.
    train_draw: Draw | None = None
    val_draw: Draw | None = None
    scale: int = 1

    def train_pairs(self) -> Store:
        """Open the training scenes as random patches."""
        train, _, note = self._parts
        if not train:
            raise InputError("all scenes are held out for validation: set the source's val_fraction below 1")
        smallest = min(min(scene.rows[1] - scene.rows[0], scene.width) for scene in train)
        side = self.patch * self.scale
        usable = [scene for scene in train if min(scene.rows[1] - scene.rows[0], scene.width) >= side]
        if not usable:
            raise InputError(
                f"no training image has room for a patch of {side} px (the smallest has {smallest} px): set the source's "
                "patch lower, or val_fraction, so that more is left to train on"
            )
        lines = [*self._remarks, *([note] if note else []), f"{len(usable)} scenes to train on"]
        if len(usable) < len(train):
            lines.append(f"{len(train) - len(usable)} scenes have no room for a patch of {side} px and are left out")
        kept = self._kept
        return PatchStore(
            *(kept.array, usable, self._range, side, self.patches, self.flips, self.window),
            draw=self.train_draw,
            scale=self.scale,
            remarks=lines,
        )

    def val_pairs(self) -> Store:
        """Open the held-out scenes, whole."""
        _, val, _ = self._parts
        scale = self.scale if self.val_draw is not None else 1
        val = [scene for scene in val if min(scene.rows[1] - scene.rows[0], scene.width) >= scale]
        if not val:
            raise InputError("nothing is held out for validation: set the source's val_fraction, or a data.val_source")
        lines = [f"{some([scene.name for scene in val])} held out"]
        known = [scene for scene in val if scene.clean is not None]
        # All or none, so that the figures are of the same images. Single images have no other figure.
        if self.clean is not None and not known and self.window == 0:
            raise InputError(
                f"none of the held-out images has a clean one in {self.clean}: expected files of the same names"
            )
        if known and len(known) < len(val):
            lines.append(f"{len(val) - len(known)} of them have no clean image and are left out")
            val = known
        return SceneStore(
            *(self._kept.array, val, self._range, self.window),
            draw=self.val_draw,
            scale=scale,
            remarks=lines,
        )

    @property
    def _range(self) -> tuple[float, float]:
        low, high = self.value_range or self._kept.note["range"]
        return float(low), float(high)

    @property
    def _remarks(self) -> list[str]:
        low, high = self._range
        lines = [*self._found[1], *self._kept.note["remarks"], f"values {low:g} to {high:g} become 0 to 1"]
        if self.clean is not None:
            scenes = self._kept.note["scenes"]
            lines.append(
                f"clean images found for {sum(clean is not None for *_, clean in scenes)} of {len(scenes)} scenes"
            )
        return lines

    @cached_property
    def _found(self) -> tuple[list[SceneFiles], list[str]]:
        return self.find()

    @cached_property
    def _kept(self) -> Kept:
        scenes, _ = self._found
        recipe = {
            "source": self.kind,
            "version": 2,
            "channels": self.channels,
            "window": self.window,
            "scenes": [[s.name, [_stamp(frame) for frame in s.frames], s.clean is not None] for s in scenes],
        }
        return Cache(self.kind, recipe, self.cache_dir).open(self._build)

    @cached_property
    def _parts(self) -> tuple[list[Scene], list[Scene], str]:
        if self.clean is not None and all(clean is None for *_, clean in self._kept.note["scenes"]):
            raise InputError(f"no image in {self.clean} belongs to a scene: expected files named like the scenes")
        scenes = [
            Scene(name, height, width, tuple(starts), clean, (0, height))
            for name, height, width, starts, clean in self._kept.note["scenes"]
        ]
        return split_scenes(scenes, self.val_fraction, self.seed)

    def _build(self, allocate: Allocate) -> dict[str, Any]:
        return gather(self._found[0], self.channels, self.window, allocate)


def _stamp(frame: Frame) -> list[Any]:
    """Tell a frame apart from what its path held before: path, page, size in bytes and time of the last change in ns.

    A folder, which is a zarr array, has those of all the files in it, and their number. They are looked up for its first
    page only: every source that takes pages of an array takes the first one, too. What is not there has None.
    """
    try:
        path, stat = str(frame.path.resolve()), frame.path.stat()
        if frame.page > 0 or not frame.path.is_dir():
            return [path, frame.page, stat.st_size, stat.st_mtime_ns]
        stats = [Path(at, name).stat() for at, _, names in os.walk(path) for name in names]
        changed = max((stat.st_mtime_ns for stat in stats), default=stat.st_mtime_ns)
        return [path, frame.page, sum(stat.st_size for stat in stats), changed, len(stats)]
    # A loop of links is a RuntimeError.
    except (OSError, RuntimeError):
        return [str(frame.path), frame.page, None, None]
