"""Image files copied into one flat array, and looked at on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from n2n.data.cache import Allocate
from n2n.data.images import ImageReader, open_image
from n2n.data.images.base import LUMA
from n2n.data.scenes.frames import Format, Frame, SceneFiles, some, survey
from n2n.data.scenes.inspection import PairReport, compare, remarks
from n2n.errors import InputError

# Rows read at a time, so that an image larger than memory can be copied.
_ROWS = 256
# Side in pixels of what is compared of two captures: their centre.
_COMPARED = 1024
# Neighbours of a time series that are compared, spread over it.
_NEIGHBOURS = 4


def _convert(rows: NDArray[Any], channels: int) -> NDArray[Any]:
    """Make colour of grey by repetition, and grey of colour by luma."""
    if rows.shape[2] == channels:
        return rows
    if channels == 3:
        return np.repeat(rows, 3, axis=2)
    grey = rows.astype(np.float32) @ LUMA[:, None]
    return (np.rint(grey) if rows.dtype.kind in "ui" else grey).astype(rows.dtype)


def default_range(dtype: np.dtype[Any], smallest: float, largest: float) -> tuple[float, float]:
    """Guess which values of the files should become 0 and 1.

    uint8 is 0 to 255. Other unsigned integers are 0 to the largest value that the bits in use can hold (4095 for a 12-bit
    camera), at least 255. Floats and signed integers are 0 to 1 where they fit, else what the images span: from the smallest
    value, or from 0 if none is negative, to the largest.

    Raises:
        InputError: if all floats or signed integers are the same number.
    """
    if dtype == np.uint8:
        return 0.0, 255.0
    if dtype.kind == "u":
        return 0.0, float((1 << max(8, int(largest).bit_length())) - 1)
    if smallest == largest:
        raise InputError(f"all pixels are {smallest:g}: nothing to learn; name other images")
    if smallest >= 0 and largest <= 1:
        return 0.0, 1.0
    return min(0.0, smallest), largest


def _cast(rows: NDArray[Any], dtype: np.dtype[Any], path: Path) -> NDArray[Any]:
    """Round floats into the dtype of the captures.

    Raises:
        InputError: if it cannot hold them.
    """
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    rounded = rows if dtype.kind == "f" else np.rint(rows)
    low, high = float(rounded.min()), float(rounded.max())
    if low < float(limits.min) or high > float(limits.max):
        raise InputError(
            f"{path} holds values of {low:g} to {high:g}, its captures are {dtype}, which does not hold them"
        )
    return rounded.astype(dtype)


def _copy(reader: ImageReader, page: int, into: NDArray[Any], hashed: bool) -> tuple[float, float, bytes]:
    """Copy one page, some rows at a time; returns its smallest and its largest value, and the digest of what was copied.

    Raises:
        InputError: if it is damaged, or holds what is no number, or what the array cannot hold.
    """
    low, high, digest = np.inf, -np.inf, hashlib.blake2b(digest_size=16)
    for top in range(0, into.shape[0], _ROWS):
        rows = _convert(reader.rows(page, top, min(top + _ROWS, into.shape[0])), into.shape[2])
        smallest, largest = float(rows.min()), float(rows.max())
        # Not of the whole at its end: min() and max() forget a NaN that they meet second.
        if not np.isfinite([smallest, largest]).all():
            raise InputError(f"{reader.path} holds pixels that are not finite numbers")
        low, high = min(low, smallest), max(high, largest)
        to = into[top : top + _ROWS]
        to[:] = rows if rows.dtype == into.dtype else _cast(rows, into.dtype, reader.path)
        if hashed:
            digest.update(to.reshape(-1).view(np.uint8).data)
    return low, high, digest.digest()


def _names(one: Frame, other: Frame) -> tuple[str, str]:
    """Name two frames by as much of their paths as tells them apart, or by their pages."""
    if one.path == other.path:
        return f"{one.path.name}[{one.page}]", f"{other.path.name}[{other.page}]"
    count = 1
    while one.path.parts[-count:] == other.path.parts[-count:]:
        count += 1
    return str(Path(*one.path.parts[-count:])), str(Path(*other.path.parts[-count:]))


class _Reading:
    """The file that is read from, which stays open until another one is asked for: never more than one at a time."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._reader: ImageReader | None = None
        self._error = ""

    def open(self, frame: Frame, expected: Format) -> ImageReader:
        """Open the file of a frame, unless it is open.

        Raises:
            InputError: if it cannot be opened, or is no longer what it was.
        """
        if frame.path != self._path:
            self.close()
            self._path = frame.path
            try:
                self._reader = open_image(frame.path)
            except InputError as error:
                # Kept for the other pages, so that a large stack is not tried once for each of them.
                self._error = str(error)
        if self._reader is None:
            raise InputError(self._error)
        if Format.of(self._reader) != expected or frame.page >= self._reader.pages:
            raise InputError(f"{frame.path} changed while it was read")
        return self._reader

    def close(self) -> None:
        """Close the file."""
        if self._reader is not None:
            self._reader.close()
        self._path = self._reader = None


class _Gathering:
    """The flat array while it is filled, and what is noticed on the way; a context manager, for the file that is open.

    Args:
        pixels: T×C, to be filled.
        formats: what is known of the frames.
        window: as for :func:`gather`.
    """

    def __init__(self, pixels: NDArray[Any], formats: dict[Frame, Format], window: int | None) -> None:
        self.pixels, self.formats, self.window, self.end = pixels, formats, window, 0
        self.smallest, self.largest = np.inf, -np.inf
        self.broken: list[str] = []
        self.identical: list[str] = []
        self.reports: list[tuple[str, PairReport]] = []
        self._reading = _Reading()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reading.close()

    def copy(self, scene: SceneFiles, shape: tuple[int, int]) -> tuple[list[int], int | None]:
        """Copy the frames of a scene.

        Returns:
            Where each capture starts, without the damaged ones and, if pairs are wanted, without those that repeat an
            earlier one; where the clean image does, or None.
        """
        starts: list[int] = []
        known: dict[bytes, Frame] = {}
        brightest = -np.inf
        size = shape[0] * shape[1]
        for frame in scene.captures:
            try:
                reader = self._reading.open(frame, self.formats[frame])
                into = self.pixels[self.end : self.end + size].reshape(*shape, -1)
                low, high, digest = _copy(reader, frame.page, into, hashed=self.window != 0)
            except InputError as error:
                self.broken.append(str(error))
                continue
            if self.window != 0 and (first := known.setdefault(digest, frame)) is not frame:
                # The next capture takes its place.
                self.identical.append(" is ".join(_names(frame, first)))
                continue
            starts.append(self.end)
            self.end += size
            brightest = max(brightest, high)
            self.smallest, self.largest = min(self.smallest, low), max(self.largest, high)
        return starts, self._copy_clean(scene.clean, shape, brightest) if starts and scene.clean else None

    def _copy_clean(self, frame: Frame, shape: tuple[int, int], brightest: float) -> int | None:
        """Copy a clean image; ``brightest`` is the largest value of its captures."""
        start, size = self.end, shape[0] * shape[1]
        try:
            reader = self._reading.open(frame, self.formats[frame])
            into = self.pixels[start : start + size].reshape(*shape, -1)
            _, high, _ = _copy(reader, frame.page, into, hashed=False)
            if reader.dtype.kind == "f" and into.dtype.kind != "f" and high <= 1 < brightest:
                raise InputError(
                    f"{frame.path} holds values of at most {high:g}, its captures go to {brightest:g}: rounded into their "
                    f"{into.dtype}, nothing of it is left"
                )
        except InputError as error:
            self.broken.append(str(error))
            return None
        self.end += size
        return start

    def compare(self, name: str, captures: Sequence[int], shape: tuple[int, int]) -> None:
        """Look at the noise of the first two captures of a scene, and at the drift between the most distant of a pair.

        Any two may be a pair: the first and the last are compared. In a time series only neighbours are, and a few of them
        are compared.
        """
        top, left = (max(0, (side - _COMPARED) // 2) for side in shape)

        def centre(capture: int) -> NDArray[Any]:
            start = captures[capture]
            image = self.pixels[start : start + shape[0] * shape[1]].reshape(*shape, -1)
            return image[top : top + _COMPARED, left : left + _COMPARED]

        last = len(captures) - 1
        couples = [(0, 1), (0, last)]
        if self.window is not None:
            couples = [(int(at), int(at) + 1) for at in np.linspace(0, last - 1, _NEIGHBOURS)]
        reports = [compare(centre(one), centre(other)) for one, other in dict.fromkeys(couples)]
        different = [report for report in reports if not report.identical] or reports
        drift = max((report.drift for report in different), key=abs)
        self.reports.append((name, replace(different[0], drift=drift)))

    def remarks(self) -> list[str]:
        """Say in one line each what was noticed."""
        lines = []
        if self.broken:
            reasons = some(list(dict.fromkeys(self.broken)), 3)
            lines.append(f"warning: {len(self.broken)} images cannot be used and are left out: {reasons}")
        if self.identical:
            lines.append(
                f"warning: identical captures, which teach a network to keep the noise, are left out: {some(self.identical)}"
            )
        return lines + remarks(self.reports)


def gather(files: Sequence[SceneFiles], channels: int | None, window: int | None, allocate: Allocate) -> dict[str, Any]:
    """Copy what can be used of some scenes into one array, T×C, page after page.

    Args:
        files: the scenes.
        channels: 1 or 3; None for what most images have.
        window: how many frames apart the captures of a pair may be; None for any two, 0 for no pairs but single captures.
            For pairs a scene needs two captures that differ.
        allocate: makes the array.

    Returns:
        ``remarks``, lines for the user; ``range``, see :func:`default_range`; ``scenes``, with name, height, width, the index
        of the first pixel of each capture, and that of the clean image or None.

    Raises:
        InputError: if nothing can be used, or nothing can be learned of it.
    """
    least = 1 if window == 0 else 2
    scenes, formats, (channels, dtype), lines = survey(files, channels, least)
    total = sum(formats[frame].height * formats[frame].width for scene in scenes for frame in scene.frames)
    table: list[list[Any]] = []
    with _Gathering(allocate((total, channels), dtype), formats, window) as gathering:
        for scene in tqdm(scenes, desc="Reading images", unit="scene"):
            shape = formats[scene.frames[0]].size
            captures, clean = gathering.copy(scene, shape)
            if len(captures) < least:
                continue
            if window != 0:
                gathering.compare(scene.name, captures, shape)
            table.append([scene.name, *shape, captures, clean])
    lines += gathering.remarks()
    if not table:
        raise InputError(f"nothing is left to train on: {'; '.join(lines)}")
    span = default_range(dtype, float(gathering.smallest), float(gathering.largest))
    return {"remarks": lines, "range": span, "scenes": table}
