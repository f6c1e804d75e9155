"""``own.yaml`` on real captures, left-out fields denoised, against total variation: ``python -m tests.benchmarks.own DIR``.

DIR holds ``noisy/FIELD_1.png`` and ``noisy/FIELD_2.png``, two captures of each field, and ``clean/FIELD_1.png``. Each of four
folds leaves out every fourth field and trains on the others.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from n2n.cli import main as n2n
from n2n.denoiser import Denoiser
from tests.benchmarks.camera import Array, psnr
from tests.benchmarks.setting import table

FOLDS = 4
WEIGHTS = (0.02, 0.03, 0.045, 0.07, 0.1, 0.15, 0.2, 0.3)


def _open(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path))


def _total_variation(image: Array, clean: Array) -> float:
    """PSNR with the weight that suits the image best, which only its clean image tells."""
    from skimage.restoration import denoise_tv_chambolle

    return max(psnr(denoise_tv_chambolle(image, weight), clean) for weight in WEIGHTS)  # type: ignore[no-untyped-call]


def _train(folder: Path, names: list[str], work: Path, options: list[str]) -> Callable[[NDArray[np.uint8]], Array]:
    captures = work / "captures"
    captures.mkdir()
    for name in names:
        for capture in (1, 2):
            shutil.copy(folder / "noisy" / f"{name}_{capture}.png", captures)
    given = ["--config", "own.yaml", "--config", "data/captures.yaml", "--root", str(captures), "--name", work.name]
    if n2n(["fit", *given, *options]):
        sys.exit("the training failed")
    found = Path("lightning_logs", work.name).glob("version_*/checkpoints/best.ckpt")
    checkpoint = max(found, key=lambda path: path.stat().st_mtime)
    denoiser = Denoiser.from_checkpoint(checkpoint)
    return lambda image: np.asarray(denoiser(image)) / 255


def main(folder: Path, options: list[str]) -> None:
    """Print a table of PSNR in dB of each left-out field, the mean of its two captures.

    Args:
        folder: of the captures.
        options: of ``n2n fit``, beside the default.
    """
    names = sorted({path.stem[:-2] for path in (folder / "noisy").iterdir()})
    rows, totals = [], []
    with tempfile.TemporaryDirectory() as work:
        for fold in range(FOLDS):
            left_out, start = names[fold::FOLDS], time.process_time()
            place = Path(work, f"fold{fold}")
            place.mkdir()
            denoise = _train(folder, [name for name in names if name not in left_out], place, options)
            print(f"fold {fold}: {time.process_time() - start:.0f} CPU s", file=sys.stderr, flush=True)
            for name in left_out:
                clean = _open(folder / "clean" / f"{name}_1.png") / 255
                noisy = [_open(folder / "noisy" / f"{name}_{capture}.png") for capture in (1, 2)]
                figures = [
                    (psnr(one / 255, clean), psnr(denoise(one), clean), _total_variation(one / 255, clean))
                    for one in noisy
                ]
                totals.append(np.mean(figures, 0))
                rows.append([name, *(f"{value:.2f}" for value in totals[-1])])
    rows.append(["mean", *(f"{value:.2f}" for value in np.mean(totals, 0))])
    print(table(["field", "noisy", "own.yaml", "total variation"], rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.own", description="Options of n2n fit may follow."
    )
    parser.add_argument("fmd", type=Path)
    given, options = parser.parse_known_args()
    main(given.fmd, options)
