"""``n2n predict``: files in, denoised files out, by LightningCLI and ``Trainer.predict``."""

from __future__ import annotations

import argparse
import logging
import math
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from n2n.checkpoints.bundled import describe_checkpoint, list_checkpoints
from n2n.errors import InputError, Interrupted, one_line
from n2n.system.options import TRUST_HELP, CommandParser
from n2n.system.text import counted

if TYPE_CHECKING:
    from n2n.data.reading import ImageFile

_DESCRIPTION = """\
Denoise images with a checkpoint: PNG, JPEG, WebP, AVIF, BMP, JPEG 2000, PNM, TIFF, FITS, MRC, HDF5, OpenEXR,
npy, npz, zarr and OME-Zarr; GIF is written as PNG, and ND2, CZI and camera RAW as OME-TIFF.

Every output has the name, format, size, dtype and value range of its input. Opacity, axes and metadata
(resolution, colour profile, EXIF, XMP, makers' tags) are kept, or a warning says what is not. An image may be larger
than memory (TIFF, zarr, FITS, MRC, HDF5, CZI, PNM, npy). Every Y×X plane is denoised. Channels go through the network
together if it has as many, else one by one. An array without names for its axes is H×W, or ...×H×W; a last axis of 1
to 4 is its channels."""

_EPILOG = """\
A file that cannot be denoised is named at the end, does not stop the others, and makes the exit status 2.

examples:
  n2n predict --ckpt_path best.ckpt --input scans/ --output denoised/
  n2n predict --ckpt_path best.ckpt --input stack.tif --output clean.tif --range 0 4095 --ensemble
  n2n predict --ckpt_path best.ckpt --input scans/ --output denoised/ --trainer.devices 4"""

# Options of LightningCLI beside those that the help lists.
_PASSED = ("--trainer.", "--model.", "--data.", "--seed_everything")
# A Trainer's precision for the names of --precision.
_PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def _checkpoints() -> str:
    """List the checkpoints that come with n2n."""
    return "\n  ".join(["checkpoints that come with n2n, for --ckpt_path:", *list_checkpoints()])


def _finite(text: str) -> float:
    """Read a number of the command line."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text} is given: expected two finite numbers, the low one first")
    return number


def _parser() -> CommandParser:
    """Return the parser of the command's own options; their destinations are LightningCLI's names."""
    parser = CommandParser(
        "predict",
        description=_DESCRIPTION,
        epilog=f"{_checkpoints()}\n\n{_EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    files = parser.add_argument_group("files")
    files.add_argument("--ckpt_path", dest="model.ckpt_path", metavar="FILE", help=describe_checkpoint())
    files.add_argument("--trust", dest="model.trust", action="append", metavar="PACKAGE", help=TRUST_HELP)
    files.add_argument(
        "--input",
        dest="data.input",
        metavar="PATH",
        help="an image, or a folder of them (subfolders too); FILE:PART for one of several images in a FITS, HDF5 or CZI "
        "file",
    )
    files.add_argument(
        "--output",
        dest="data.output",
        metavar="PATH",
        help="the folder to write to, under the names of the inputs; for one image also a file, whose suffix may name another "
        "format",
    )
    files.add_argument(
        "--overwrite",
        dest="data.overwrite",
        action="store_true",
        help="replace outputs that exist, and inputs where --output names them",
    )
    files.add_argument(
        "--axes",
        dest="data.axes",
        metavar="LETTERS",
        help="what the axes of the files are, if they do not say it, or say it wrongly: T time, Z depth, C channel, Y rows, X "
        "columns, S red-green-blue, Q any other, such as TCYX",
    )
    result = parser.add_argument_group("result")
    result.add_argument(
        "--range",
        dest="model.range",
        type=_finite,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="the values that mean black and white, as in training; by default the training's for images of its dtype, all "
        "values of other integers, and 0 to 1 for floats where training was on integers",
    )
    result.add_argument(
        "--ensemble",
        dest="model.ensemble",
        action="store_true",
        help="average over the 8 flips and rotations: better, and 8 times as long",
    )
    result.add_argument(
        "--spread",
        dest="data.spread",
        action="store_true",
        help="write beside each result how much the 8 flips and rotations differ, pixel by pixel (NAME.spread.ome.tif): a "
        "cheap map of what not to trust, which takes 8 times as long",
    )
    speed = parser.add_argument_group("speed and memory (the defaults suit the machine)")
    speed.add_argument("--device", help="cpu, cuda, cuda:1, mps; by default a CUDA GPU if there is one, else the CPU")
    speed.add_argument(
        "--precision",
        help="32 (default), or bf16 or 16, which GPUs run faster, and CPUs with bf16; bf16 moves 8-bit values by 1 or 2",
    )
    speed.add_argument(
        "--tile",
        dest="model.tile",
        metavar="N",
        type=int,
        help="pixels from tile to tile of a large image, a multiple of 16 (256 to 512 on CPUs, 512 on GPUs)",
    )
    speed.add_argument(
        "--overlap",
        dest="model.overlap",
        metavar="N",
        type=int,
        help="pixels that a tile extends beyond its edge, a multiple of 16 (the network's receptive field)",
    )
    speed.add_argument(
        "--batch", dest="model.batch", metavar="N", type=int, help="tiles at once (1 on CPUs, 8 or what fits on GPUs)"
    )
    lightning = parser.add_argument_group("Lightning (any option of its Trainer, as --trainer.NAME)")
    lightning.add_argument(
        "-c", "--config", action="append", metavar="FILE", help="a YAML file of options, as --print_config shows them"
    )
    lightning.add_argument("--print_config", action="store_true", help="print all options as YAML, and stop")
    for name, text in {
        "devices": "number of devices, or of CPU processes, that share the files (1)",
        "accelerator": "cpu, cuda, mps, ...",
        "precision": "32-true, bf16-mixed, 16-mixed, ...",
        "strategy": "how processes work together: auto, ddp, ...",
    }.items():
        lightning.add_argument(f"--trainer.{name}", metavar=name.upper(), help=text)
    return parser


def _device(name: str) -> dict[str, str]:
    """Return the Trainer's options for a device.

    Raises:
        InputError: if it is none.
    """
    found = re.fullmatch(r"(cpu|cuda|mps)(?::(\d+))?", name)
    if found is None:
        raise InputError(f"the device {name} cannot be used: expected cpu, cuda, cuda:1 or mps")
    devices = f"[{found[2]}]" if found[2] and found[1] != "cpu" else "1"
    return {"trainer.accelerator": found[1], "trainer.devices": devices}


def _lightning_arguments(args: list[str]) -> list[str]:
    """Return a command line as LightningCLI takes it.

    Raises:
        InputError: if an option is wrong or missing.
    """
    parser = _parser()
    known, rest = parser.parse_some(args, _PASSED)
    options: dict[str, Any] = vars(known)
    configs = options.pop("config", [])
    shown = ["--print_config"] * options.pop("print_config", False)
    required = {"model.ckpt_path": "--ckpt_path", "data.input": "--input", "data.output": "--output"}
    missing = [name for key, name in required.items() if key not in options]
    if missing and not (configs or rest or shown):
        if "--ckpt_path" in missing:
            print(_checkpoints(), file=sys.stderr)
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    if (device := options.pop("device", None)) is not None:
        options = _device(device) | options
    if (precision := options.pop("precision", None)) is not None:
        if precision not in _PRECISIONS:
            raise InputError(f"precision is {precision}: expected one of {', '.join(_PRECISIONS)}")
        options = {"trainer.precision": _PRECISIONS[precision]} | options
    given = [f"--config={config}" for config in configs] + [f"--{name}={value}" for name, value in options.items()]
    return [*given, *rest, *shown]


def main(args: list[str]) -> int:
    """Run ``n2n predict``.

    A file that cannot be denoised does not stop the others: it is named at the end, and the status is 2.

    Args:
        args: the command line after ``predict``.
    """
    args = _lightning_arguments(args)
    # Not before: help need not wait for torch.
    from tqdm import tqdm

    from n2n.system.hardware import keep_freed_memory
    from n2n.trainer.interrupts import StopAtOnce
    from n2n.trainer.prediction_cli import PredictionCLI
    from n2n.trainer.quiet import drop_irrelevant, silence

    def warn(line: str) -> None:
        tqdm.write(f"n2n predict: warning: {one_line(line)}", file=sys.stderr)

    drop_irrelevant()
    keep_freed_memory()
    # These two log what the one line on a file says.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")
    stop = StopAtOnce()
    with silence():
        cli = PredictionCLI(args, warn, stop)
        try:
            with stop.listening():
                cli.run()
        except Interrupted as interrupted:
            # Nothing tells this process how far the others are.
            return _report("Stopped: denoised", cli.datamodule.share, cli.datamodule.output, 128 + interrupted.signum)
    if not cli.trainer.is_global_zero:
        # Lightning would kill the first process for the status of another one.
        return 0
    if cli.datamodule.left_out:
        print(f"n2n predict: {cli.datamodule.left_out}", file=sys.stderr)
    return _report("Denoised", cli.datamodule.files, cli.datamodule.output)


def _report(what: str, files: Sequence[ImageFile], output: Path, status: int = 0) -> int:
    """Say what became of the files, and return the exit status."""
    from n2n.data.image_files import describe_suffixes  # not before: help need not wait for torch

    # An image and the map of its spread fail for one reason, which is said once.
    failures = dict.fromkeys(str(file.failure) for file in files if file.failure is not None)
    for failure in failures:
        print(f"n2n predict: error: {failure}", file=sys.stderr)
    images = [file for file in files if not file.spread]
    done = sum(file.done for file in images)
    suffixes = describe_suffixes(images)
    more = f" ({suffixes})" if suffixes else ""
    print(f"{what} {done} of {counted(len(images), 'image')} to {output}{more}", file=sys.stderr)
    return status or (2 if failures else 0)
