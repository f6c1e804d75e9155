"""The source of pairs in memory: NumPy arrays, torch tensors, or lists of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from n2n.data.cache import Kept
from n2n.data.images.axes import unnamed
from n2n.data.images.base import Array, ImageReader
from n2n.data.images.in_memory import as_array
from n2n.data.images.planes import channels_apart
from n2n.data.scenes.frames import Frame, SceneFiles
from n2n.data.scenes.gather import gather
from n2n.data.scenes.opening import Opener
from n2n.data.sources.scene_source import SceneSource
from n2n.errors import InputError
from n2n.system.text import counted

# An array N×H×W or N×H×W×C, a tensor N×C×H×W, or a list of images H×W or H×W×C (tensors C×H×W).
Images = NDArray[Any] | Tensor | Sequence[NDArray[Any]] | Sequence[Tensor]


def _as_image(image: NDArray[Any] | Tensor, name: str) -> NDArray[Any]:
    """Return one image as H×W×C."""
    try:
        array = as_array(image)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    if isinstance(image, Tensor):
        array = np.moveaxis(array, 0, 2) if array.ndim == 3 else array
    elif array.ndim == 3 and unnamed(array.shape) != "YXC":
        raise InputError(f"{name} has the shape {array.shape}: expected H×W, or H×W×C with at most 4 channels")
    if array.ndim not in (2, 3) or array.size == 0:
        raise InputError(f"{name} has the shape {array.shape}: expected an image H×W or H×W×C (a tensor C×H×W)")
    return array if array.ndim == 3 else array[..., None]


def _images(given: Images, what: str) -> list[NDArray[Any]]:
    if not isinstance(given, np.ndarray | Tensor | list | tuple):
        kind = type(given).__name__
        raise InputError(
            f"{what} is a {kind}: expected an array N×H×W or N×H×W×C, a tensor N×C×H×W, or a list of images"
        )
    if isinstance(given, np.ndarray | Tensor) and given.ndim not in (3, 4):
        kind = "N×C×H×W" if isinstance(given, Tensor) else "N×H×W or N×H×W×C"
        raise InputError(f"{what} has the shape {tuple(given.shape)}: expected {kind}, or a list of images")
    return [_as_image(image, f"{what}[{number}]") for number, image in enumerate(given)]


class _Memory(ImageReader):
    """An image H×W×C in memory."""

    def __init__(self, path: Path, image: NDArray[Any]) -> None:
        self._image = image
        super().__init__(path)

    def _open(self) -> None:
        image = self._image
        self.pages, (self.height, self.width, self.channels) = 1, image.shape
        self.dtype = image.dtype.newbyteorder("=")
        self._name_axes(image.shape, "YXC")

    def _decode(self, page: int, start: int, stop: int) -> Array:
        return self._image[start:stop].astype(self.dtype, copy=False)


@dataclass(frozen=True)
class _FromMemory(Opener):
    """Opens images in memory by names that look like paths."""

    images: Mapping[Path, NDArray[Any]] = field(default_factory=dict)

    def __call__(self, path: Path) -> ImageReader:
        image = _Memory(path, self.images[path])
        return channels_apart(image) if self.apart else image


class Arrays(SceneSource):
    """Pairs in memory: ``first[i]`` and ``second[i]`` are two captures of one scene.

    ::

        data = PairDataModule(Arrays(first, second), batch_size=8)
        Trainer(max_epochs=5).fit(DenoisingModule(NAFNet()), data)

    Args:
        first: one capture of each scene: an array N×H×W or N×H×W×C, a tensor N×C×H×W, or a list of images of different sizes,
            H×W or H×W×C (tensors C×H×W). Any dtype that n2n reads from files.
        second: the other captures, of the same sizes.
        clean: the clean images, if they are known. They are used for validation only.
        **kwargs: see :class:`~n2n.data.sources.scene_source.SceneSource`. Nothing is written to the cache.

    Raises:
        InputError: if the arguments are no images, or their numbers differ; from the methods as for all sources.
    """

    kind = "arrays"

    def __init__(self, first: Images, second: Images, clean: Images | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.opener.axes is not None:
            raise InputError(
                f"axes is {self.opener.axes}: arrays have fixed axes, N×H×W×C, and tensors N×C×H×W; leave it out"
            )
        parts = {"first": _images(first, "first"), "second": _images(second, "second")}
        if clean is not None:
            parts["clean"] = _images(clean, "clean")
            self.clean = "clean"
        counts = {name: len(images) for name, images in parts.items()}
        if len(set(counts.values())) > 1 or not counts["first"]:
            raise InputError(f"the numbers of images are {counts}: expected as many of each, and at least one")
        self._count, self._known = counts["first"], clean is not None
        named = {
            Path(name, str(number)): image for name, images in parts.items() for number, image in enumerate(images)
        }
        self.opener = _FromMemory(apart=self.opener.apart, images=named)

    def find(self) -> tuple[list[SceneFiles], list[str]]:
        """Pair the images by their numbers."""
        scenes = []
        for number in range(self._count):
            paths = [Path(name, str(number)) for name in ("first", "second")]
            with self.opener(paths[0]) as image:
                pages = image.pages
            clean = Path("clean", str(number)) if self._known else None
            for page in range(pages):
                name = f"{number}[{page}]" if pages > 1 else str(number)
                scenes.append(SceneFiles.of(name, (Frame(path, page) for path in paths), clean, page))
        return scenes, [f"{counted(len(scenes), 'pair')} in memory"]

    @cached_property
    def _kept(self) -> Kept:
        channels = self.channels if isinstance(self.channels, int) else None
        made: list[NDArray[Any]] = []

        def allocate(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
            made.append(np.empty(shape, dtype))
            return made[0]

        note = gather(self._found[0], channels, self.window, self.opener, allocate, self.value_range)
        return Kept(made[0], note)
