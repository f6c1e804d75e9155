"""A source of photographs, made into noisy pairs by pixel sampling."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm.auto import tqdm

from n2n.data.cache import Allocate, Cache, stamp
from n2n.data.images import EXPECTED, find_images, left_out, read_photograph
from n2n.data.scenes.frames import first_few
from n2n.data.sources.sampled import Photos, SampledPairs
from n2n.data.stores.base import Store
from n2n.data.stores.pairs import PairStore
from n2n.data.stores.photographs import CropVariation, PhotographStore
from n2n.errors import InputError
from n2n.system.text import counted


class Photographs(SampledPairs):
    """Pixel-sampled random crops of photographs (see :class:`n2n.data.PixelSampling`), like the course's data.

    Unreadable files, and photographs smaller than a crop (than the smallest crop, with ``zoom``), are left out and counted. The
    pairs are made once and kept in the cache folder. With ``fresh`` the photographs are kept instead, and each step draws new
    crops and new pixels of them.

    Args:
        root: a folder of photographs, in any format that n2n reads (subfolders are searched too), or several.
        val_root: a folder of the photographs to validate on, or several. If None, ``val_fraction`` of the photographs in
            ``root`` are held out, whole.
        val_fraction: from 0 (train on all; the data module then needs a ``val_source``) to below 1.
        crops_per_photo: training pairs of each photograph in an epoch.
        max_pairs: largest number of training pairs, divided evenly among the photographs; None for no limit.
        val_crops_per_photo: validation pairs of each photograph.
        fresh: whether each step draws new pairs. Then there are no clean targets.
        zoom: of fresh pairs: the side of a crop's cells is ``cell`` times a random factor from 1/zoom to zoom.
        turn: of fresh pairs: crops are rotated by up to this angle in degrees, in both directions.
        channels: 3 (grey is repeated) or 1 (colour becomes luma).
        crop: side of a crop in pixels.
        cell: side of a cell in pixels; views are ``crop // cell`` pixels wide.
        seed: of crops, noise and held-out photographs.
        cache_dir: where the pairs are kept; the user's cache folder if None.

    Raises:
        InputError: for numbers out of range; from the methods, if no photograph can be used.
    """

    kind = "photographs"
    verb = "Sampling"

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
            raise InputError(
                f"crops_per_photo is {crops_per_photo}, val_crops_per_photo {val_crops_per_photo} and max_pairs {max_pairs}: "
                "expected at least 1 of each"
            )
        super().__init__(channels, crop, cell, seed, cache_dir)
        self.root = [root] if isinstance(root, str) else list(root)
        self.val_root = [val_root] if isinstance(val_root, str) else val_root
        self.val_fraction, self.crops_per_photo, self.max_pairs = val_fraction, crops_per_photo, max_pairs
        self.val_crops_per_photo, self.fresh, self.variation = val_crops_per_photo, fresh, CropVariation(zoom, turn)
        # Name of each training photograph by its digest, once they are open.
        self._trained: dict[str, str] = {}
        if not fresh and self.variation != CropVariation():
            raise InputError(f"zoom is {zoom} and turn is {turn}: only fresh pairs can vary; set fresh to true")

    def _split(self) -> tuple[list[Path], list[Path]]:
        """Return the files to train on and those to validate on."""
        files = list(find_images(self.root))
        if self.val_root is not None:
            return files, list(find_images(self.val_root))
        # At least one to train on.
        held = min(math.ceil(self.val_fraction * len(files)), max(0, len(files) - 1))
        order = np.random.default_rng([self.seed, 2]).permutation(len(files))
        return [files[i] for i in sorted(order[held:])], [files[i] for i in sorted(order[:held])]

    def _plan(self, held_out: bool) -> tuple[dict[str, Any], Callable[[], Photos]]:
        files = self._split()[held_out]
        crops = [self.val_crops_per_photo, None] if held_out else [self.crops_per_photo, self.max_pairs]
        stamps = [[str(file), stamp(file)] for file in files]

        def find() -> Photos:
            usable, note = self._survey(files, held_out, self.sampling.crop)
            photos = list(usable)
            pairs = len(photos) * self.val_crops_per_photo if held_out else self._train_count(len(photos))
            note["remarks"] = [f"{note['remarks'][0]}, {counted(pairs, 'pair')}"]
            return Photos(len(photos), lambda i: read_photograph(photos[i], self.channels), pairs, note)

        return self._recipe(held_out, source="photographs", version=3, files=stamps, crops=crops), find

    def _survey(
        self, files: Sequence[Path], held_out: bool, least: int
    ) -> tuple[dict[Path, tuple[int, int]], dict[str, Any]]:
        """Decode each file once; returns height and width of those with ``least`` px a side or more, and a note on all."""

        def decode(file: Path) -> tuple[int, int, str]:
            try:
                photo = read_photograph(file, self.channels)
            except InputError:
                return 0, 0, ""
            return *photo.shape[:2], hashlib.blake2b(np.ascontiguousarray(photo).data, digest_size=16).hexdigest()

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            decoded = dict(zip(files, threads.map(decode, files), strict=True))
        usable = {file: (height, width) for file, (height, width, _) in decoded.items() if min(height, width) >= least}
        unreadable = [file.name for file, (height, _, _) in decoded.items() if not height]
        remark = f"{counted(len(usable), 'photograph')} used"
        if small := len(files) - len(usable) - len(unreadable):
            remark += f", {small} smaller than {least} px left out"
        if unreadable:
            remark += f", {len(unreadable)} unreadable left out ({first_few(unreadable, 3)})"
        if not usable:
            folders = ", ".join((self.val_root if held_out else None) or self.root)
            what = "validate" if held_out else "train"
            if held_out and not files and self.val_root is None:
                raise InputError(
                    f"no photograph is held out to validate on, of those in {folders}: add another one, or name a val_root"
                )
            raise InputError(
                f"no photograph to {what} on in {folders} ({counted(len(files), 'image file')}; {remark}): expected images of "
                f"at least {least} × {least} px ({EXPECTED})"
            )
        return usable, {"remarks": [remark], "digests": {decoded[file][2]: file.name for file in usable}}

    def _others(self) -> list[str]:
        """Return a line on the files that n2n does not read, or none."""
        return [line] if (line := left_out(self.root)) else []

    def _train_count(self, photographs: int) -> int:
        pairs = photographs * self.crops_per_photo
        return pairs if self.max_pairs is None else min(pairs, self.max_pairs)

    def _fresh_pairs(self) -> PhotographStore:
        files, least = self._split()[0], math.ceil(self.sampling.crop / self.variation.zoom)
        stamps = [[str(file), stamp(file)] for file in files]
        recipe = self._recipe(False, source="photographs' pixels", version=3, files=stamps, crops=None, least=least)

        def build(allocate: Allocate) -> dict[str, Any]:
            usable, note = self._survey(files, False, least)
            ends = np.cumsum([height * width for height, width in usable.values()])
            pixels = allocate((int(ends[-1]), self.channels), np.uint8)
            for file, end in zip(tqdm(usable, desc="Reading photographs", unit="photo"), ends, strict=True):
                photo = read_photograph(file, self.channels).reshape(-1, self.channels)
                pixels[end - len(photo) : end] = photo
            return note | {"sizes": list(usable.values())}

        kept = Cache(self.kind, recipe, self.cache_dir).open(build)
        self._trained = kept.note["digests"]
        pairs = self._train_count(len(kept.note["sizes"]))
        remarks = [
            f"{kept.note['remarks'][0]}, {counted(pairs, 'pair')} an epoch, new ones at each step",
            *self._others(),
        ]
        return PhotographStore(kept.array, kept.note["sizes"], self.sampling, pairs, remarks, self.variation)

    def _pairs(self, held_out: bool, clean: bool) -> PairStore:
        store, note = self._open(held_out, clean)
        if not held_out:
            self._trained = note["digests"]
            store.remarks = [*store.remarks, *self._others()]
        elif both := [f"{name} is {self._trained[d]}" for d, name in note["digests"].items() if d in self._trained]:
            line = (
                f"warning: {len(both)} held-out photographs are also trained on, so validation gives too good figures"
            )
            store.remarks = [*store.remarks, f"{line}: {first_few(both)}"]
        return store

    def train_pairs(self) -> Store:
        """Map the training pairs, or the photographs if ``fresh``, and make them first if the cache does not have them."""
        return self._fresh_pairs() if self.fresh else super().train_pairs()

    def clean_train_pairs(self) -> Store:
        """Map the same training pairs with their clean images; raises InputError if ``fresh`` is set."""
        if self.fresh:
            raise InputError("fresh pairs of photographs have no clean images: set the source's fresh to false")
        return super().clean_train_pairs()
