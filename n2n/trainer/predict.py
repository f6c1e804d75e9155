"""``n2n predict``: files in, denoised files out."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from n2n.checkpoints.bundled import describe_checkpoint
from n2n.errors import InputError, one_line
from n2n.system.options import TRUST_HELP, CommandParser

_DESCRIPTION = """\
Denoise images with a checkpoint: PNG, JPEG, TIFF (also of many pages, and BigTIFF), .npy, .npz and .zarr.

Every output has the name, format, size, dtype and value range of its input; opacity, resolution, colour profile
and ImageJ's axes are kept. An image may be larger than memory (TIFF, .npy, .zarr). An array of two axes is H×W;
of three or more, a last axis of 1 to 4 is the channels, and those before H×W are pages."""

_EPILOG = """\
A file that cannot be denoised is named at the end, does not stop the others, and makes the exit status 2.

examples:
  n2n predict --ckpt_path best.ckpt --input scans/ --output denoised/
  n2n predict --ckpt_path best.ckpt --input stack.tif --output clean.tif --range 0 4095 --ensemble"""


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        "predict",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    files = parser.add_argument_group("files")
    files.add_argument("--ckpt_path", type=Path, required=True, metavar="FILE", help=describe_checkpoint())
    files.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help=TRUST_HELP)
    files.add_argument(
        "--input", type=Path, required=True, metavar="PATH", help="an image, or a folder of them (subfolders too)"
    )
    files.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="PATH",
        help="the folder to write to, under the names of the inputs; for one image also a file, whose suffix may name another "
        "format",
    )
    files.add_argument(
        "--overwrite", action="store_true", help="replace outputs that exist, and inputs where --output names them"
    )
    result = parser.add_argument_group("result")
    result.add_argument(
        "--range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="the values that mean black and white, as in training; by default the training's for images of its dtype, all "
        "values of other integers, and 0 to 1 for floats where training was on integers",
    )
    result.add_argument(
        "--ensemble", action="store_true", help="average over the 8 flips and rotations: better, and 8 times as long"
    )
    speed = parser.add_argument_group("speed and memory (the defaults suit the machine)")
    speed.add_argument("--device", help="cpu, cuda, cuda:1, ...; by default a GPU if there is one")
    speed.add_argument(
        "--precision",
        help="32 (default), or bf16 or 16, which GPUs run faster, and CPUs with bf16; bf16 moves 8-bit values by 1 or 2",
    )
    speed.add_argument(
        "--tile",
        type=int,
        help="pixels from piece to piece of a large image, a multiple of 16 (256 to 512 on CPUs, 512 on GPUs)",
    )
    speed.add_argument(
        "--overlap",
        type=int,
        help="pixels that a piece sees beyond its own, a multiple of 16 (as far as the network looks)",
    )
    speed.add_argument("--batch", type=int, help="pieces at once (1 on CPUs, 8 or what fits on GPUs)")
    return parser


def _jobs(source: Path, output: Path, overwrite: bool) -> list[tuple[Path, Path]]:
    """Return each input with the output that belongs to it.

    Raises:
        InputError: if there is nothing to denoise, or an output would replace a file, or cannot be where it should.
    """
    from n2n.data.images import SUFFIXES, find_images, is_image

    if not source.exists():
        raise InputError(f"--input {source} is not there: expected an image or a folder of images")
    if source.is_dir() and not is_image(source):
        if output.is_file():
            raise InputError(f"--output {output} is a file and --input a folder: name a folder to write to")
        # Path.resolve raises RuntimeError for a loop of links, os.path.realpath follows it as far as it goes.
        to, within = (Path(os.path.realpath(path)) for path in (output, source))
        inside = to != within and to.is_relative_to(within)
        files = [
            file for file in find_images([source]) if not (inside and Path(os.path.realpath(file)).is_relative_to(to))
        ]
        if not files:
            raise InputError(f"there is no image in {source}: expected {', '.join(SUFFIXES)} files")
        jobs = [(file, output / file.relative_to(source)) for file in files]
    else:
        as_file = output.suffix.lower() in SUFFIXES and (not output.is_dir() or is_image(output))
        jobs = [(source, output if as_file else output / source.name)]
    if not overwrite:
        for file, target in jobs:
            if target.exists() and target.samefile(file):
                raise InputError(f"--output would replace the input {file}: name another folder, or add --overwrite")
        there = [target for _, target in jobs if target.exists()]
        if there:
            found = f"{there[0]} exists" if len(there) == 1 else f"{there[0]} and {len(there) - 1} more exist"
            raise InputError(f"{found} already: name another --output, or add --overwrite")
    for folder in {target.parent for _, target in jobs}:
        there_is = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not there_is.is_dir():
            raise InputError(f"--output cannot be in {folder}: {there_is} is a file; name a folder")
        if not os.access(there_is, os.W_OK):
            raise InputError(f"--output cannot be in {folder}: {there_is} may not be written to; name another folder")
    return jobs


@contextmanager
def _terminable() -> Iterator[None]:
    """Let a terminated process remove what it had half written, as an interrupted one does."""

    def leave(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not the main thread, which alone may
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(args: list[str]) -> int:
    """Run ``n2n predict``.

    A file that cannot be denoised does not stop the others: it is named at the end, and the status is 2.

    Args:
        args: the command line after ``predict``.
    """
    options = _parser().parse_args(args)
    # Not before: help need not wait for torch.
    from tqdm import tqdm

    from n2n.denoiser import Denoiser
    from n2n.denoiser.pipeline import Job, denoise_files
    from n2n.system.hardware import keep_freed_memory

    jobs = [Job(source, target) for source, target in _jobs(options.input, options.output, options.overwrite)]
    denoiser = Denoiser.from_checkpoint(
        options.ckpt_path,
        options.device,
        options.precision,
        options.tile,
        options.overlap,
        options.batch,
        options.ensemble,
        options.range,
        options.trust,
    )
    keep_freed_memory()
    # These two tell the log what the one line on a file says.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")
    bar = "{l_bar}{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]"
    with _terminable(), tqdm(total=len(jobs), desc="Denoising", bar_format=bar) as shown:

        def warn(line: str) -> None:
            tqdm.write(f"n2n predict: warning: {one_line(line)}", file=sys.stderr)

        def progress(number: int, share: float) -> None:
            # Files before this one that failed are behind us.
            shown.update(max(0.0, number - shown.n) + share)

        try:
            denoise_files(denoiser, jobs, warn, progress)
            shown.update(len(jobs) - shown.n)
            stopped = False
        except KeyboardInterrupt:
            stopped = True
    failures = [job.failure for job in jobs if job.failure is not None]
    for failure in failures:
        print(f"n2n predict: error: {failure}", file=sys.stderr)
    done = sum(job.done for job in jobs)
    images = f"{done} of {len(jobs)} image{'s' * (len(jobs) != 1)}"
    print(f"{'Stopped: denoised' if stopped else 'Denoised'} {images} to {options.output}", file=sys.stderr)
    if stopped:
        return 130
    return 2 if failures else 0
