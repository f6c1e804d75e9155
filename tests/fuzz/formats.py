"""What is fuzzed: every format with its whole files, the ways they are changed, and what reads them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from n2n.checkpoints.config import checkpoint_config
from n2n.commands.runs import Run
from n2n.data.cache import Cache
from n2n.data.datamodule import PairDataModule
from n2n.data.images import create_image, open_image, read_photograph, written_name
from n2n.data.sources.course import load_pairs
from n2n.denoiser import Denoiser
from n2n.module import DenoisingModule
from n2n.trainer.panels import last_panel
from tests.fuzz import mutate, seeds, seeds_formats
from tests.fuzz.mutate import Mutator, Rng, one

# Pixels of an image that is written again; of larger ones the ends are read.
_FEW = 10**5
_ROWS = 16


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: of the file, or of the folder.
        whole: its whole files: bytes, or folders.
        ways: to change a file.
        read: reads a file or folder, as the commands do.
        share: of the inputs, in parts.
    """

    name: str
    whole: Callable[[], Sequence[bytes | seeds.Files]]
    ways: tuple[Mutator, ...]
    read: Callable[[Path], object]
    share: int = 10

    def make(self, whole: Sequence[bytes | seeds.Files], rng: Rng) -> bytes | seeds.Files:
        """Return a file or folder that is changed."""
        start = one(whole, rng)
        if isinstance(start, bytes):
            return self._change(start, rng)
        name = one(sorted(start), rng)
        if rng.integers(10) == 0:
            return {other: content for other, content in start.items() if other != name}
        if rng.integers(20) == 0:
            return {**start, name: start[one(sorted(start), rng)]}
        return {**start, name: self._change(start[name], rng)}

    def _change(self, start: bytes, rng: Rng) -> bytes:
        way = one((*self.ways, mutate.generic), rng)
        try:
            return way(start, rng)
        except (ValueError, KeyError, IndexError, LookupError):  # not of the kind that this way changes
            return mutate.generic(start, rng)


def read_image_file(path: Path) -> None:
    """Read an image as ``n2n predict`` does; write it again if it is small, and take it as a photograph."""
    with open_image(path) as image:
        if image.pages * image.height * image.width <= _FEW:
            writer = create_image(
                path.with_name(f"written{written_name(path).removeprefix(path.name.partition('.')[0])}"), image
            )
            writer.write(image.strips(_ROWS))
        else:
            for page, start in ((0, 0), (image.pages - 1, max(0, image.height - _ROWS))):
                image.samples(page, start, min(start + _ROWS, image.height))
    read_photograph(path, 3)


def read_checkpoint(path: Path) -> None:
    """Build what a checkpoint says, use it, and look up how its data were configured."""
    denoiser = Denoiser.from_checkpoint(path, "cpu")
    denoiser(np.zeros((16, 16), np.uint8))
    checkpoint_config(str(path), {"model": DenoisingModule, "data": PairDataModule})


def read_course(path: Path) -> None:
    """Cut a batch out of the course's pairs."""
    for clean in (False, True):
        store = load_pairs(path, clean)
        store.batch(torch.tensor([0, len(store) - 1]), 0)


def read_run(folder: Path) -> None:
    """Read curves and panel of a run; draw and write them."""
    from n2n.commands.report.command import write_report

    Run.read(folder)
    last_panel(folder, 3)
    # Drawing takes as long as a hundred readings.
    if sum(path.stat().st_size for path in folder.rglob("*")) % 50 == 0:
        write_report([folder], folder.with_name("written"))


def read_config(path: Path) -> None:
    """Parse a configuration of ``n2n fit``."""
    from n2n.trainer.run import parse_fit

    parse_fit(["--config", str(path)])


def read_cache(folder: Path) -> None:
    """Open what the cache keeps, which is made again if it is damaged: then it is as it was."""
    content = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    cache = Cache("x", {"a": 1}, folder.with_name("written"))
    cache.path.mkdir(parents=True)
    for name, data in content.items():
        (cache.path / name).write_bytes(data)

    def build(allocate: Any) -> dict[str, Any]:
        allocate((2, 5, 3, 4), np.uint8)[:] = 7
        return {"remarks": ["made"], "range": [0.0, 255.0], "scenes": [["a", 5, 3, [0, 15], None]]}

    kept = cache.open(build)
    assert kept.array.shape == (2, 5, 3, 4)
    assert (kept.array == 7).all()
    assert kept.note["range"] == [0.0, 255.0]
    assert kept.note["scenes"] == [["a", 5, 3, [0, 15], None]]


_HOSTILE_TENSORS = (
    *(torch.zeros(1).expand(10**12), torch.zeros(0), torch.zeros(3, dtype=torch.complex64), torch.zeros(2).bool()),
    *(torch.full((4,), float("nan")), torch.zeros(3).to_sparse(), torch.empty(10**12, device="meta")),
    *(torch.zeros(1, dtype=torch.uint8).expand(10**9, 3, 32, 32), torch.zeros(4, 3, 8, 8, dtype=torch.uint8)),
)


def content(data: bytes, rng: Rng) -> bytes:
    """Change one value of what torch saved."""
    changed = torch.load(io.BytesIO(data), weights_only=True)
    values = (*mutate.VALUES, *_HOSTILE_TENSORS)
    for _ in range(int(rng.integers(1, 3))):
        changed = mutate.value(changed, rng, values)
    return seeds.torch_bytes(changed)


_ZIP = (zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_IN_TORCH = (content, content, mutate.rezipped(mutate.generic, _ZIP[:1]), mutate.zip_directory)

FORMATS: dict[str, Format] = {
    "PNG": Format("x.png", seeds.pngs, (mutate.png, mutate.png), read_image_file, 20),
    "JPEG": Format("x.jpg", seeds.jpegs, (mutate.jpeg,), read_image_file),
    "TIFF": Format("x.tif", seeds.tiffs, (mutate.tiff, mutate.tiff), read_image_file, 25),
    "npy": Format("x.npy", seeds.npys, (mutate.npy,), read_image_file),
    "npz": Format("x.npz", seeds.npzs, (mutate.rezipped(mutate.npy, _ZIP), mutate.zip_directory), read_image_file),
    "zarr": Format("x.zarr", seeds.zarrs, (mutate.json_value,), read_image_file),
    "checkpoint": Format("x.ckpt", seeds.checkpoints, _IN_TORCH, read_checkpoint, 15),
    "course .pkl": Format("x.pkl", seeds.courses, _IN_TORCH, read_course),
    "run": Format("x", seeds.runs, (mutate.csv_cell, mutate.csv_cell, mutate.png, mutate.yaml_text), read_run),
    "config (YAML)": Format("x.yaml", seeds.configs, (mutate.yaml_text,) * 4, read_config, 3),
    "cache": Format("x", seeds.caches, (mutate.npy, mutate.json_value), read_cache, 5),
}

# Formats that need a package of their own: its name as it is imported, the suffix and the whole files.
_OF_PACKAGES: dict[str, tuple[str, str, Callable[[], list[bytes]], *tuple[Mutator, ...]]] = {
    "FITS": ("astropy", "fits", seeds_formats.fits_files),
    "FITS, gzipped": ("astropy", "fits.gz", seeds_formats.gzipped_fits),
    "FITS, compressed": ("astropy", "fits.fz", seeds_formats.compressed_fits),
    "MRC": ("mrcfile", "mrc", seeds_formats.mrcs),
    "HDF5": ("h5py", "h5", seeds_formats.hdf5s),
    "OpenEXR": ("OpenEXR", "exr", seeds_formats.exrs),
    "ND2": ("nd2", "nd2", seeds_formats.nd2s),
    "CZI": ("pylibCZIrw", "czi", seeds_formats.czis),
    "camera RAW": ("rawpy", "dng", seeds_formats.dngs),
    "WebP": ("PIL", "webp", seeds_formats.animated("WEBP")),
    "AVIF": ("PIL", "avif", seeds_formats.pictures("AVIF")),
    "BMP": ("PIL", "bmp", seeds_formats.pictures("BMP")),
    "GIF": ("PIL", "gif", seeds_formats.animated("GIF")),
    "animated PNG": ("PIL", "png", seeds_formats.animated("PNG"), mutate.png, mutate.png),
    "JPEG 2000": ("imagecodecs", "jp2", seeds_formats.jpeg2000s),
    "PNM": ("numpy", "pnm", seeds_formats.pnms),
}
FORMATS |= {
    name: Format(f"x.{suffix}", whole, tuple(ways), read_image_file, 4)
    for name, (package, suffix, whole, *ways) in _OF_PACKAGES.items()
    if find_spec(package) is not None
}
