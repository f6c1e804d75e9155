"""Checkpoints on noise like that of cameras in low light: ``python -m tests.benchmarks.low_light KODAK [CHECKPOINT...]``.

The noise is made in another way than ``n2n.data.corruption.Camera`` makes it: Gaussian noise, filtered so that it is as
correlated from pixel to pixel as that of three real cameras. KODAK is a folder of clean photographs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from n2n.denoiser import Denoiser
from tests.benchmarks.camera import Array, crops, psnr
from tests.benchmarks.setting import table

SIDE = 320
# Of 255, in red, green and blue.
SIGMAS = (12, 7, 10)
# Every second photograph, in turns.
BRIGHTNESS = (1, 0.6, 0.35)
STRENGTH = (0.6, 1, 1.6)
BLURS = (0.8, 1.2, 1.6, 2.2, 3)


def _spectrum() -> Array:
    """Amplitude by frequency. The correlation is 0.48, 0.16 and 0.04 at distances of 1, 2 and 3 pixels."""
    x = np.fft.fftfreq(SIDE) * SIDE
    distance = np.hypot(x[:, None], x)
    return np.sqrt(np.maximum(np.fft.fft2(np.exp(-0.734 * distance**1.32)).real, 0))


def _blurred(image: Array, sigma: float) -> Array:
    from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]  # of the extra "baselines"

    return np.asarray(gaussian_filter(image, (sigma, sigma, 0)))


def low_light(photo: Array, number: int, spectrum: Array) -> tuple[Array, Array]:
    """Return a noisy photograph and its clean one, H×W×3 in [0, 1], darker than the one given and slightly blurred."""
    clean = (_blurred(photo, 0.7) * BRIGHTNESS[number % 3]).astype(np.float32)
    rng = np.random.default_rng(number)
    white = [rng.normal(size=spectrum.shape) for _ in SIGMAS]
    noise = np.stack([np.fft.ifft2(np.fft.fft2(one) * spectrum).real for one in white], -1) * SIGMAS / 255
    return clean + noise * STRENGTH[number % 3] * np.sqrt((0.25 + clean) / 0.65), clean


def main(folder: Path, checkpoints: list[str]) -> None:
    """Print a table of PSNR in dB.

    Args:
        folder: of photographs.
        checkpoints: names or paths.
    """
    denoisers = [Denoiser.from_checkpoint(checkpoint, "cpu") for checkpoint in checkpoints]
    spectrum, found = _spectrum(), []
    for number, (_, photo) in enumerate(list(crops(folder, SIDE))[::2]):
        noisy, clean = low_light(photo, number, spectrum)
        stored = np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)
        noisy = stored.astype(np.float32) / 255
        denoised = [denoiser(stored).astype(np.float32) / 255 for denoiser in denoisers]
        blurred = max(psnr(_blurred(noisy, sigma), clean) for sigma in BLURS)
        found.append([psnr(noisy, clean), *(psnr(image, clean) for image in denoised), blurred])
    gains = np.subtract(found, [row[:1] for row in found]).min(0)
    names = ["noisy", *checkpoints, "Gaussian blur"]
    rows = [[n, f"{mean:.2f}", f"{gain:+.2f}"] for n, mean, gain in zip(names, np.mean(found, 0), gains, strict=True)]
    print(table(["method", "mean", "smallest gain"], rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.low_light")
    parser.add_argument("kodak", type=Path)
    parser.add_argument("checkpoints", nargs="*", default=["camera", "gaussian"])
    given = parser.parse_args()
    main(given.kodak, given.checkpoints)
