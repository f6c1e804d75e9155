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

from n2n.data.cache import Allocate, Cache
from n2n.data.corruption import PixelSampling
from n2n.data.images import find_images, read_photograph
from n2n.data.sampling import sample_pairs, spread
from n2n.data.store import PairStore, Store
from n2n.errors import InputError


class Photographs:
    """Photographs as the course's data was made from them: random crops, pixel-sampled (see :class:`PixelSampling`).

    Photographs smaller than a crop, and files that cannot be read, are left out and counted. The pairs are made once and
    kept in the cache folder.

    Args:
        root: folder of photographs (PNG or JPEG, subfolders too), or several.
        val_root: folder or folders of the photographs to validate on. If None, ``val_fraction`` of those in ``root`` are
            held out for it, whole photographs and never crops of one that is trained on.
        val_fraction: from 0 (train on all; the data module then needs another ``val_source``) to below 1.
        crops_per_photo: training pairs from each photograph.
        max_pairs: upper bound on the training pairs, shared out evenly among the photographs; None for no bound.
        val_crops_per_photo: validation pairs from each photograph.
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
        self.root = [root] if isinstance(root, str) else list(root)
        self.val_root = [val_root] if isinstance(val_root, str) else val_root
        self.val_fraction = val_fraction
        self.crops_per_photo, self.max_pairs = crops_per_photo, max_pairs
        self.val_crops_per_photo = val_crops_per_photo
        self.channels, self.seed, self.cache_dir = channels, seed, cache_dir
        self.sampling = PixelSampling(crop, cell)

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
            "files": [[str(file), (stat := file.stat()).st_size, stat.st_mtime_ns] for file in files],
            "crops": [self.val_crops_per_photo, None] if held_out else [self.crops_per_photo, self.max_pairs],
            "channels": self.channels,
            "seed": self.seed,
            **asdict(self.sampling),
        }

    def _usable(self, files: Sequence[Path]) -> tuple[list[Path], str]:
        """Decode every file once; return those that can be used, and a line on the others."""

        def problem(file: Path) -> str:
            try:
                height, width, _ = read_photograph(file, self.channels).shape
            except InputError:
                return "unreadable"
            return "small" if min(height, width) < self.sampling.crop else ""

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            problems = list(threads.map(problem, files))
        usable = [file for file, found in zip(files, problems, strict=True) if not found]
        unreadable = [file.name for file, found in zip(files, problems, strict=True) if found == "unreadable"]
        remark = f"{len(usable)} photographs used"
        if small := problems.count("small"):
            remark += f", {small} smaller than {self.sampling.crop} px left out"
        if unreadable:
            names = ", ".join(unreadable[:3]) + (", ..." if len(unreadable) > 3 else "")
            remark += f", {len(unreadable)} unreadable left out ({names})"
        return usable, remark

    def _build(self, files: Sequence[Path], held_out: bool, clean: bool, allocate: Allocate) -> dict[str, Any]:
        photos, remark = self._usable(files)
        if not photos:
            folders = ", ".join((self.val_root if held_out else None) or self.root)
            what = "validate" if held_out else "train"
            raise InputError(
                f"no photograph to {what} on in {folders} ({len(files)} image files; {remark}): expected PNG or JPEG images "
                f"of at least {self.sampling.crop} × {self.sampling.crop} px"
            )
        count = len(photos) * (self.val_crops_per_photo if held_out else self.crops_per_photo)
        if not held_out and self.max_pairs is not None:
            count = min(count, self.max_pairs)
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

    def _pairs(self, held_out: bool, clean: bool) -> PairStore:
        files = self._split()[held_out]
        recipe = self._recipe(files, held_out) | ({"target": "clean"} if clean and not held_out else {})
        cache = Cache(f"photographs-{'val' if held_out else 'train'}", recipe, self.cache_dir)
        return PairStore.from_cache(cache.open(lambda allocate: self._build(files, held_out, clean, allocate)), clean)

    def train_pairs(self) -> Store:
        """Map the training pairs, made first if they are not in the cache."""
        return self._pairs(held_out=False, clean=False)

    def clean_train_pairs(self) -> Store:
        """Map the same training pairs with their clean images."""
        return self._pairs(held_out=False, clean=True)

    def val_pairs(self) -> Store:
        """Map the validation pairs, made first if they are not in the cache."""
        return self._pairs(held_out=True, clean=True)
