"""Image files copied into one flat array, and looked at on the way."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from n2n.data.cache import Allocate
from n2n.data.frames import Frame, SceneFiles, some, survey
from n2n.data.images import ImageReader, open_image
from n2n.data.inspection import PairReport, compare, remarks
from n2n.errors import InputError

# Rec. 601, Pillow's own conversion from colour to grey.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Rows read at a time, so that an image larger than memory can be copied.
_ROWS = 256
# Side in pixels of what is compared of two captures: their centre.
_COMPARED = 1024


def _convert(rows: NDArray[Any], channels: int) -> NDArray[Any]:
    """Make colour of grey by repetition, and grey of colour by luma."""
    if rows.shape[2] == channels:
        return rows
    if channels == 3:
        return np.repeat(rows, 3, axis=2)
    grey = rows.astype(np.float32) @ _LUMA[:, None]
    return (np.rint(grey) if rows.dtype.kind == "u" else grey).astype(rows.dtype)


def default_range(dtype: np.dtype[Any], smallest: float, largest: float) -> tuple[float, float]:
    """Guess which values of the files should become 0 and 1.

    uint8 is 0 to 255. Other integers are 0 to the largest value that the bits in use can hold (4095 for a 12-bit camera).
    Floats are 0 to 1 where they fit, else what the images span.
    """
    if dtype == np.uint8:
        return 0.0, 255.0
    if dtype.kind == "u":
        return 0.0, float((1 << max(8, int(largest).bit_length())) - 1)
    if smallest >= 0 and largest <= 1:
        return 0.0, 1.0
    return min(0.0, smallest), largest


def _copy(reader: ImageReader, page: int, into: NDArray[Any]) -> tuple[float, float]:
    """Copy one page, some rows at a time; returns its smallest and its largest value.

    Raises:
        InputError: if it is damaged, or holds what is no number.
    """
    low, high = np.inf, -np.inf
    for top in range(0, into.shape[0], _ROWS):
        rows = _convert(reader.rows(page, top, min(top + _ROWS, into.shape[0])), into.shape[2])
        into[top : top + _ROWS] = rows
        low, high = min(low, float(rows.min())), max(high, float(rows.max()))
    if not np.isfinite([low, high]).all():
        raise InputError(f"{reader.path} holds pixels that are not finite numbers")
    return low, high


def _compared(pixels: NDArray[Any], captures: list[int], shape: tuple[int, int]) -> tuple[list[int], PairReport | None]:
    """Leave out captures that repeat the one before; compare the first two that remain.

    Returns:
        The captures that remain, and the comparison if there are two.
    """

    def image(start: int) -> NDArray[Any]:
        return pixels[start : start + shape[0] * shape[1]].reshape(*shape, -1)

    different = captures[:1]
    for start in captures[1:]:
        if not np.array_equal(image(different[-1]), image(start)):
            different.append(start)
    if len(different) < 2:
        return different, None
    top, left = (max(0, (side - _COMPARED) // 2) for side in shape)
    box = slice(top, top + _COMPARED), slice(left, left + _COMPARED)
    report = compare(image(different[0])[box], image(different[1])[box])
    return different, report


class _Gathering:
    """The flat array while it is filled, and what is noticed on the way.

    Args:
        pixels: T×C, to be filled.
    """

    def __init__(self, pixels: NDArray[Any]) -> None:
        self.pixels, self.end = pixels, 0
        self.smallest, self.largest = np.inf, -np.inf
        self.broken: list[str] = []
        self.identical: list[str] = []
        self.reports: list[tuple[str, PairReport]] = []

    def copy(self, scene: SceneFiles, shape: tuple[int, int]) -> dict[Frame, int]:
        """Copy the frames of a scene; returns where each one starts, without the damaged ones."""
        starts: dict[Frame, int] = {}
        readers: dict[Path, ImageReader] = {}
        size = shape[0] * shape[1]
        with contextlib.ExitStack() as files:
            for frame in scene.frames:
                try:
                    if frame.path not in readers:
                        readers[frame.path] = files.enter_context(open_image(frame.path))
                    into = self.pixels[self.end : self.end + size].reshape(*shape, -1)
                    low, high = _copy(readers[frame.path], frame.page, into)
                except InputError as error:
                    self.broken.append(str(error))
                    continue
                starts[frame] = self.end
                self.end += size
                if frame != scene.clean:
                    self.smallest, self.largest = min(self.smallest, low), max(self.largest, high)
        return starts

    def compare(self, scene: SceneFiles, captures: list[int], shape: tuple[int, int]) -> list[int]:
        """Leave out captures that repeat the one before, and look at the noise of the first two; returns what remains."""
        different, report = _compared(self.pixels, captures, shape)
        if same := len(captures) - len(different):
            self.identical.append(f"{scene.name} ({same + 1} of {len(captures)} are the same picture)")
        if report is not None:
            self.reports.append((scene.name, report))
        return different

    def remarks(self) -> list[str]:
        """Say in one line each what was noticed."""
        lines = []
        if self.broken:
            lines.append(f"warning: {len(self.broken)} images cannot be read and are left out: {some(self.broken, 3)}")
        if self.identical:
            lines.append(
                f"warning: identical captures, which teach a network to keep the noise, are left out: {some(self.identical)}"
            )
        return lines + remarks(self.reports)


def gather(files: Sequence[SceneFiles], channels: int | None, pairs: bool, allocate: Allocate) -> dict[str, Any]:
    """Copy what can be used of some scenes into one array, T×C, page after page.

    Args:
        files: the scenes.
        channels: 1 or 3; None for what most images have.
        pairs: whether a scene needs two captures that differ.
        allocate: makes the array.

    Returns:
        ``remarks``, lines for the user; ``range``, see :func:`default_range`; ``scenes``, with name, height, width, the index
        of the first pixel of each capture, and that of the clean image or None.

    Raises:
        InputError: if nothing can be used.
    """
    scenes, formats, (channels, dtype), lines = survey(files, channels, 2 if pairs else 1)
    total = sum(formats[frame].height * formats[frame].width for scene in scenes for frame in scene.frames)
    gathering = _Gathering(allocate((total, channels), dtype))
    table: list[list[Any]] = []
    for scene in tqdm(scenes, desc="Reading images", unit="scene"):
        shape = formats[scene.frames[0]].height, formats[scene.frames[0]].width
        starts = gathering.copy(scene, shape)
        captures = [starts[frame] for frame in scene.captures if frame in starts]
        if pairs:
            captures = gathering.compare(scene, captures, shape)
        if len(captures) >= 1 + pairs:
            clean = starts.get(scene.clean) if scene.clean is not None else None
            table.append([scene.name, *shape, captures, clean])
    lines += gathering.remarks()
    if not table:
        raise InputError(f"nothing is left to train on: {'; '.join(lines)}")
    span = default_range(dtype, float(gathering.smallest), float(gathering.largest))
    return {"remarks": lines, "range": span, "scenes": table}
