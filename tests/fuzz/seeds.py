"""Small whole files of every format, which the mutations start from."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
import torch
from PIL import Image

from n2n.backbones import ModelFinal
from n2n.data.cache import Cache
from tests.run_folders import add_panel, write_run
from tests.write_checkpoints import write_checkpoint

# A folder as the files in it, by their paths.
Files = dict[str, bytes]

_RNG = np.random.default_rng(0)
_COLOUR = _RNG.integers(0, 256, (20, 24, 3), dtype=np.uint8)


def pngs() -> list[bytes]:
    """Grey, colour, palette, opaque, interlaced or not, of 1, 8 and 16 bits."""
    image = Image.fromarray(_COLOUR)
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures = [(image, {"exif": exif, "icc_profile": b"a profile", "dpi": (300, 300)})]
    pictures += [(image.convert(mode), {}) for mode in ("L", "P", "1", "RGBA", "LA")]
    made = []
    for picture, options in pictures:
        out = io.BytesIO()
        picture.save(out, "PNG", **options)
        made.append(out.getvalue())
    deep = _RNG.integers(0, 65536, (20, 24, 4), dtype=np.uint16)
    return [*made, *(bytes(imagecodecs.png_encode(np.ascontiguousarray(deep[..., :n]))) for n in (2, 3, 4))]


def jpegs() -> list[bytes]:
    """Colour, grey and CMYK, one of them progressive."""
    image, made = Image.fromarray(_COLOUR), []
    exif = Image.Exif()
    exif[0x0112] = 3
    for mode, options in (("RGB", {"exif": exif}), ("L", {"progressive": True}), ("CMYK", {})):
        out = io.BytesIO()
        image.convert(mode).save(out, "JPEG", **options)
        made.append(out.getvalue())
    return made


def tiffs() -> list[bytes]:
    """Strips, tiles, planes, pages, palettes, inks, classic and big, by several compressions."""
    deep = _RNG.integers(0, 65536, (3, 40, 50), dtype=np.uint16)
    palette = _RNG.integers(0, 65536, (3, 256), dtype=np.uint16)
    tall = np.dstack([_COLOUR] * 2)[..., :4]
    kinds: list[tuple[Any, dict[str, Any]]] = [
        (_COLOUR, {"photometric": "rgb", "resolution": (3, 3)}),
        (_COLOUR, {"compression": "lzw", "tile": (16, 16), "predictor": True}),
        (deep, {"imagej": True, "metadata": {"axes": "TYX"}}),
        (deep, {"compression": "zlib", "rowsperstrip": 8}),
        (deep, {"ome": True}),
        (deep[0].astype(np.float32), {"compression": "zstd", "predictor": True, "bigtiff": True}),
        (_COLOUR, {"compression": "jpeg", "photometric": "rgb", "rowsperstrip": 8}),
        (_COLOUR[..., 0], {"photometric": "palette", "colormap": palette}),
        (tall, {"photometric": "separated", "compression": "packbits"}),
        (deep, {"planarconfig": "separate", "photometric": "rgb", "byteorder": ">"}),
        (_COLOUR[..., 0] > 99, {"photometric": "minisblack"}),
        (_COLOUR[..., 0], {"compression": "lzma", "photometric": "miniswhite"}),
    ]
    made = []
    for array, options in kinds:
        out = io.BytesIO()
        tifffile.imwrite(out, array, **options)
        made.append(out.getvalue())
    return made


def npys() -> list[bytes]:
    """Arrays of several axes and dtypes, in both orders."""
    arrays: list[Any] = [_COLOUR, np.asfortranarray(_COLOUR[..., 0]), _COLOUR.astype(">f4"), np.ones((2, 3, 9, 9))]
    made = []
    for array in arrays:
        out = io.BytesIO()
        np.save(out, array)
        made.append(out.getvalue())
    return made


def npzs() -> list[bytes]:
    """An array, compressed and not."""
    made = []
    for save in (np.savez, np.savez_compressed):
        out = io.BytesIO()
        save(out, picture=_COLOUR)
        made.append(out.getvalue())
    return made


def zarrs() -> list[Files]:
    """Both formats of zarr, and shards."""
    import zarr

    made = []
    options: list[dict[str, Any]] = [
        {"zarr_format": 2, "chunks": (8, 8, 3)},
        {"zarr_format": 3, "chunks": (8, 8, 3)},
        {"zarr_format": 3, "chunks": (4, 4, 3), "shards": (8, 8, 3)},
        {"zarr_format": 2, "chunks": (20, 24, 1), "compressors": None},
    ]
    for kind in options:
        with tempfile.TemporaryDirectory() as folder:
            zarr.create_array(f"{folder}/x.zarr", data=_COLOUR, **kind)
            made.append(read_files(Path(folder) / "x.zarr"))
    return made


def read_files(folder: Path) -> Files:
    """Read all files of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def checkpoint_content() -> dict[str, Any]:
    """What a small checkpoint holds."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_checkpoint(
            f"{folder}/x.ckpt", ModelFinal(widths=(4, 4)), range=[0.0, 255.0], dtype="uint8", figures={}
        )
        content: dict[str, Any] = torch.load(path, weights_only=True)
    return {"pytorch-lightning_version": "2.6.0", **content}


def torch_bytes(content: Any) -> bytes:
    """Save something as torch does."""
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def checkpoints() -> list[bytes]:
    """A small checkpoint."""
    return [torch_bytes(checkpoint_content())]


def courses() -> list[bytes]:
    """Pairs in the course's format."""
    images = torch.from_numpy(_RNG.integers(0, 256, (4, 3, 8, 8), dtype=np.uint8))
    return [torch_bytes((images, images.flip(0)))]


def runs() -> list[Files]:
    """The folder of a run: its figures, a panel, and its configuration."""
    with tempfile.TemporaryDirectory() as folder:
        figures = {"train/loss": 0.5, "val/loss": 0.4, "val/psnr": 20.0, "val/psnr_per_image": 21.0}
        write_run(Path(folder), [(epoch, 1.0 * epoch, figures) for epoch in (1, 2, 3)], finished=True)
        images = torch.from_numpy(_RNG.random((2, 3, 16, 16)))
        add_panel(Path(folder), images, images / 2, images / 4, psnr=(20.1, 25.3), epoch=3)
        config = "data:\n  batch_size: 100\nmodel:\n  backbone:\n    class_path: n2n.backbones.ModelFinal\n"
        (Path(folder) / "config.yaml").write_text(f"seed_everything: 0\ntrainer:\n  max_epochs: 3\n{config}")
        return [read_files(Path(folder))]


def configs() -> list[bytes]:
    """A configuration of ``n2n fit``."""
    text = """\
trainer:
  max_epochs: 3
  precision: 32-true
model:
  optimizer:
    class_path: torch.optim.Adam
    init_args:
      lr: 1.0e-3
      betas: [0.9, 0.99]
  backbone:
    class_path: n2n.backbones.ModelFinal
    init_args:
      widths: [8, 8]
data:
  batch_size: 100
  source:
    class_path: n2n.data.CourseFiles
    init_args:
      root: .
name: x
"""
    return [text.encode()]


def caches() -> list[Files]:
    """What the cache keeps."""

    def build(allocate: Any) -> dict[str, Any]:
        allocate((2, 5, 3, 4), np.uint8)[:] = 7
        return {"remarks": ["made"], "range": [0.0, 255.0], "scenes": [["a", 5, 3, [0, 15], None]]}

    with tempfile.TemporaryDirectory() as folder:
        cache = Cache("x", {"a": 1}, folder)
        cache.open(build)
        return [read_files(cache.path)]


def zipped(files: Files) -> bytes:
    """Pack a folder into one file, to be kept."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()
