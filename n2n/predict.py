"""``n2n predict``: files in, denoised files out."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from n2n.data.images import SUFFIXES, find_images, read_picture, write_picture
from n2n.denoiser import Denoiser
from n2n.errors import InputError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (n2n predict --help lists the options)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("n2n predict", description="Denoise images with a checkpoint.", allow_abbrev=False)
    parser.add_argument("--ckpt_path", type=Path, required=True, help="a checkpoint written by n2n fit")
    parser.add_argument("--input", type=Path, required=True, help="an image (PNG or JPEG), or a folder of them")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="the folder to write to, under the names of the inputs; for one image also a file",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; by default a GPU if there is one")
    return parser


def _jobs(source: Path, output: Path) -> list[tuple[Path, Path]]:
    """Return each input with the output that belongs to it.

    Raises:
        InputError: if there is nothing to denoise, or an output would replace an input.
    """
    if source.is_dir():
        if output.is_file():
            raise InputError(f"--output {output} is a file and --input a folder: name a folder to write to")
        jobs = [(file, output / file.relative_to(source)) for file in find_images([source])]
        if not jobs:
            raise InputError(f"there is no image in {source}: expected PNG or JPEG files")
    elif source.is_file():
        as_file = output.suffix.lower() in SUFFIXES and not output.is_dir()
        jobs = [(source, output if as_file else output / source.name)]
    else:
        raise InputError(f"--input {source} is not there: expected an image or a folder of images")
    for file, target in jobs:
        if target.exists() and target.samefile(file):
            raise InputError(f"--output would replace the input {file}: name another folder")
    return jobs


def main(args: list[str]) -> int:
    """Run ``n2n predict``.

    A file that cannot be denoised does not stop the others: it is named at the end, and the status is 2.

    Args:
        args: the command line after ``predict``.
    """
    options = _parser().parse_args(args)
    jobs = _jobs(options.input, options.output)
    try:
        denoiser = Denoiser.from_checkpoint(options.ckpt_path, options.device)
    except (RuntimeError, AssertionError) as error:  # what torch raises for devices that it does not have
        raise InputError(f"--device {options.device} cannot be used ({str(error).splitlines()[0]})") from None
    failures: list[str] = []
    for source, target in tqdm(jobs, desc="Denoising", unit="image"):
        try:
            picture = read_picture(source)
            write_picture(target, replace(picture, pixels=denoiser(picture.pixels)))
        except InputError as error:
            failures.append(str(error))
    for failure in failures:
        print(f"n2n predict: error: {failure}", file=sys.stderr)
    done = len(jobs) - len(failures)
    print(f"Denoised {done} of {len(jobs)} image{'s' * (len(jobs) != 1)} to {options.output}", file=sys.stderr)
    return 2 if failures else 0
