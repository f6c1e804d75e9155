"""A checkpoint against CBM3D and a Gaussian blur on photographs with a camera's noise."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from n2n.data.corruption import Camera
from n2n.denoiser import Denoiser
from n2n.trainer.baselines.filters import Noise, gaussian_blur
from tests.benchmarks.setting import Setting, table

# BM3D takes many seconds for larger images.
SIDE = 192
# How strong a filter is; the best strength of each image counts, which only its clean image tells.
BLURS = (0.5, 0.7, 0.9, 1.2, 1.6, 2.2)
SIGMAS = (6, 10, 16, 25, 40)
# Shipped checkpoints have learnt quality 70 to 100, zoom 0.7 to 1.2, amounts up to 1, and so on.
CAMERAS: Mapping[str, Camera] = {
    "in the range of the training": Camera(),
    "outside of it": Camera(
        white_balance=(2.5, 2.8),
        colour=(0.3, 0.5),
        smooth=1.0,
        luma=(0.6, 0.8),
        chroma=(0.5, 2.0),
        resample=1.0,
        zoom=(1.2, 1.35),
        quality=(60, 70),
        lens=(0.9, 1.1),
    ),
}
Array = NDArray[np.floating]


def psnr(image: Array, clean: Array) -> float:
    """PSNR in dB of an image, clipped, against the clean one in [0, 1]."""
    return float(-10 * np.log10(np.square(image.clip(0, 1) - clean).mean()))


def _best(image: Array, clean: Array, apply: Callable[[Array, float], Array], strengths: tuple[float, ...]) -> float:
    """PSNR at the strength that suits the image best; the strengths are tried upwards while the result improves."""
    best = -np.inf
    for strength in strengths:
        if (found := psnr(apply(image, strength), clean)) < best:
            break
        best = found
    return best


def _blur(image: Array, sigma: float) -> Array:
    return gaussian_blur(torch.from_numpy(image).movedim(2, 0)[None], sigma, Noise(0.0, 0.0))[0].movedim(0, 2).numpy()


def _cbm3d(image: Array, sigma: float) -> Array:
    import bm3d  # of the extra "baselines"

    return np.asarray(bm3d.bm3d_rgb(image, sigma / 255), dtype=np.float32)


def crops(folder: Path, side: int) -> Iterator[tuple[str, Array]]:
    """Give the centre of each photograph of a folder, at most side×side×3, in [0, 1]."""
    for path in sorted(folder.iterdir()):
        image = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255
        top, left = (max(0, size - side) // 2 for size in image.shape[:2])
        yield path.stem, image[top : top + side, left : left + side]


def run(setting: Setting) -> Iterator[str]:
    """Give a table for each kind of camera."""
    assert setting.photos is not None
    denoiser = Denoiser.from_checkpoint(setting.checkpoint, setting.device)
    for kind, camera in CAMERAS.items():
        found = defaultdict(list)
        for number, (name, photo) in enumerate(crops(setting.photos, SIDE)):
            generator = torch.Generator().manual_seed(number)
            noisy, _, clean = (
                np.asarray(view[0].movedim(0, 2))
                for view in camera.pair(torch.from_numpy(photo).movedim(2, 0)[None], generator)
            )
            stored = np.rint(noisy * 255).astype(np.uint8)
            figures = {
                "noisy": psnr(noisy, clean),
                setting.checkpoint: psnr(denoiser(stored).astype(np.float32) / 255, clean),
                "CBM3D": _best(noisy, clean, _cbm3d, SIGMAS),
                "Gaussian blur": _best(noisy, clean, _blur, BLURS),
            }
            print(name, {key: round(value, 2) for key, value in figures.items()}, file=sys.stderr, flush=True)
            for key, value in figures.items():
                found[key].append(value)
        gains = {key: np.subtract(values, found["noisy"]) for key, values in found.items()}
        yield f"Camera noise, parameters {kind}: PSNR in dB of {len(found['noisy'])} photographs, centres of {SIDE}×{SIDE}."
        yield table(
            ["method", "mean", "gain", "smallest gain"],
            [
                [key, f"{np.mean(values):.2f}", f"{gains[key].mean():+.2f}", f"{gains[key].min():+.2f}"]
                for key, values in found.items()
            ],
        )
