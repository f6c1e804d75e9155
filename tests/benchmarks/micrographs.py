"""Checkpoints against BM3D on real micrographs: ``python -m tests.benchmarks.micrographs FMD [CHECKPOINT...]``.

FMD holds ``noisy/FIELD_1.png``, a capture of each field, and ``clean/FIELD_1.png``. The noise of the wide-field microscope is
not white, so its fields are left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from n2n.denoiser import Denoiser
from n2n.trainer.baselines.filters import Noise, bm3d
from tests.benchmarks.camera import Array, psnr
from tests.benchmarks.setting import table

# Of BM3D, times the standard deviation of the noise. Each field has its own best, which only its clean image tells.
STRENGTHS = (0.8, 1.1, 1.5)
# The same with the variance stabilised.
STABILISED = (1.0, 1.3, 1.6)


def _bm3d(noisy: Array, clean: Array) -> float:
    import bm3d as package  # of the extra "baselines"

    sigma = (noisy - clean).std()
    return max(psnr(package.bm3d(noisy, strength * sigma), clean) for strength in STRENGTHS)


def _stabilised(noisy: Array, clean: Array) -> float:
    slope, floor = np.polyfit(clean.ravel(), np.square(noisy - clean).ravel(), 1)
    images, noise = torch.from_numpy(noisy)[None, None], Noise(max(slope, 0.0), floor)
    return max(psnr(bm3d(images, strength, noise)[0, 0].numpy(), clean) for strength in STABILISED)


def main(folder: Path, checkpoints: list[str]) -> None:
    """Print a table of PSNR in dB of each field, and by how many per cent a checkpoint shifts its mean.

    Args:
        folder: of the fields.
        checkpoints: names or paths.
    """
    names = sorted(path.stem[:-2] for path in (folder / "noisy").glob("*_1.png") if "Wide" not in path.stem)
    denoisers = [Denoiser.from_checkpoint(one, "cpu", ensemble=many) for one in checkpoints for many in (False, True)]
    rows, totals = [], []
    for name in names:
        stored = np.asarray(Image.open(folder / "noisy" / f"{name}_1.png"))
        clean = np.asarray(Image.open(folder / "clean" / f"{name}_1.png"), dtype=np.float32) / 255
        noisy = stored.astype(np.float32) / 255
        figures, shifts = [psnr(noisy, clean), _bm3d(noisy, clean), _stabilised(noisy, clean)], []
        for denoiser in denoisers:
            denoised = denoiser(stored).astype(np.float32) / 255
            figures.append(psnr(denoised, clean))
            shifts.append(100 * (denoised.mean() / noisy.mean() - 1))
        totals.append(figures)
        rows.append([name, *(f"{value:.2f}" for value in figures), " ".join(f"{value:+.2f}" for value in shifts)])
        print(*rows[-1], file=sys.stderr, flush=True)
    rows.append(["mean", *(f"{value:.2f}" for value in np.mean(totals, 0)), ""])
    own = [name for checkpoint in checkpoints for name in (checkpoint, f"{checkpoint}, ensemble")]
    print(table(["field", "noisy", "BM3D", "VST + BM3D", *own, "shift of the mean in %"], rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.micrographs")
    parser.add_argument("fmd", type=Path)
    parser.add_argument("checkpoints", nargs="*", default=["micrograph"])
    given = parser.parse_args()
    main(given.fmd, given.checkpoints)
