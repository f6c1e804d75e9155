"""Small whole files of the formats that need packages of their own, and of pictures that Pillow and imagecodecs write."""

from __future__ import annotations

import gzip
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image

from tests.instrument_files import write_czi, write_dng, write_nd2

_RNG = np.random.default_rng(0)
_GREY = _RNG.integers(0, 2**12, (2, 20, 24), dtype=np.uint16)
_COLOUR = _RNG.integers(0, 256, (20, 24, 3), dtype=np.uint8)


def _written(*writes: Callable[[str], object]) -> list[bytes]:
    """Return what each function writes into a file."""
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for number, write in enumerate(writes):
            path = Path(folder, str(number))
            write(str(path))
            found.append(path.read_bytes())
        return found


def fits_files() -> list[bytes]:
    """Plain, scaled, and with a table."""
    from astropy.io import fits

    scaled = fits.PrimaryHDU(_GREY.astype(np.int16))
    scaled.header["BSCALE"] = 0.5
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.arange(5.0))])
    lists = [[fits.PrimaryHDU(_GREY), table], [scaled], [fits.PrimaryHDU(), fits.ImageHDU(_GREY[0].astype(np.float32))]]
    return _written(*(lambda path, hdus=hdus: fits.HDUList(hdus).writeto(path) for hdus in lists))


def gzipped_fits() -> list[bytes]:
    """The same, gzipped."""
    return [gzip.compress(file) for file in fits_files()]


def compressed_fits() -> list[bytes]:
    """Compressed by tiles, integers and floats."""
    from astropy.io import fits

    kinds = (("RICE_1", np.int16), ("GZIP_2", np.float32), ("HCOMPRESS_1", np.int16), ("RICE_1", np.float32))
    images = [fits.CompImageHDU(_GREY[0].astype(dtype), compression_type=kind) for kind, dtype in kinds]
    return _written(
        *(lambda path, image=image: fits.HDUList([fits.PrimaryHDU(), image]).writeto(path) for image in images)
    )


def mrcs() -> list[bytes]:
    """A stack of uint16, and a volume of float32 with an extended header."""
    import mrcfile

    def write(path: str, dtype: Any) -> None:
        with mrcfile.new(path, _GREY.astype(dtype)) as file:
            if dtype == np.float32:
                file.set_extended_header(np.frombuffer(b"FEI!" * 40, "V1"))
            else:
                file.set_image_stack()

    return _written(lambda path: write(path, np.uint16), lambda path: write(path, np.float32))


def hdf5s() -> list[bytes]:
    """Contiguous, and in compressed chunks, with attributes."""
    import h5py

    def write(path: str, **options: Any) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("entry/data", data=_GREY, **options).attrs["units"] = "counts"

    return _written(write, lambda path: write(path, chunks=(1, 8, 8), compression="gzip", shuffle=True))


def exrs() -> list[bytes]:
    """RGB of float16 and grey of float32, in several compressions."""
    import OpenEXR

    def write(path: str, names: str, dtype: Any, compression: Any) -> None:
        header = {"compression": compression, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, {name: _GREY[0].astype(dtype) for name in names}).write(f"{path}.exr")
        Path(f"{path}.exr").rename(path)

    return _written(
        lambda path: write(path, "RGBA", np.float16, OpenEXR.PIZ_COMPRESSION),
        lambda path: write(path, "Y", np.float32, OpenEXR.ZIP_COMPRESSION),
        lambda path: write(path, "RGB", np.float16, OpenEXR.DWAA_COMPRESSION),
    )


def czis() -> list[bytes]:
    """Two channels, and colour."""
    return _written(lambda path: write_czi(path, _GREY, "CYX"), lambda path: write_czi(path, _COLOUR[None], "TYXS"))


def nd2s() -> list[bytes]:
    """One frame, and three times of two channels."""
    frames = np.stack([_GREY] * 3)
    return _written(lambda path: write_nd2(path, frames[:1], {}), lambda path: write_nd2(path, frames, {1: 3}))


def dngs() -> list[bytes]:
    """A mosaic."""
    return _written(lambda path: write_dng(path, np.kron(_GREY[0], np.ones((2, 2), np.uint16))))


def pictures(kind: str, **options: Any) -> Callable[[], list[bytes]]:
    """Return a function that writes a colour picture, and an animation with opacity if there are options for it."""

    def write() -> list[bytes]:
        found = []
        image = Image.fromarray(_COLOUR)
        for more in ({}, options):
            file = io.BytesIO()
            image.save(file, kind, **more)
            found.append(file.getvalue())
        return found

    return write


def animated(kind: str) -> Callable[[], list[bytes]]:
    """Return a function that writes a picture and an animation of two frames."""
    return pictures(kind, save_all=True, append_images=[Image.fromarray(_COLOUR[::-1].copy())], duration=50)


def jpeg2000s() -> list[bytes]:
    """Grey of 12 bits and colour, in a file and as a code stream."""
    return [
        bytes(imagecodecs.jpeg2k_encode(_GREY[0], bitspersample=12, reversible=True)),
        bytes(imagecodecs.jpeg2k_encode(_COLOUR, codecformat="j2k")),
    ]


def pnms() -> list[bytes]:
    """Grey of 12 bits and colour."""
    return [b"P5 24 20 4095\n" + _GREY[0].astype(">u2").tobytes(), b"P6 24 20 255\n" + _COLOUR.tobytes()]
