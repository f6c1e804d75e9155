"""``n2n predict`` from file to file against the bare network on the same tiles; ONNX Runtime and compiled code beside it."""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from n2n import backbones
from n2n.cli import main as n2n
from n2n.data.reading import ImageFile
from n2n.denoiser import Denoiser
from n2n.denoiser.tiling import Tiling, spans
from tests.benchmarks.setting import Setting, quietly, ratios, side_by_side, table
from tests.denoiser.files import denoise_files
from tests.write_checkpoints import write_checkpoint

FORWARD = "network alone"


def draw(side: int) -> NDArray[np.uint8]:
    """Draw a smooth picture with noise, side×side×3, which compresses about as photographs do."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(40, 216, (max(2, side // 64), max(2, side // 64), 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
    return (smooth.astype(np.int16) + rng.integers(-12, 13, smooth.shape, dtype=np.int8)).clip(0, 255).astype(np.uint8)


def cut(denoiser: Denoiser, image: NDArray[np.uint8]) -> list[Tensor]:
    """Return the batches of tiles in which the denoiser sees an image, as the network takes them."""
    field = denoiser.network.field
    assert field is not None
    H, W = image.shape[:2]
    whole = max(H, W) <= denoiser.tile
    tiling = Tiling(max(H, W), 0, 0) if whole else Tiling.plan(field, denoiser.tile, denoiser.overlap)
    unit = torch.from_numpy(image).to(denoiser.network.device).movedim(2, 0)[None].float() / 255
    batches = []
    for down in spans(H, tiling.tile, tiling.overlap, tiling.margin):
        row = [
            unit[:, :, down.start : down.stop, across.start : across.stop]
            for across in spans(W, tiling.tile, tiling.overlap, tiling.margin)
        ]
        for _, alike in groupby(row, lambda tile: tile.shape):
            tiles = list(alike)
            for at in range(0, len(tiles), denoiser.batch):
                batch = torch.cat(tiles[at : at + denoiser.batch])
                batches.append(batch.contiguous(memory_format=torch.channels_last))
    return batches


def seconds(setting: Setting, work: Callable[[], object]) -> Callable[[], float]:
    """Return what gives the seconds that something takes."""

    def run() -> float:
        start = time.perf_counter()
        work()
        if setting.device.type == "cuda":
            torch.cuda.synchronize(setting.device)
        return time.perf_counter() - start

    return run


def seconds_rows(results: dict[str, tuple[list[float], list[float]]]) -> list[list[str]]:
    """Rows of a table: seconds of each, of the base beside it, and the base's ratio to it."""
    return [
        [name, f"{statistics.median(own):.3f}", f"{statistics.median(base):.3f}", ratios(base, own)]
        for name, (base, own) in results.items()
    ]


def forward(denoiser: Denoiser, batches: list[Tensor]) -> None:
    """Call the network on every batch."""
    for batch in batches:
        denoiser.network(batch)


def _write_images(folder: Path, image: NDArray[np.uint8]) -> dict[str, Path]:
    paths = {"TIFF": folder / "plain.tif", "TIFF, deflate": folder / "deflate.tif", "PNG": folder / "image.png"}
    tifffile.imwrite(paths["TIFF"], image, photometric="rgb")
    tifffile.imwrite(paths["TIFF, deflate"], image, photometric="rgb", compression="zlib")
    Image.fromarray(image).save(paths["PNG"])
    return paths


def _onnx(setting: Setting, checkpoint: Path, batches: list[Tensor]) -> Callable[[], object]:
    """Return ONNX Runtime on the tiles.

    Raises:
        ImportError: if it is not installed.
    """
    import onnxruntime

    path = checkpoint.with_suffix(".onnx")
    with quietly() as log:
        status = n2n(
            ["export", "--ckpt_path", str(checkpoint), "--format", "onnx", "--output", str(path), "--overwrite"]
        )
    if status:
        raise ImportError(log.getvalue().strip())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    wanted = ["CUDAExecutionProvider"] if setting.device.type == "cuda" else ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
    if session.get_providers()[0] != wanted[0]:
        raise ImportError(f"onnxruntime has no {wanted[0]}")
    arrays = [np.ascontiguousarray(batch.cpu().numpy()) for batch in batches]
    name = session.get_inputs()[0].name
    return lambda: [session.run(None, {name: array}) for array in arrays]


def _compiled(checkpoint: Path, setting: Setting, batches: list[Tensor]) -> Callable[[], object]:
    """Return the network compiled for tiles of this shape."""
    denoiser = Denoiser.from_checkpoint(checkpoint, setting.device, setting.precision)
    denoiser.backbone.compile(dynamic=False)
    forward(denoiser, batches[:1])
    return lambda: forward(denoiser, batches)


def run(setting: Setting) -> Iterator[str]:
    """Give two tables a network."""
    image = draw(setting.side)
    files = _write_images(setting.folder, image)
    for name in setting.networks:
        checkpoint = write_checkpoint(str(setting.folder / f"{name}.ckpt"), getattr(backbones, name)())
        denoiser = Denoiser.from_checkpoint(checkpoint, setting.device, setting.precision)
        batches = cut(denoiser, image)
        bare = FORWARD, seconds(setting, lambda d=denoiser, b=batches: forward(d, b))  # type: ignore[misc]
        contestants = {}
        for kind, path in files.items():
            target = setting.folder / f"denoised-{path.name}"
            file = ImageFile(path, target)
            contestants[kind] = seconds(setting, lambda d=denoiser, f=file: denoise_files(d, [f]))  # type: ignore[misc]
        results = side_by_side(bare, contestants, setting.rounds)
        side, precision = setting.side, {"32": "fp32"}.get(setting.precision, setting.precision)
        yield f"{name}, {precision}: {side}×{side}×3 uint8 from file to file, {len(batches)} batches of tiles."
        yield table(["file", "seconds", FORWARD, f"{FORWARD} : it", "range"], seconds_rows(results))
        yield from _engines(setting, denoiser, checkpoint, batches)


def _engines(setting: Setting, denoiser: Denoiser, checkpoint: Path, batches: list[Tensor]) -> Iterator[str]:
    # Tiles at the edges have other sizes, and compiled code is made for one.
    (shape, _), *_ = Counter(batch.shape for batch in batches).most_common(1)
    alike = [batch for batch in batches if batch.shape == shape][:64]
    makers: dict[str, Callable[[], Callable[[], object]]] = {
        "torch.compile": lambda: _compiled(checkpoint, setting, alike),
        "ONNX Runtime": lambda: _onnx(setting, checkpoint, alike),
    }
    if setting.quick:
        del makers["torch.compile"]  # compiling takes longer than all of a quick run
    if setting.precision != "32":
        del makers["ONNX Runtime"]  # the exported network is float32
    contestants = {}
    for name, make in makers.items():
        try:
            contestants[name] = seconds(setting, make())
        except Exception as error:  # what a missing compiler raises depends on the backend
            print(f"{name} is left out: {str(error).strip().splitlines()[0]}", file=sys.stderr)
            yield f"{name} is left out: {type(error).__name__}."
    if contestants:
        N, C, H, W = shape
        eager = seconds(setting, lambda: forward(denoiser, alike))
        results = side_by_side(("PyTorch", eager), contestants, setting.rounds)
        yield f"The network on {len(alike)} batches of {N}×{C}×{H}×{W}:"
        yield table(["forward", "seconds", "PyTorch", "PyTorch : it", "range"], seconds_rows(results))
