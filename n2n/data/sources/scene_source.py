"""Base class of the sources of the user's own images: files of any size and dtype become scenes, and scenes become patches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

from n2n.data.cache import Cache, Kept, stamp
from n2n.data.images import left_out, split_part
from n2n.data.scenes.frames import Frame, SceneFiles, first_few
from n2n.data.scenes.gather import gather
from n2n.data.scenes.opening import Opener
from n2n.data.sources.base import PairSource, check_seed
from n2n.data.stores.base import Draw, Store
from n2n.data.stores.patches import PatchStore
from n2n.data.stores.scenes import Scene, SceneStore, split_scenes
from n2n.data.value_range import ValueRange
from n2n.errors import InputError
from n2n.system.text import counted


def noisy_images(source: PairSource) -> str | None:
    """Return the path of the user's own noisy images that a source trains on, as it was given; None if there is none."""
    if (
        not isinstance(source, SceneSource)
        or not source.searched
        or (source.train_draw and source.train_draw.from_clean)
    ):
        return None
    return source.searched[0]


class SceneSource(PairSource, ABC):
    """Base class of the sources of the user's own images.

    The images are copied once into the cache folder, as one memory-mapped array, so they may be larger than memory. They are
    inspected while they are copied. Unusable ones are left out, with a line that names them.

    Args:
        channels: "together" (the default) learns all channels of a pixel at once, as many as most captures have; "apart" learns
            each channel of an axis C by itself, as a grey image. A number is the number of channels: colour becomes luma for 1,
            and grey is repeated for 3.
        value_range: the values of the files that become 0 and 1. None chooses them by dtype: 0 and 255 for 8 bits; 0 and the
            largest value of the bits that the files state (TIFF's BitsPerSample), or that are in use, for more bits; for floats
            and signed integers 0 and 1 if all values lie between and some are above 0.25, else the smallest (0 if none is
            negative) and the largest value. Outliers, such as hot pixels, do not count (see
            :class:`n2n.data.images.extremes.Extremes`); those outside the range are limited to it, with a line that names
            their files. Prediction does not denoise what lies beyond the range by more than its width, so let the range of
            renderings contain their bright parts.
        patch: side in pixels of the patches to train on.
        patches: number of patches an epoch.
        flips: whether patches are flipped and rotated at random.
        val_fraction: part of the scenes (of the rows, if there is one scene) that is held out for validation. 0 trains on all
            (the data module then needs a ``val_source``), 1 holds all out.
        seed: decides which scenes are held out.
        axes: the letters of the axes of all files, such as TCYX, where they do not say them, or say them wrongly; see
            :mod:`n2n.data.images.axes`. Each plane of Z is a scene of its own; so is each of T, but for stacks.
        check: whether to leave out scenes whose captures show different scenes, and to stop if most do.
        cache_dir: where the copy is kept; the user's cache folder if None.

    Raises:
        InputError: for numbers out of range; from the methods, if no image can be used, or ``check`` fails.
    """

    # Largest distance between the captures of a pair (see PatchStore); 0 for sources of single images.
    window: int | None = None
    # The folder of clean images, for sources that take one.
    clean: str | None = None
    # The folders of images; a line counts what n2n does not read in them.
    searched: Sequence[str] = ()
    # Makes views of single images; None for sources of pairs.
    train_draw: Draw | None = None
    val_draw: Draw | None = None
    # Factor by which the draw makes images smaller.
    scale: int = 1
    kind: ClassVar[str]

    def __init__(
        self,
        channels: Literal["together", "apart"] | int | None = None,
        value_range: tuple[float, float] | None = None,
        patch: int = 64,
        patches: int = 4000,
        flips: bool = True,
        val_fraction: float = 0.1,
        seed: int = 0,
        axes: str | None = None,
        check: bool = True,
        cache_dir: str | None = None,
    ) -> None:
        if min(patch, patches) < 1:
            raise InputError(f"patch is {patch} and patches {patches}: expected at least 1")
        if not 0 <= val_fraction <= 1:
            raise InputError(f"val_fraction is {val_fraction}: expected 0 to 1")
        check_seed(seed)
        if value_range is not None:
            ValueRange(*value_range)  # refuses a range that no checkpoint could hold
        if isinstance(channels, int) and channels < 1:
            raise InputError(f"channels is {channels}: expected together, apart, or a number of at least 1")
        self.channels, self.value_range = channels, value_range
        self.opener = Opener(axes, channels == "apart")
        self.patch, self.patches, self.flips = patch, patches, flips
        self.val_fraction, self.seed, self.check, self.cache_dir = val_fraction, seed, check, cache_dir

    @abstractmethod
    def find(self) -> tuple[list[SceneFiles], list[str]]:
        """Find the files; returns the scenes, and lines for the user.

        Raises:
            InputError: if there are none.
        """

    def train_pairs(self) -> Store:
        """Open the training scenes as random patches."""
        train, _, lines = self._parts
        if not train:
            raise InputError("all scenes are held out for validation: set the source's val_fraction below 1")
        side = self.patch * self.scale
        usable = [scene for scene in train if scene.shortest_side >= side]
        if not usable:
            smallest = min(scene.shortest_side for scene in train)
            raise InputError(
                f"no training image has room for a patch of {side} px (the smallest has {smallest} px): set the source's "
                f"patch lower (--data.source.patch {smallest // self.scale})"
            )
        note, (low, high) = self._kept.note, self._range
        others = [line] if (line := left_out(self.searched)) else []
        remarks = [*self._found[1], *others, *note["remarks"], f"values {low:g} to {high:g} become 0 to 1"]
        if self.clean is not None:
            known = sum(clean is not None for *_, clean in note["scenes"])
            remarks.append(f"clean images found for {known} of {counted(len(note['scenes']), 'scene')}")
        remarks += [*lines, f"{counted(len(usable), 'scene')} to train on"]
        if len(usable) < len(train):
            small = counted(len(train) - len(usable), "scene")
            remarks.append(f"left out {small} without room for a patch of {side} px")
        common = (self._kept.array, usable, self._range, self.window, self.train_draw, self.scale, remarks)
        return PatchStore(*common, note["dtype"], note["gaps"], patch=side, patches=self.patches, flips=self.flips)

    def val_pairs(self) -> Store:
        """Open the held-out scenes, whole."""
        scale = self.scale if self.val_draw is not None else 1
        val = [scene for scene in self._parts[1] if scene.shortest_side >= scale]
        if not val:
            raise InputError("nothing is held out for validation: set the source's val_fraction, or a data.val_source")
        lines = [f"{first_few([scene.name for scene in val])} held out"]
        known = [scene for scene in val if scene.clean is not None]
        # Single images without clean ones give no PSNR.
        if self.clean is not None and not known and self.window == 0:
            raise InputError(f"no held-out image has a clean one in {self.clean}: expected files of the same names")
        # All or none have clean images, so that all figures are of the same images.
        if known and len(known) < len(val):
            lines.append(f"left out {len(val) - len(known)} of them without a clean image")
            val = known
        common = (self._kept.array, val, self._range, self.window, self.val_draw, scale, lines)
        return SceneStore(*common, self._kept.note["dtype"], self._kept.note["gaps"])

    @property
    def _range(self) -> tuple[float, float]:
        low, high = self._kept.note["range"]
        return float(low), float(high)

    @cached_property
    def _found(self) -> tuple[list[SceneFiles], list[str]]:
        return self.find()

    @cached_property
    def _kept(self) -> Kept:
        recipe = {
            "source": self.kind,
            "version": 8,
            "channels": self.channels,
            "opener": [self.opener.axes, self.opener.apart],
            "value_range": None if self.value_range is None else list(self.value_range),
            "window": self.window,
            "scenes": [[s.name, [_identity(f) for f in s.frames], s.clean is not None] for s in self._found[0]],
        }
        cache = Cache(self.kind, recipe, self.cache_dir)
        channels = self.channels if isinstance(self.channels, int) else None
        return cache.open(
            lambda allocate: gather(self._found[0], channels, self.window, self.opener, allocate, self.value_range)
        )

    @cached_property
    def _parts(self) -> tuple[list[Scene], list[Scene], list[str]]:
        """The scenes to train on, those held out, and lines for the user."""
        note = self._kept.note
        if self.check and note["mismatch"]:
            raise InputError(note["mismatch"])
        if self.clean is not None and all(clean is None for *_, clean in note["scenes"]):
            raise InputError(
                f"no image in {self.clean} belongs to a scene: expected files named like the scenes, such as "
                f"{note['scenes'][0][0]}.png"
            )
        correlated = note["correlated"] or [False] * len(note["scenes"])
        strangers = {start for _, start, _ in note["strangers"]} if self.check else set()
        scenes = [
            Scene(name, height, width, tuple(s for s in starts if s not in strangers), clean, (0, height), kind, file)
            for (name, height, width, starts, clean), kind, file in zip(
                note["scenes"], correlated, note["files"], strict=True
            )
        ]
        wrong = {scenes[number] for number in note["mismatched"]} if self.check else set()
        train, val, line = split_scenes([scene for scene in scenes if scene not in wrong], self.val_fraction, self.seed)
        held, lines = set(val), [line] if line else []
        if wrong:
            lines.append(
                f"warning: left out {counted(len(wrong), 'scene')} whose captures show different scenes: "
                f"{first_few([scene.name for scene in scenes if scene in wrong])}; check the names of the files, or set the "
                "source's check to false (--data.source.check false)"
            )
        if strangers:
            names = [f"{name} in {scenes[number].name}" for number, _, name in note["strangers"]]
            lines.append(
                f"warning: left out {counted(len(names), 'capture')}, because most captures of the scene show something else: "
                f"{first_few(names)}; check the names of the files, their orientation, and whether the camera moved, or set "
                "the source's check to false (--data.source.check false)"
            )
        repeats = [(scenes[one], scenes[other], text) for one, other, text in note["repeats"]]
        both = [text for one, other, text in repeats if not wrong & {one, other} and (one in held) != (other in held)]
        if both:
            lines.append(
                f"warning: {len(both)} held-out images are also trained on under another name, so validation gives too good "
                f"figures: {first_few(both)}"
            )
        return train, val, lines


def _identity(frame: Frame) -> list[Any]:
    """Return what changes if a frame changes. The stamp of a file is taken with its first page, which is always used."""
    try:
        path = str(frame.path.resolve())
    except (OSError, RuntimeError):  # RuntimeError: a loop of links
        path = str(frame.path)
    return [path, frame.page, stamp(split_part(frame.path)[0]) if frame.page == 0 else None]
