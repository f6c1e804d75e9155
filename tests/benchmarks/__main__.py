"""``python -m tests.benchmarks``: tables of ratios, in Markdown on the standard output; progress goes to standard error."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from n2n import backbones
from n2n.errors import InputError
from tests.benchmarks import against_careamics, camera, prediction, quality, startup, training
from tests.benchmarks.setting import Setting, machine

PARTS: dict[str, Callable[[Setting], Iterator[str]]] = {
    "training": training.run,
    "careamics": against_careamics.run,
    "psnr": quality.run,
    "prediction": prediction.run,
    "startup": startup.run,
    "camera": camera.run,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m tests.benchmarks", description="Measure n2n against other ways to do the same, side by side."
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(PARTS),
        help="by default all; psnr if --psnr, camera if --photos",
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each takes its turn")
    parser.add_argument("--quick", action="store_true", help="as small as it goes, to see whether all of it runs")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--networks", nargs="+", default=["Model2", "ModelFinal"], metavar="NAME", help="of n2n.backbones"
    )
    parser.add_argument("--pairs", type=int, default=8000, help="training pairs an epoch")
    parser.add_argument("--batch_size", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=1, help="of each timed training (DataLoaders: one)")
    parser.add_argument(
        "--psnr", type=int, default=0, metavar="EPOCHS", help="compare the PSNR after so many epochs, too"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="the course's files, for --psnr; else generated images"
    )
    parser.add_argument("--photos", type=Path, metavar="DIR", help="clean photographs, for camera")
    parser.add_argument(
        "--ckpt_path", default="camera", metavar="CKPT", help="name or path of a checkpoint, for camera"
    )
    parser.add_argument("--side", type=int, default=4096, help="of the image that is denoised, in pixels")
    parser.add_argument("--precision", choices=["32", "bf16", "16"], default="32", help="of the prediction")
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = _parser()
    options = parser.parse_args(args)
    if unknown := [name for name in options.networks if name not in backbones.__all__]:
        parser.error(f"--networks {unknown[0]}: expected some of {', '.join(backbones.__all__)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no GPU that torch can use")
    if options.quick:
        options.pairs, options.batch_size, options.side, options.rounds = min(300, options.pairs), 50, 400, 1
    if min(options.rounds, options.epochs, options.batch_size) < 1 or options.pairs < 2 * options.batch_size:
        parser.error("expected at least 1 round, 1 epoch, and pairs for two batches")
    if "camera" in (options.only or []) and options.photos is None:
        parser.error("camera: expected --photos DIR, a folder of clean photographs")
    wanted = {"psnr": options.psnr, "camera": options.photos}
    parts = options.only or [name for name in PARTS if wanted.get(name, True)]
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(
            device=torch.device(options.device),
            networks=options.networks,
            rounds=options.rounds,
            pairs=options.pairs,
            val_pairs=50 if options.quick else 1000,
            batch_size=options.batch_size,
            epochs=options.epochs,
            psnr_epochs=options.psnr or 1,
            data=options.data.resolve() if options.data else None,
            photos=options.photos,
            checkpoint=options.ckpt_path,
            side=options.side,
            precision=options.precision,
            quick=options.quick,
            folder=Path(folder),
        )
        print(machine(setting), flush=True)
        for name in parts:
            print(f"{name}:", file=sys.stderr)
            try:
                for block in PARTS[name](setting):
                    print(f"\n{block}", flush=True)
            except InputError as error:
                parser.error(str(error))


if __name__ == "__main__":
    main()
