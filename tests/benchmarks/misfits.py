"""How often a checkpoint's noise is said not to fit an image: ``python -m tests.benchmarks.misfits KODAK FMD``.

KODAK is a folder of clean photographs, FMD one with ``noisy/FIELD_1.png``, captures of microscopes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from n2n.checkpoints.bundled import pretrained
from n2n.checkpoints.rebuild import load_checkpoint
from n2n.data.corruption import Camera, Corruption, SampleCells
from n2n.data.noise import TrainedNoise
from n2n.denoiser.noise import BlockSample, misfit
from n2n.denoiser.value_range import ValueRange
from tests.benchmarks.setting import table

Pixels = NDArray[np.uint8]
RANGE = ValueRange(0, 255)


def _stored(image: NDArray[Any]) -> Pixels:
    return np.asarray(np.rint(np.clip(image, 0, 255)), dtype=np.uint8)


def _corrupted(corruption: Corruption, seed: int, photo: Pixels) -> Pixels:
    images = torch.from_numpy(photo).movedim(2, 0)[None].float() / 255
    noisy = corruption(images, torch.Generator().manual_seed(seed))[0]
    return _stored(noisy.movedim(0, 2).numpy() * 255)


def kinds(photos: list[Pixels], micrographs: Path) -> Iterator[tuple[str, list[Pixels]]]:
    """Give each kind of noise, and its images, H×W×C."""
    yield "none", photos
    for sigma in (5, 15, 25, 50, 75):
        rngs = [np.random.default_rng(number) for number in range(len(photos))]
        noise = [rng.normal(0, sigma, photo.shape) for rng, photo in zip(rngs, photos, strict=True)]
        yield f"white, sigma {sigma}", [_stored(photo + one) for photo, one in zip(photos, noise, strict=True)]
    yield "photons", [_stored(np.random.default_rng(i).poisson(photo / 8) * 8.0) for i, photo in enumerate(photos)]
    for name, camera in {"Camera": Camera(), "the same, high gain": Camera(shot=(8e-3, 2e-2))}.items():
        yield name, [_corrupted(camera, i, photo[:256, :256]) for i, photo in enumerate(photos)]
    yield "pixel-sampled", [_corrupted(SampleCells(2), i, photo) for i, photo in enumerate(photos)]
    for name, pattern in {"wide-field": "Wide*", "confocal and two-photon": "[CT]*"}.items():
        yield name, [np.asarray(Image.open(path))[..., None] for path in sorted(micrographs.glob(pattern))]


def _warned(images: list[Pixels], trained: TrainedNoise) -> int:
    count = 0
    for image in images:
        sample = BlockSample(RANGE)
        sample.add(image, None)
        count += misfit(sample.noise(), trained, RANGE) is not None
    return count


def main(kodak: Path, fmd: Path) -> None:
    """Print a table: warnings by kind of noise and checkpoint."""
    paths = pretrained()
    trained = {name: TrainedNoise.from_plain(load_checkpoint(path)["n2n"].get("noise")) for name, path in paths.items()}
    known = {name: one for name, one in trained.items() if one is not None}
    photos = [np.asarray(Image.open(path).convert("RGB"))[:480, :640] for path in sorted(kodak.glob("*.png"))]
    rows = [
        [name, str(len(images)), *(str(_warned(images, one)) for one in known.values())]
        for name, images in kinds(photos, fmd / "noisy")
    ]
    print(table(["noise", "images", *known], rows))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
