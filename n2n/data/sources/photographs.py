"""Folders of photographs, made into noisy pairs by pixel sampling."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from n2n.data.cache import Allocate, Cache
from n2n.data.corruption import PixelSampling
from n2n.data.images import find_images, read_photograph
from n2n.data.sources.base import check_seed
from n2n.data.stores.base import Store
from n2n.data.stores.pairs import PairStore
from n2n.data.stores.photographs import PhotographStore, Shapes, sample_pairs, spread
from n2n.errors import InputError


def _stamp(file: Path) -> tuple[int, int]:
    """Return a file's size in bytes and the time of its last change in ns; zeros for a link that leads nowhere."""
    try:
        stat = file.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


class Photographs:
    """Photographs as the course's data was made from them: random crops, pixel-sampled (see :class:`PixelSampling`).

    Photographs smaller than a crop (the smallest, if they vary), and files that cannot be read, are left out and counted. The
    pairs are made once and kept in the cache folder; or, ``fresh``, the photographs are, and each step draws other crops and
    other pixels of them.

    Args:
        root: folder of photographs (PNG or JPEG, subfolders too), or several.
        val_root: folder or folders of the photographs to validate on. If None, ``val_fraction`` of those in ``root`` are
            held out for it, whole photographs and never crops of one that is trained on.
        val_fraction: from 0 (train on all; the data module then needs another ``val_source``) to below 1.
        crops_per_photo: training pairs from each photograph, in an epoch.
        max_pairs: upper bound on the training pairs, shared out evenly among the photographs; None for no bound.
        val_crops_per_photo: validation pairs from each photograph.
        fresh: whether no training pair comes twice. There are no clean targets then.
        zoom: of fresh pairs: the side of a crop's cells is ``cell`` times a factor from 1/zoom to zoom, drawn for each crop.
        turn: of fresh pairs: crops are turned by an angle up to this, either way, in degrees.
        channels: 3 (grey photographs are repeated) or 1 (colour becomes luma).
        crop: side of a crop in pixels.
        cell: side of a cell in pixels; views are ``crop // cell`` pixels wide.
        seed: of crops, noise and held-out photographs.
        cache_dir: where the pairs are kept; the user's cache folder if None.
    """

    def __init__(
        self,
        root: str | list[str],
        val_root: str | list[str] | None = None,
        val_fraction: float = 0.05,
        crops_per_photo: int = 70,
        max_pairs: int | None = None,
        val_crops_per_photo: int = 20,
        fresh: bool = False,
        zoom: float = 1.0,
        turn: float = 0.0,
        channels: Literal[1, 3] = 3,
        crop: int = 256,
        cell: int = 8,
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        if not 0 <= val_fraction < 1:
            raise InputError(f"val_fraction is {val_fraction}: expected at least 0 and less than 1")
        if min(crops_per_photo, val_crops_per_photo, 1 if max_pairs is None else max_pairs) < 1:
            raise InputError("crops_per_photo, val_crops_per_photo and max_pairs must be at least 1")
        check_seed(seed)
        self.root = [root] if isinstance(root, str) else list(root)
        self.val_root = [val_root] if isinstance(val_root, str) else val_root
        self.val_fraction = val_fraction
        self.crops_per_photo, self.max_pairs = crops_per_photo, max_pairs
        self.val_crops_per_photo, self.fresh = val_crops_per_photo, fresh
        self.channels, self.seed, self.cache_dir = channels, seed, cache_dir
        self.sampling = PixelSampling(crop, cell)
        self.shapes = Shapes(zoom, turn)
        if not fresh and self.shapes != Shapes():
            raise InputError(f"zoom is {zoom} and turn is {turn}: only fresh pairs are drawn so; set fresh to true")

    def _split(self) -> tuple[list[Path], list[Path]]:
        """Return the files to train and to validate on."""
        files = list(find_images(self.root))
        if self.val_root is not None:
            return files, list(find_images(self.val_root))
        held = math.ceil(self.val_fraction * len(files))
        order = np.random.default_rng([self.seed, 2]).permutation(len(files))
        return [files[i] for i in sorted(order[held:])], [files[i] for i in sorted(order[:held])]

    def _recipe(self, files: Sequence[Path], held_out: bool) -> dict[str, Any]:
        """Return all that the pixels of the pairs depend on."""
        return {
            "source": "photographs",
            "version": 2,
            "clean": held_out,
            "files": [[str(file), *_stamp(file)] for file in files],
            "crops": [self.val_crops_per_photo, None] if held_out else [self.crops_per_photo, self.max_pairs],
            "channels": self.channels,
            "seed": self.seed,
            **asdict(self.sampling),
        }

    def _usable(self, files: Sequence[Path], held_out: bool, least: int) -> tuple[dict[Path, tuple[int, int]], str]:
        """Decode every file once; return height and width of those of at least so many pixels, and a line on the others.

        Raises:
            InputError: if there are none.
        """

        def size(file: Path) -> tuple[int, int]:
            try:
                height, width, _ = read_photograph(file, self.channels).shape
            except InputError:
                return 0, 0
            return height, width

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            sizes = dict(zip(files, threads.map(size, files), strict=True))
        usable = {file: size for file, size in sizes.items() if min(size) >= least}
        unreadable = [file.name for file, size in sizes.items() if not max(size)]
        remark = f"{len(usable)} photographs used"
        if small := len(files) - len(usable) - len(unreadable):
            remark += f", {small} smaller than {least} px left out"
        if unreadable:
            names = ", ".join(unreadable[:3]) + (", ..." if len(unreadable) > 3 else "")
            remark += f", {len(unreadable)} unreadable left out ({names})"
        if not usable:
            folders = ", ".join((self.val_root if held_out else None) or self.root)
            what = "validate" if held_out else "train"
            raise InputError(
                f"no photograph to {what} on in {folders} ({len(files)} image files; {remark}): expected PNG or JPEG images "
                f"of at least {least} × {least} px"
            )
        return usable, remark

    def _train_count(self, photographs: int) -> int:
        count = photographs * self.crops_per_photo
        return count if self.max_pairs is None else min(count, self.max_pairs)

    def _build(self, files: Sequence[Path], held_out: bool, clean: bool, allocate: Allocate) -> dict[str, Any]:
        usable, remark = self._usable(files, held_out, self.sampling.crop)
        photos = list(usable)
        count = len(photos) * self.val_crops_per_photo if held_out else self._train_count(len(photos))
        pairs = allocate((2 + clean, count, self.channels, self.sampling.size, self.sampling.size), np.uint8)
        sample_pairs(
            pairs,
            lambda i: read_photograph(photos[i], self.channels),
            spread(count, len(photos)),
            self.sampling,
            (self.seed, int(held_out)),
            f"Sampling {'validation' if held_out else 'training'} pairs",
        )
        return {"remarks": [f"{remark}, {count} pairs"]}

    def _build_pixels(self, files: Sequence[Path], least: int, allocate: Allocate) -> dict[str, Any]:
        usable, remark = self._usable(files, False, least)
        ends = np.cumsum([height * width for height, width in usable.values()])
        pixels = allocate((int(ends[-1]), self.channels), np.uint8)
        for file, end in zip(tqdm(usable, desc="Reading photographs", unit="photo"), ends, strict=True):
            photo = read_photograph(file, self.channels).reshape(-1, self.channels)
            pixels[end - len(photo) : end] = photo
        return {"remarks": [remark], "sizes": list(usable.values())}

    def _fresh_pairs(self) -> PhotographStore:
        files = self._split()[0]
        least = math.ceil(self.sampling.crop / self.shapes.zoom)
        recipe = self._recipe(files, held_out=False) | {"source": "photographs' pixels", "version": 2, "crops": None}
        cache = Cache("photographs", recipe | {"least": least}, self.cache_dir)
        kept = cache.open(lambda allocate: self._build_pixels(files, least, allocate))
        count = self._train_count(len(kept.note["sizes"]))
        remarks = [f"{kept.note['remarks'][0]}, {count} pairs an epoch, each drawn anew"]
        return PhotographStore(kept.array, kept.note["sizes"], self.sampling, count, remarks, self.shapes)

    def _pairs(self, held_out: bool, clean: bool) -> PairStore:
        files = self._split()[held_out]
        recipe = self._recipe(files, held_out) | ({"target": "clean"} if clean and not held_out else {})
        cache = Cache(f"photographs-{'val' if held_out else 'train'}", recipe, self.cache_dir)
        return PairStore.from_cache(cache.open(lambda allocate: self._build(files, held_out, clean, allocate)), clean)

    def train_pairs(self) -> Store:
        """Map the training pairs or photographs, made first if they are not in the cache."""
        return self._fresh_pairs() if self.fresh else self._pairs(held_out=False, clean=False)

    def clean_train_pairs(self) -> Store:
        """Map the same training pairs with their clean images.

        Raises:
            InputError: if they are fresh.
        """
        if self.fresh:
            raise InputError("fresh pairs of photographs have no clean images: set the source's fresh to false")
        return self._pairs(held_out=False, clean=True)

    def val_pairs(self) -> Store:
        """Map the validation pairs, made first if they are not in the cache."""
        return self._pairs(held_out=True, clean=True)
