"""How often a checkpoint's noise is said not to fit an image: ``python -m tests.benchmarks.misfits KODAK FMD``.

KODAK is a folder of clean photographs, FMD one with ``noisy/FIELD_1.png``, captures of microscopes.
"""

from __future__ import annotations

import argparse
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from n2n import Denoiser
from n2n.checkpoints.bundled import pretrained
from n2n.data.corruption import Camera, Corruption, SampleCells
from n2n.data.flat_noise import BlockSample
from n2n.data.value_range import ValueRange
from n2n.denoiser.misfit import misfit
from tests.benchmarks.setting import table

Pixels = NDArray[np.uint8]
RANGE = ValueRange(0, 255)


def _stored(image: NDArray[Any]) -> Pixels:
    return np.asarray(np.rint(np.clip(image, 0, 255)), dtype=np.uint8)


def _corrupted(corruption: Corruption, seed: int, photo: Pixels) -> Pixels:
    images = torch.from_numpy(photo).movedim(2, 0)[None].float() / 255
    noisy = corruption(images, torch.Generator().manual_seed(seed))[0]
    return _stored(noisy.movedim(0, 2).numpy() * 255)


def _jpeg(image: Pixels) -> Pixels:
    """Save as JPEG of quality 85 with half the resolution for colour."""
    written = io.BytesIO()
    Image.fromarray(image).save(written, "JPEG", quality=85, subsampling="4:2:0")
    return np.asarray(Image.open(written))


def kinds(photos: list[Pixels], micrographs: Path) -> Iterator[tuple[str, list[Pixels]]]:
    """Give each kind of noise, and its images, H×W×C."""
    yield "none", photos
    for sigma in (5, 15, 25, 50, 75):
        rngs = [np.random.default_rng(number) for number in range(len(photos))]
        noise = [rng.normal(0, sigma, photo.shape) for rng, photo in zip(rngs, photos, strict=True)]
        yield f"white, sigma {sigma}", [_stored(photo + one) for photo, one in zip(photos, noise, strict=True)]
        if sigma == 25:
            yield "the same, then JPEG", [_jpeg(_stored(photo + one)) for photo, one in zip(photos, noise, strict=True)]
    yield "photons", [_stored(np.random.default_rng(i).poisson(photo / 8) * 8.0) for i, photo in enumerate(photos)]
    for name, camera in {"Camera": Camera(), "the same, high gain": Camera(shot=(8e-3, 2e-2))}.items():
        yield name, [_corrupted(camera, i, photo[:256, :256]) for i, photo in enumerate(photos)]
    yield "pixel-sampled", [_corrupted(SampleCells(2), i, photo) for i, photo in enumerate(photos)]
    for name, pattern in {"wide-field": "Wide*", "confocal and two-photon": "[CT]*"}.items():
        yield name, [np.asarray(Image.open(path))[..., None] for path in sorted(micrographs.glob(pattern))]


def _line(image: Pixels, denoised: Pixels, denoiser: Denoiser) -> str | None:
    if denoiser.noise is None:
        return None
    sample = BlockSample(RANGE)
    sample.add(image, denoised, None)
    return misfit(sample.noise(), denoiser.noise, RANGE)


def _is_warned_about(image: Pixels, denoiser: Denoiser) -> bool:
    # Of many images the noise alone says it. The others are denoised.
    line = _line(image, image, denoiser)
    if line is None or line.startswith("the noise here"):
        return line is not None
    return _line(image, denoiser(image), denoiser) is not None


def main(arguments: list[str] | None = None) -> None:
    """Print a table: warnings by kind of noise and checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.misfits")
    parser.add_argument("kodak", type=Path)
    parser.add_argument("fmd", type=Path)
    parser.add_argument("--checkpoints", nargs="+", default=list(pretrained()))
    parser.add_argument("--rows", default="", metavar="TEXT", help="only the kinds of noise with this text")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    denoisers = [Denoiser.from_checkpoint(name, device="cpu") for name in given.checkpoints]
    photos = [np.asarray(Image.open(path).convert("RGB"))[:480, :640] for path in sorted(given.kodak.glob("*.png"))]
    rows = [
        [name, str(len(images)), *(str(sum(_is_warned_about(image, one) for image in images)) for one in denoisers)]
        for name, images in kinds(photos, given.fmd / "noisy")
        if given.rows in name
    ]
    print(table(["noise", "images", *given.checkpoints], rows))


if __name__ == "__main__":
    main()
