"""Image files, copied into one flat array and inspected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from n2n.data.cache import Allocate
from n2n.data.images.extremes import Extremes
from n2n.data.scenes.frames import Frame, ImageFormat, SceneFiles, first_few, nothing_left, survey
from n2n.data.scenes.inspection import (
    CORRELATED,
    PairReport,
    compare,
    largest_group,
    mismatch,
    remarks,
    show_different_scenes,
)
from n2n.data.scenes.opening import Opener
from n2n.data.scenes.outliers import Place, find_outliers
from n2n.data.scenes.pages import OpenFile, copy_page
from n2n.data.value_range import ValueRange
from n2n.errors import InputError
from n2n.system.text import counted

# Side in pixels of the part of two captures that is compared: their centre.
_COMPARED = 1024
# The same where it is only asked whether they show one scene.
_GLANCED = 512
# A series is said to jump from scene to scene if it does so at this part of its frames at most.
_MOST_CUTS = 0.1
# Pairs of neighbours of a time series that are compared, spread over it.
_NEIGHBOURS = 4

# Floats up to here need not be parts of 1: reflectances, for example, may have a scale of their own.
_SMALL = 0.25


def default_range(
    dtype: np.dtype[Any], smallest: float, largest: float, white: float | None = None
) -> tuple[float, float]:
    """Choose the values of the files that become 0 and 1.

    For uint8 they are 0 and 255. For other unsigned integers they are 0 and the largest value of the bits in use (4095 for a
    12-bit camera), at least 255. ``white`` takes the place of both: the largest value of the bits that the files state. For
    floats and signed integers they are 0 and 1 if all values lie between and do not fill a small part only, else the smallest
    value (0 if none is negative) and the largest. If all of these are one number, InputError is raised.
    """
    if dtype.kind == "u" and white is not None:
        return 0.0, white
    if dtype == np.uint8:
        return 0.0, 255.0
    if dtype.kind == "u":
        return 0.0, float((1 << max(8, int(largest).bit_length())) - 1)
    if smallest == largest:
        raise InputError(f"all pixels are {smallest:g}: nothing to learn; name other images")
    if smallest >= 0 and _SMALL < largest <= 1:
        return 0.0, 1.0
    return min(0.0, smallest), largest


def _distinct_names(one: Frame, other: Frame) -> tuple[str, str]:
    """Name two frames by as much of their paths as differs, or by their pages."""
    if one.path == other.path:
        return f"{one.path.name}[{one.page}]", f"{other.path.name}[{other.page}]"
    count = 1
    while one.path.parts[-count:] == other.path.parts[-count:]:
        count += 1
    return str(Path(*one.path.parts[-count:])), str(Path(*other.path.parts[-count:]))


@dataclass
class _Gathering:
    """The flat array, T×C, while it is filled, and the results of the inspection; see :func:`gather`."""

    pixels: NDArray[Any]
    formats: dict[Frame, ImageFormat]
    window: int | None
    file: OpenFile
    end: int = 0
    # The captures, where they lie.
    places: list[Place] = field(default_factory=list)
    gaps: int = 0
    scenes: list[list[Any]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    repeats: list[tuple[int, int, str]] = field(default_factory=list)
    reports: list[tuple[str, PairReport]] = field(default_factory=list)
    # Of captures that show something else than most of their scene: number of the scene, start, and name.
    strangers: list[tuple[int, int, str]] = field(default_factory=list)
    # Where neighbours in a time series show different scenes.
    cuts: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    identical: list[str] = field(default_factory=list)
    # By digest: number of the scene, and frame.
    known: dict[bytes, tuple[int, Frame]] = field(default_factory=dict)

    def add(self, scene: SceneFiles) -> None:
        """Copy and inspect a scene, unless too few of its captures can be used."""
        shape = self.formats[scene.frames[0]].size
        captures, clean = self._copy(scene, shape)
        if len(captures) < (1 if self.window == 0 else 2):
            return
        number = len(self.scenes)
        for digest, (_, frame) in captures.items():
            other, first = self.known.setdefault(digest, (number, frame))
            if other != number:
                self.repeats.append((number, other, " is ".join(_distinct_names(frame, first))))
        starts = [start for start, _ in captures.values()]
        self.scenes.append([scene.name, *shape, starts, clean])
        self.files.append(str(scene.captures[0].path))

    def _copy(self, scene: SceneFiles, shape: tuple[int, int]) -> tuple[dict[bytes, tuple[int, Frame]], int | None]:
        """Copy a scene; returns start and frame of its captures by their digests, and the start of its clean image or None."""
        captures: dict[bytes, tuple[int, Frame]] = {}
        brightest = -np.inf
        for frame in scene.captures:
            try:
                reader = self.file.open(frame, self.formats[frame])
                copied = copy_page(reader, frame.page, self._image(self.end, shape))
            except InputError as error:
                self.unusable.append(str(error))
                continue
            if copied.digest in captures:
                # The next capture takes its place.
                self.identical.append(" is ".join(_distinct_names(frame, captures[copied.digest][1])))
                continue
            captures[copied.digest] = self.end, frame
            self.places.append(Place(frame, self.end, self.end + prod(shape), copied.extremes))
            self.end += prod(shape)
            self.gaps += copied.gaps
            brightest = max(brightest, copied.extremes.most)
        return captures, self._copy_clean(scene.clean, shape, brightest) if captures and scene.clean else None

    def _copy_clean(self, frame: Frame, shape: tuple[int, int], brightest: float) -> int | None:
        """Copy a clean image; ``brightest`` is the largest value of its captures."""
        try:
            reader, into = self.file.open(frame, self.formats[frame]), self._image(self.end, shape)
            high = copy_page(reader, frame.page, into).extremes.most
            if reader.dtype.kind == "f" and into.dtype.kind != "f" and high <= 1 < brightest:
                raise InputError(
                    f"{frame.path} holds values of at most {high:g}, its captures go to {brightest:g}: rounded into their "
                    f"{into.dtype}, nothing of it is left"
                )
        except InputError as error:
            self.unusable.append(str(error))
            return None
        self.end += prod(shape)
        return self.end - prod(shape)

    def _image(self, start: int, shape: tuple[int, int]) -> NDArray[Any]:
        """Return the image at a place of the array, H×W×C."""
        return self.pixels[start : start + prod(shape)].reshape(*shape, -1)

    def compare(self) -> None:
        """Inspect the pairs of all scenes."""
        names = {place.start: str(place.frame) for place in self.places}
        for number, (name, height, width, starts, _) in enumerate(self.scenes):
            self._compare(number, name, starts, (height, width), names)

    def _compare(
        self, number: int, name: str, starts: Sequence[int], shape: tuple[int, int], names: Mapping[int, str]
    ) -> None:
        """Inspect the noise of the first two captures of a scene, the drift between the most distant ones, and what all show.

        Any two captures may be a pair, so the first and the last are compared. In a time series only neighbours are pairs, and
        a few of them are compared.
        """

        def centre(start: int, most: int = _COMPARED) -> NDArray[Any]:
            top, left = (max(0, (side - most) // 2) for side in shape)
            return self._image(start, shape)[top : top + most, left : left + most]

        def differ(one: int, other: int) -> bool:
            return show_different_scenes(centre(one, _GLANCED), centre(other, _GLANCED))

        if self.window is None:
            kept = largest_group(starts, differ)
            # At least two captures must be left, or the scene as a whole is of no use.
            if len(kept) < 2:
                kept = list(starts)
            self.strangers += [(number, start, names[start]) for start in starts if start not in kept]
            couples = [(kept[0], kept[1]), (kept[0], kept[-1])]
        else:
            pairs = list(pairwise(starts))
            cut = [pair for pair in pairs if differ(*pair)]
            # If there are many, the scene itself changes, as where neurons flash.
            if len(cut) <= max(1, _MOST_CUTS * len(pairs)):
                self.cuts += [f"{names[later]} in {name}" for _, later in cut]
            if 2 * len(cut) <= len(pairs):
                pairs = [pair for pair in pairs if pair not in cut] or pairs
            couples = [pairs[int(at)] for at in np.linspace(0, len(pairs) - 1, _NEIGHBOURS)]
        reports = [compare(centre(one), centre(later)) for one, later in dict.fromkeys(couples)]
        different = [report for report in reports if not report.identical] or reports
        drift = max((report.drift for report in different), key=abs)
        self.reports.append((name, replace(different[0], drift=drift)))

    def remarks(self) -> list[str]:
        """Return one line for each problem."""
        lines = []
        if self.unusable:
            errors = first_few(list(dict.fromkeys(self.unusable)), 3)
            images = counted(len(self.unusable), "unusable image")
            lines.append(f"warning: left out {images}: {errors}")
        if self.identical:
            names = first_few(self.identical)
            lines.append(f"warning: identical captures, which teach a network to keep the noise, are left out: {names}")
        if self.cuts:
            lines.append(
                f"warning: the scene changes within a series, at {first_few(self.cuts)}: split the series there, because the "
                "capture before does not show the same"
            )
        if self.gaps:
            lines.append(f"{self.gaps:,} values are NaN, infinite or no data: the network is not trained on them")
        return lines + remarks(self.reports)


def gather(
    files: Sequence[SceneFiles],
    channels: int | None,
    window: int | None,
    opener: Opener,
    allocate: Allocate,
    value_range: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Copy the usable images of scenes into one array, T×C, page after page.

    Args:
        files: the scenes.
        channels: their number; None for that of most captures.
        window: largest distance, in captures, between the two of a pair; None for any two, 0 for single captures. For pairs a
            scene needs two captures that differ.
        opener: opens the files.
        allocate: makes the array.
        value_range: the values that become 0 and 1; None to choose them.

    Returns:
        ``remarks``: lines for the user. ``range``: ``value_range``, or see :func:`default_range`. ``dtype``: that of the files;
        the array has floats if the files state a value without data. ``gaps``: whether there are values without data, which are
        NaN. ``scenes``: name, height, width, the index of the first pixel of each capture, and that of the clean image or None.
        ``files``: for each scene the file of its first capture. ``correlated``: for each scene whether its noise is correlated
        between neighbouring pixels; empty for single captures.
        ``repeats``: numbers of two scenes that share an image, and a text. ``mismatched``: numbers of the scenes whose captures
        show different scenes. ``strangers``: captures that show something else than most of their scene: number of the
        scene, index of the first pixel, and name. ``mismatch``: a line if the captures of most scenes differ, or None.

    Raises:
        InputError: if nothing can be used, or all images have one value.
    """
    scenes, formats, (channels, dtype), lines = survey(files, channels, 1 if window == 0 else 2, opener)
    used = [formats[frame] for scene in scenes for frame in scene.frames]
    total = sum(prod(image.size) for image in used)
    # 16 bits fit into float32, which has NaN for values without data.
    kept = np.dtype(np.float32) if dtype.kind != "f" and any(image.nodata is not None for image in used) else dtype
    with OpenFile(opener) as file:
        gathering = _Gathering(allocate((total, channels), kept), formats, window, file)
        for scene in tqdm(scenes, desc="Reading images", unit="scene"):
            gathering.add(scene)
    if not gathering.scenes:
        raise nothing_left([*lines, *gathering.remarks()])
    outliers = find_outliers(gathering.pixels, gathering.places) if dtype != np.uint8 else None
    found = Extremes.joined(place.extremes for place in gathering.places) if outliers is None else outliers.rest
    whites = [formats[place.frame].white for place in gathering.places]
    white = None if None in whites else max(white for white in whites if white is not None)
    low, high = value_range or default_range(dtype, found.least, found.most, white)
    ValueRange(low, high)  # refuses ranges that no checkpoint could hold
    if dtype.kind != "f" and high > np.iinfo(dtype).max:
        lines.append(
            f"warning: value_range goes to {high:g}, which {dtype} cannot reach (at most {np.iinfo(dtype).max})"
        )
    if outliers is not None:
        lines += outliers.limit(low, high)
    if window != 0:
        gathering.compare()
    return {
        "remarks": lines + gathering.remarks(),
        "range": [low, high],
        "dtype": dtype.name,
        "gaps": gathering.gaps > 0,
        "scenes": gathering.scenes,
        "files": gathering.files,
        "correlated": [report.space > CORRELATED for _, report in gathering.reports],
        "repeats": gathering.repeats,
        "mismatched": [number for number, (_, report) in enumerate(gathering.reports) if report.different_scenes],
        "strangers": gathering.strangers,
        "mismatch": mismatch([report for _, report in gathering.reports]),
    }
