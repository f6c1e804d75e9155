"""``n2n export``: a checkpoint in, a file for other programs out (ONNX or torch.export), checked against the checkpoint."""

from __future__ import annotations

import argparse
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from n2n import __version__
from n2n.checkpoints.bundled import describe_checkpoint, find_checkpoint
from n2n.commands.export.tracing import TRIED, Sides, find_sides, reason, trace
from n2n.data.sources.dead_leaves import draw, texture_bank
from n2n.denoiser.denoiser import MAX_CHANNELS, Denoiser
from n2n.errors import InputError
from n2n.system.options import TRUST_HELP, CommandParser
from n2n.system.torch_files import load_torch_file

Format = Literal["onnx", "torch"]
Run = Callable[[Tensor], Tensor]

SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
# Largest difference that a file may show from its checkpoint, in pixel values of [0, 1].
TOLERANCE = 1e-4
INPUT, OUTPUT = "noisy", "denoised"
CARD = "model_card.json"

# The oldest version that the exporter writes without conversion: older runtimes read it too.
_OPSET = 18
# Protocol buffers, which ONNX files are, end at 2 GiB; the rest is for the graph.
_MOST_BYTES = 2**31 - 2**24
_EXTRA = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True)
class Exported:
    """What was written, and how far it is from its checkpoint.

    Attributes:
        path: the file.
        channels: C of its input and output.
        sides: the H and W that it takes.
        shapes: N×C×H×W of the images that it was checked on.
        difference: the largest absolute difference of an output value from the checkpoint's.
    """

    path: Path
    channels: int
    sides: Sides
    shapes: list[tuple[int, int, int, int]]
    difference: float


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what exporters tell about themselves from the user; errors are raised all the same."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _write_torch(program: ExportedProgram, path: Path, card: dict[str, str]) -> Run:
    """Write a torch.export archive; returns what runs it as read back."""
    # Not straight into the file: torch ends the process when a disk is full.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={CARD: json.dumps(card)})
    path.write_bytes(content.getbuffer())
    run: Run = torch.export.load(path).module()
    return run


def _write_onnx(program: ExportedProgram, path: Path, card: dict[str, str]) -> Run:
    """Write one ONNX file; returns what runs it, onnxruntime on the CPU.

    Raises:
        InputError: if ONNX lacks an operator of the network, or the weights do not fit one file.
    """
    import onnx
    import onnxruntime

    held = sum(tensor.nbytes for tensor in program.state_dict.values())
    if held > _MOST_BYTES:
        raise InputError(f"the weights take {held / 1e9:.1f} GB and an ONNX file holds 2: choose --format torch")
    try:
        made = torch.onnx.export(
            program,
            (),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        assert made is not None
        model: Any = made.model_proto
        _tidy(model)
        onnx.helper.set_model_props(model, card)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except OSError:
        raise
    except Exception as error:  # each of the three packages has its own kinds
        raise InputError(
            f"the backbone cannot be written as ONNX ({reason(error)}): choose --format torch, or operators that ONNX has"
        ) from error
    return lambda noisy: torch.from_numpy(session.run([OUTPUT], {INPUT: noisy.numpy()})[0])


def _tidy(model: Any) -> None:
    """Give the axes of an ONNX model names, and take out where on this machine each node came from."""
    graph = model.graph
    axes = graph.input[0].type.tensor_type.shape.dim
    names = {dim.dim_param: name for dim, name in zip(axes, ("batch", "channels", "height", "width"), strict=True)}
    for value in (*graph.value_info, *graph.input):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names and dim.dim_param:
                dim.dim_param = names[dim.dim_param]
    graph.output[0].CopyFrom(graph.input[0])
    graph.output[0].name = OUTPUT
    for item in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer, *model.functions):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")


def _card(ckpt_path: Path, channels: int, sides: Sides) -> dict[str, str]:
    """Return what a user of the file must know, as plain strings."""
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


def _images(shapes: list[tuple[int, int, int, int]]) -> Iterator[Tensor]:
    """Draw generated photographs with noise of sigma 0.1, not clipped, one tensor a shape."""
    rng = np.random.default_rng(0)
    textures = texture_bank(0, count=6, size=128)
    for N, C, H, W in shapes:
        drawn = np.stack([draw(max(H, W), rng, textures)[:H, :W] for _ in range(N)]).astype(np.float32) / 255
        # Grey images are the green channel; more than three channels repeat the colours.
        channels = drawn[..., [1]] if C == 1 else drawn[..., np.arange(C) % 3]
        noisy = channels + rng.normal(0, 0.1, channels.shape).astype(np.float32)
        yield torch.from_numpy(np.ascontiguousarray(noisy.transpose(0, 3, 1, 2)))


def difference(run: Run, backbone: Run, noisy: Tensor) -> float:
    """Return the largest absolute difference between two networks' outputs on N×C×H×W float32 images in [0, 1].

    Raises:
        InputError: if it is more than ``TOLERANCE``, not a number, or the shapes are not the same.
    """
    size = _times(tuple(noisy.shape))
    with torch.inference_mode():
        expected = backbone(noisy)
        try:
            got = run(noisy)
        except Exception as error:  # the runtimes' own kinds
            raise InputError(
                f"on images of {size} the exported file fails ({reason(error)}): it was not kept"
            ) from error
    if got.shape != expected.shape:
        raise InputError(f"on images of {size} the exported file gives {_times(tuple(got.shape))}: it was not kept")
    worst = float((got - expected).abs().max())
    if not worst <= TOLERANCE:  # so written, not a number is refused too
        raise InputError(
            f"on images of {size} the exported file differs from the checkpoint by {worst:.2g}, more than {TOLERANCE:g}: it "
            "was not kept"
        )
    return worst


def export(
    ckpt_path: Path,
    file_format: Format = "onnx",
    output: Path | None = None,
    overwrite: bool = False,
    trust: Sequence[str] = (),
) -> Exported:
    """Write a checkpoint's network as a file for other programs, checked against the checkpoint before it is kept.

    The network takes images of any N, H and W at once (memory grows with them: it has no tiles); its input is float32 in
    [0, 1], and its output is not clipped.

    Args:
        ckpt_path: written by ``n2n fit``, or the name of one that comes with n2n.
        file_format: ``onnx``, or ``torch`` for ``torch.export.load``.
        output: the file to write; the checkpoint's name in the current folder if None.
        overwrite: whether a file that is there may be replaced.
        trust: packages whose classes the checkpoint may name, beside n2n's.

    Raises:
        InputError: if the checkpoint cannot be read, the network cannot be exported or differs from the checkpoint by more
            than ``TOLERANCE`` on some image, or the file cannot be written.
    """
    suffix = SUFFIXES[file_format]
    path, ckpt_path = output or Path(ckpt_path.stem + suffix), find_checkpoint(ckpt_path)
    if path.suffix.lower() != suffix:
        raise InputError(f"--output is {path}: expected a name that ends in {suffix}")
    if path.is_dir() or (path.exists() and ckpt_path.exists() and path.samefile(ckpt_path)):
        raise InputError(f"--output {path} is {'a folder' if path.is_dir() else 'the checkpoint'}: name another file")
    if path.exists() and not overwrite:
        raise InputError(f"{path} is there already: name another file with --output, or add --overwrite")
    if file_format == "onnx" and (missing := [name for name in _EXTRA if find_spec(name) is None]):
        raise InputError(f'--format onnx needs {", ".join(missing)}: pip install "n2n[onnx]"')
    denoiser = Denoiser.from_checkpoint(ckpt_path, "cpu", trust=trust)
    backbone, channels = denoiser.backbone, denoiser.network.channels
    if channels is None:
        raise InputError(f"{ckpt_path} names {channels} channels: expected a number from 1 to {MAX_CHANNELS}")
    sides = find_sides(backbone, channels)
    shapes = [(N, channels, *sides.fit(H, W)) for N, H, W in TRIED]
    with _quiet():
        program, sides = trace(backbone, channels, sides)
        write = _write_onnx if file_format == "onnx" else _write_torch
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".n2n-") as folder:
                part = Path(folder) / f"network{suffix}"
                run = write(program, part, _card(ckpt_path, channels, sides))
                worst = max(difference(run, backbone, noisy) for noisy in _images(shapes))
                part.replace(path)
        except OSError as error:
            raise InputError(f"cannot write {path} ({error.strerror or error})") from error
    return Exported(path, channels, sides, shapes, worst)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        "export",
        description="Write a checkpoint's network as a file for other programs, checked against the checkpoint.",
    )
    parser.add_argument("--ckpt_path", type=Path, required=True, help=describe_checkpoint())
    parser.add_argument(
        "--format",
        choices=list(SUFFIXES),
        required=True,
        help='onnx (needs pip install "n2n[onnx]"), or torch for torch.export.load',
    )
    parser.add_argument(
        "--output", type=Path, help="the file to write; by default the checkpoint's name in the current folder"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    parser.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help=TRUST_HELP)
    return parser


def main(args: list[str]) -> int:
    """Run ``n2n export``.

    Args:
        args: the command line after ``export``.
    """
    options = _parser().parse_args(args)
    done = export(options.ckpt_path, options.format, options.output, options.overwrite, options.trust)
    layout = f"N×{done.channels}×{done.sides}"
    print(f"{done.path}: {done.path.stat().st_size:,} bytes")
    print(f"  input   {INPUT}: {layout} float32 in [0, 1]")
    print(f"  output  {OUTPUT}: {layout} float32, not clipped")
    if done.sides.width:
        print(f"  bound to images {done.sides.width} pixels wide, as its backbone is")
    tried = ", ".join(map(_times, done.shapes))
    print(f"  differs from the checkpoint by at most {done.difference:.1e} on images of {tried}")
    return 0
