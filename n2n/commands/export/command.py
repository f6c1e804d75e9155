"""``n2n export``: write a checkpoint's network as ONNX or torch.export, checked against the checkpoint."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from n2n import __version__
from n2n.checkpoints.bundled import describe_checkpoint, find_checkpoint
from n2n.commands.export import formats
from n2n.commands.export.check import difference, noisy_images
from n2n.commands.export.formats import INPUT, OUTPUT, SUFFIXES, ExportFormat
from n2n.commands.export.tracing import TRIED, Sides, find_sides, trace
from n2n.denoiser.denoiser import MAX_CHANNELS, Denoiser
from n2n.errors import InputError
from n2n.system.files import replacing
from n2n.system.options import TRUST_HELP, CommandParser
from n2n.system.torch_files import load_torch_file


@dataclass(frozen=True)
class Exported:
    """An exported file, which takes C = ``channels`` and H and W of ``sides``.

    It was checked on images of ``shapes``; ``difference`` is the largest absolute difference from the checkpoint's output.
    """

    path: Path
    channels: int
    sides: Sides
    shapes: list[tuple[int, int, int, int]]
    difference: float


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the messages of the exporters, but not their errors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _model_card(ckpt_path: Path, channels: int, sides: Sides) -> dict[str, str]:
    """Return the metadata that a user of the file needs, as strings."""
    content = load_torch_file(ckpt_path, describe_checkpoint())
    known: dict[str, Any] = content["n2n"]
    card = {
        "n2n_version": __version__,
        "backbone": content["hyper_parameters"]["backbone"]["class_path"],
        "channels": channels,
        "input": f"N×{channels}×{sides} float32 in [0, 1]",
        "output": f"N×{channels}×{sides} float32, not clipped",
        **{key: known[key] for key in ("range", "dtype") if known.get(key) is not None},
    }
    return {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in card.items()}


def export(
    ckpt_path: Path,
    file_format: ExportFormat = "onnx",
    output: Path | None = None,
    overwrite: bool = False,
    trust: Sequence[str] = (),
) -> Exported:
    """Write a checkpoint's network to a file for other programs; keep the file only if it passes the check.

    The exported network takes whole images, N×C×H×W float32 in [0, 1], so its memory grows with them. It clips nothing.

    The arguments are the options of the command.

    Raises:
        InputError: if the checkpoint cannot be read, the network cannot be exported or differs from the checkpoint, or the
            file cannot be written.
    """
    suffix = SUFFIXES[file_format]
    path, ckpt_path = output or Path(ckpt_path.stem + suffix), find_checkpoint(ckpt_path)
    if path.suffix.lower() != suffix:
        raise InputError(f"--output is {path}: expected a name that ends in {suffix}")
    if path.is_dir() or (path.exists() and ckpt_path.exists() and path.samefile(ckpt_path)):
        raise InputError(f"--output {path} is {'a folder' if path.is_dir() else 'the checkpoint'}: name another file")
    if path.exists() and not overwrite:
        raise InputError(f"{path} is there already: name another file with --output, or add --overwrite")
    formats.require_packages(file_format)
    denoiser = Denoiser.from_checkpoint(ckpt_path, "cpu", trust=trust)
    backbone, channels = denoiser.backbone, denoiser.network.channels
    if channels is None:
        raise InputError(
            f"{ckpt_path} does not say how many channels its images have: expected a number from 1 to {MAX_CHANNELS}"
        )
    sides = find_sides(backbone, channels)
    shapes = [(N, channels, *sides.fit(H, W)) for N, H, W in TRIED]
    with _quiet():
        program, sides = trace(backbone, channels, sides)
        write = formats.write_onnx if file_format == "onnx" else formats.write_torch
        try:
            with replacing(path) as part:
                exported = write(program, part, _model_card(ckpt_path, channels, sides))
                worst = max(difference(exported, backbone, noisy) for noisy in noisy_images(shapes))
        except OSError as error:
            raise InputError(f"cannot write {path} ({error.strerror or error})") from error
    return Exported(path, channels, sides, shapes, worst)


def _parser() -> CommandParser:
    purpose = "Write a checkpoint's network to a file for other programs, and check it against the checkpoint."
    parser = CommandParser("export", description=purpose)
    parser.add_argument("--ckpt_path", type=Path, required=True, help=describe_checkpoint())
    kinds = "onnx (needs pip install onnx onnxruntime onnxscript), or torch for torch.export.load"
    parser.add_argument("--format", choices=list(SUFFIXES), required=True, help=kinds)
    output = "the file to write; by default the checkpoint's name in the current folder"
    parser.add_argument("--output", type=Path, help=output)
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    parser.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help=TRUST_HELP)
    return parser


def main(args: list[str]) -> int:
    """Run ``n2n export`` with the command line after ``export``."""
    options = _parser().parse_args(args)
    done = export(options.ckpt_path, options.format, options.output, options.overwrite, options.trust)
    layout = f"N×{done.channels}×{done.sides}"
    print(f"{done.path}: {done.path.stat().st_size:,} bytes")
    print(f"  input   {INPUT}: {layout} float32 in [0, 1]")
    print(f"  output  {OUTPUT}: {layout} float32, not clipped")
    if done.sides.width:
        print(f"  bound to images {done.sides.width} pixels wide, as its backbone is")
    tried = ", ".join("×".join(map(str, shape)) for shape in done.shapes)
    print(f"  differs from the checkpoint by at most {done.difference:.1e} on images of {tried}")
    return 0
