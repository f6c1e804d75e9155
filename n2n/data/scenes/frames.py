"""Scenes as files: which captures belong together, and which of them can be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from n2n.data.images import ImageReader, open_image
from n2n.errors import InputError


@dataclass(frozen=True)
class Frame:
    """One capture: a page of an image file."""

    path: Path
    page: int = 0


@dataclass(frozen=True)
class SceneFiles:
    """The captures of one scene, and its clean image if there is one."""

    name: str
    captures: tuple[Frame, ...]
    clean: Frame | None = None

    @property
    def frames(self) -> tuple[Frame, ...]:
        """All of its images, the clean one last."""
        return self.captures if self.clean is None else (*self.captures, self.clean)


@dataclass(frozen=True)
class Format:
    """What must agree among images."""

    height: int
    width: int
    channels: int
    dtype: str

    @classmethod
    def of(cls, reader: ImageReader) -> Self:
        """Tell the format of an open file."""
        return cls(reader.height, reader.width, reader.channels, reader.dtype.name)

    @property
    def size(self) -> tuple[int, int]:
        """H and W."""
        return self.height, self.width

    def __str__(self) -> str:
        return f"{self.height}×{self.width}×{self.channels} {self.dtype}"


def some(names: Sequence[str], limit: int = 5) -> str:
    """Name the first few, and say how many more there are."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _fits_clean(found: Format, captures: Format, channels: int) -> bool:
    """Whether a clean image can be laid beside captures: floats are rounded into their dtype, as the mean of many is."""
    same = found.dtype == captures.dtype or np.dtype(found.dtype).kind == "f"
    return same and found.size == captures.size and _makes(found.channels, channels)


def _makes(channels: int, wanted: int) -> bool:
    """Whether an image of so many channels can become one of those wanted: grey and colour can be made of each other."""
    return channels == wanted or {channels, wanted} == {1, 3}


def survey(
    scenes: Sequence[SceneFiles], channels: int | None, least: int
) -> tuple[list[SceneFiles], dict[Frame, Format], tuple[int, np.dtype[Any]], list[str]]:
    """Open every file once and leave out what cannot be used.

    Returns:
        The scenes that remain, with at least ``least`` captures each; the format of their frames; the channels and the
        dtype of all captures (a clean image may be of floats beside any); lines on the others.

    Raises:
        InputError: if nothing remains.
    """
    formats: dict[Frame, Format] = {}
    unreadable: dict[Path, str] = {}
    readable: set[Path] = set()
    for scene in scenes:
        for frame in scene.frames:
            if frame.path in readable or frame.path in unreadable:
                continue
            try:
                with open_image(frame.path) as reader:
                    found, pages = Format.of(reader), reader.pages
                readable.add(frame.path)
                formats.update({Frame(frame.path, page): found for page in range(pages)})
            except InputError as error:
                unreadable[frame.path] = str(error)
    # What most captures are decides; the others are left out.
    kinds = Counter((formats[f].channels, formats[f].dtype) for s in scenes for f in s.captures if f in formats)
    if not kinds:
        raise InputError(
            f"none of the {len(unreadable)} files can be read: {next(iter(unreadable.values()), 'no pages')}"
        )
    (most_channels, dtype), _ = kinds.most_common(1)[0]
    wanted = channels or most_channels
    lines = []
    if unreadable:
        lines.append(
            f"warning: {len(unreadable)} files cannot be read and are left out: {some(list(unreadable.values()), 3)}"
        )

    def fits(found: Format) -> bool:
        return found.dtype == dtype and _makes(found.channels, wanted)

    kept, other, differing, alone = [], [], [], []
    for scene in scenes:
        there = [frame for frame in scene.captures if frame in formats]
        clean = scene.clean if scene.clean in formats else None
        fit = [frame for frame in there if fits(formats[frame])]
        if len(fit) < len(there):
            other += [f"{f.path.name} ({formats[f]})" for f in there if f not in fit]
        if not fit:
            continue
        if any(formats[frame].size != formats[fit[0]].size for frame in fit):
            differing.append(f"{scene.name} ({', '.join(dict.fromkeys(str(formats[frame]) for frame in fit))})")
            continue
        if clean is not None and not _fits_clean(formats[clean], formats[fit[0]], wanted):
            differing.append(f"the clean image of {scene.name} ({formats[clean]}, its captures are {formats[fit[0]]})")
            clean = None
        if len(fit) < least:
            alone.append(scene.name)
            continue
        kept.append(SceneFiles(scene.name, tuple(fit), clean))
    if other:
        lines.append(
            f"warning: {len(other)} images are not {wanted}-channel {dtype} like most and are left out: {some(other)}"
        )
    if differing:
        lines.append(f"warning: shapes do not match and are left out: {some(differing)}")
    if alone:
        lines.append(f"warning: {len(alone)} scenes have one capture only and are left out: {some(alone)}")
    if not kept:
        raise InputError(f"nothing is left to train on: {'; '.join(lines) or 'no scene has two captures'}")
    return kept, formats, (wanted, np.dtype(dtype)), lines
