"""How the files of a source are opened, and which pages they have along which axes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from n2n.data.images import ImageReader, open_image
from n2n.data.images.axes import sizes
from n2n.data.images.planes import channels_apart, channels_together
from n2n.errors import InputError


@dataclass(frozen=True)
class Opener:
    """Opens the files of a source.

    Args:
        axes: the letters of the axes of every file; None for those that each names.
        apart: whether each channel is a page of its own. Otherwise all channels of a pixel are read together.
    """

    axes: str | None = None
    apart: bool = False

    def __call__(self, path: Path) -> ImageReader:
        """Open a file; raises InputError as :func:`n2n.data.images.open_image`."""
        image = open_image(path, self.axes)
        return channels_apart(image) if self.apart else channels_together(image)


class FilePages(NamedTuple):
    """The pages of one file.

    Attributes:
        name: of the file, for the user.
        path: of the file.
        axes: the letters of the axes that its pages run along.
        shape: the sizes of these axes.
        channels: C of a page that come from an axis C; 1 for others.
        remarks: the file's own, see :class:`n2n.data.images.ImageReader`.
    """

    name: str
    path: Path
    axes: str = ""
    shape: tuple[int, ...] = ()
    channels: int = 1
    remarks: Sequence[str] = ()

    def __str__(self) -> str:
        return f"{self.path.name} ({sizes(self.axes, self.shape) or 'one page'})"

    def matches(self, other: FilePages) -> bool:
        """Whether the pages of two files belong together, one by one. Q has no name, so it matches all letters."""
        letters = zip(self.axes, other.axes, strict=False)
        return self.shape == other.shape and all(a == b or "Q" in (a, b) for a, b in letters)

    def places(self) -> Iterator[tuple[int, str]]:
        """Yield the number of each page, and its name: that of the file if it is the only one."""
        for number, place in enumerate(product(*map(range, self.shape))):
            where = ",".join(f"{axis}={i}" for axis, i in zip(self.axes, place, strict=True) if len(self.shape) > 1)
            yield number, f"{self.name}[{where or number}]" if self.shape else self.name

    def along(self, axis: int) -> Iterator[tuple[str, list[int]]]:
        """Yield the pages along one axis, for each place on the others, with a name for that place."""
        numbers = np.moveaxis(np.arange(np.prod(self.shape)).reshape(self.shape), axis, -1)
        others = self.axes[:axis] + self.axes[axis + 1 :]
        for place in product(*map(range, numbers.shape[:-1])):
            where = ",".join(f"{letter}={i}" for letter, i in zip(others, place, strict=True))
            yield f"{self.name}[{where}]" if where else self.name, numbers[place].tolist()


def find_pages(files: Iterable[tuple[str, Path]], opener: Opener) -> tuple[list[FilePages], list[str]]:
    """Open files, given with their names; returns their pages, and the errors of those that cannot be read."""
    found, unreadable = [], []
    for name, file in files:
        try:
            with opener(file) as image:
                kept = [(axis, size) for axis, size in zip(image.page_axes, image.page_shape, strict=True) if size > 1]
                axes, shape = "".join(axis for axis, _ in kept), tuple(size for _, size in kept)
                channels = image.channels if image.named and image.axes[-1] == "C" else 1
                found.append(FilePages(name, file, axes, shape, channels, image.remarks))
        except InputError as error:
            unreadable.append(str(error))
    return found, unreadable


def describe_axes(files: Sequence[FilePages], captures: str | None = None) -> list[str]:
    """Return a line on what each axis of files of several pages is taken for; none if all files have one page.

    Args:
        files: of one kind.
        captures: the letter of the axis along which the captures of a scene lie; None if each page is a scene of its file.
    """
    largest = max(files, key=lambda file: len(file.shape), default=None)
    if largest is None or not largest.shape:
        return []
    parts = []
    others = [(axis, size) for axis, size in zip(largest.axes, largest.shape, strict=True) if axis != captures]
    if captures is not None:
        parts.append(f"captures lie along {captures} ({largest.shape[largest.axes.index(captures)]})")
    if others:
        parts.append(" × ".join(f"{axis} {size}" for axis, size in others) + " are scenes of their own")
    lines = [f"axes of {largest.path.name}: {', '.join(parts)}"]
    if largest.channels > 1:
        lines.append(
            f"warning: the {largest.channels} channels of {largest.path.name} are learnt together, so the network will suit "
            f"images of these {largest.channels} channels only; --data.source.channels apart learns each by itself"
        )
    return lines
