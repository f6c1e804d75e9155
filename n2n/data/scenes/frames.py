"""Scenes as files: which captures belong together, and which of them can be used."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from n2n.data.images import ImageReader
from n2n.data.scenes.opening import Opener
from n2n.errors import InputError
from n2n.system.text import counted


@dataclass(frozen=True)
class Frame:
    """One capture: a page of an image file."""

    path: Path
    page: int = 0

    def __str__(self) -> str:
        return f"{self.path.name}[{self.page}]" if self.page else self.path.name


@dataclass(frozen=True)
class SceneFiles:
    """The captures of one scene, and its clean image or None."""

    name: str
    captures: tuple[Frame, ...]
    clean: Frame | None = None

    @classmethod
    def of(cls, name: str, captures: Iterable[Frame], clean: Path | None, page: int = 0) -> Self:
        """Return a scene whose clean image is a page of a file, if there is one."""
        return cls(name, tuple(captures), Frame(clean, page) if clean is not None else None)

    @property
    def frames(self) -> tuple[Frame, ...]:
        """All images of the scene, the clean one last."""
        return self.captures if self.clean is None else (*self.captures, self.clean)


@dataclass(frozen=True)
class ImageFormat:
    """Size (H, W), channels and dtype of an image, which are compared; and its white and no-data values, which are not."""

    size: tuple[int, int]
    channels: int
    dtype: str
    white: float | None = field(default=None, compare=False)
    nodata: float | None = field(default=None, compare=False)

    @classmethod
    def of(cls, reader: ImageReader) -> Self:
        """Return the format of an open file."""
        return cls((reader.height, reader.width), reader.channels, reader.dtype.name, reader.white, reader.nodata)

    def __str__(self) -> str:
        return f"{self.size[0]}×{self.size[1]}×{self.channels} {self.dtype}"


def first_few(names: Sequence[str], limit: int = 5) -> str:
    """List the first ``limit`` names and the number of the others."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def warning(names: Sequence[str], noun: str, text: str, limit: int = 5) -> list[str]:
    """Return a line on the files or scenes that are left out, or no line if there are none."""
    return [f"warning: left out {counted(len(names), noun)} {text}: {first_few(names, limit)}"] if names else []


def _clean_fits(clean: ImageFormat, captures: ImageFormat, channels: int) -> bool:
    """Whether a clean image fits its captures. Floats fit any dtype and are rounded: the mean of many captures is a float."""
    same = clean.dtype == captures.dtype or np.dtype(clean.dtype).kind == "f"
    return same and clean.size == captures.size and _convertible(clean.channels, channels)


def _convertible(channels: int, wanted: int) -> bool:
    """Whether an image can be converted to the wanted channels: equal, or between grey and colour."""
    return channels == wanted or {channels, wanted} == {1, 3}


def _read_formats(
    scenes: Sequence[SceneFiles], opener: Opener
) -> tuple[dict[Frame, ImageFormat], list[str], dict[str, list[str]]]:
    """Open every file once; returns the format of each of its pages, errors of unreadable files, and the files by remark."""
    formats: dict[Frame, ImageFormat] = {}
    unreadable: list[str] = []
    remarks: dict[str, list[str]] = defaultdict(list)
    for path in dict.fromkeys(frame.path for scene in scenes for frame in scene.frames):
        try:
            with opener(path) as reader:
                frames = [Frame(path, page) for page in range(reader.pages)]
                formats |= dict.fromkeys(frames, ImageFormat.of(reader))
                for remark in reader.remarks:
                    remarks[remark].append(path.name)
        except InputError as error:
            unreadable.append(str(error))
    return formats, unreadable, remarks


def nothing_left(lines: Iterable[str]) -> InputError:
    """Return the error for images of which none can be used, with the lines that say why."""
    return InputError(f"nothing is left to train on: {'; '.join(line.removeprefix('warning: ') for line in lines)}")


def survey(
    scenes: Sequence[SceneFiles], channels: int | None, least: int, opener: Opener
) -> tuple[list[SceneFiles], dict[Frame, ImageFormat], tuple[int, np.dtype[Any]], list[str]]:
    """Open every file once, and leave out unusable images, and scenes of fewer than ``least`` captures.

    Captures must have the dtype of most captures, and the channels of most if ``channels`` is None. Returns the remaining
    scenes; the format of each frame; channels and dtype of the captures (a clean image may be float); lines for the user on the
    images that were left out, and on what files leave open. Raises InputError if nothing remains.
    """
    formats, unreadable, remarks = _read_formats(scenes, opener)
    kinds = Counter((formats[f].channels, formats[f].dtype) for s in scenes for f in s.captures if f in formats)
    if not kinds:
        raise InputError(f"no file can be read ({counted(len(unreadable), 'file')}): {[*unreadable, 'no pages'][0]}")
    (most_channels, dtype), _ = kinds.most_common(1)[0]
    wanted = channels or most_channels
    kept: list[SceneFiles] = []
    other: list[str] = []
    differing: list[str] = []
    alone: list[str] = []
    for scene in scenes:
        readable = [frame for frame in scene.captures if frame in formats]
        usable = [f for f in readable if formats[f].dtype == dtype and _convertible(formats[f].channels, wanted)]
        other += [f"{f.path.name} ({formats[f]})" for f in readable if f not in usable]
        if not usable:
            continue
        found = list(dict.fromkeys(formats[frame] for frame in usable))
        if len({image.size for image in found}) > 1:
            differing.append(f"{scene.name} ({', '.join(map(str, found))})")
            continue
        clean = scene.clean if scene.clean in formats else None
        if clean is not None and not _clean_fits(formats[clean], found[0], wanted):
            differing.append(f"the clean image of {scene.name} ({formats[clean]}, its captures are {found[0]})")
            clean = None
        if len(usable) < least:
            alone.append(scene.name)
            continue
        kept.append(SceneFiles(scene.name, tuple(usable), clean))
    lines = [
        *warning(unreadable, "file", "that cannot be read", 3),
        *warning(other, "image", f"unlike the others, which are {wanted}-channel {dtype}"),
        *warning(differing, "scene", "whose images have different sizes (register and crop them)"),
        *warning(alone, "scene", "with one capture only"),
    ]
    if not kept:
        raise nothing_left(lines or ["no scene has two captures"])
    lines += [f"warning: {first_few(names, 3)}: {remark}" for remark, names in remarks.items()]
    return kept, formats, (wanted, np.dtype(dtype)), lines
