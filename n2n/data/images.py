"""Reading and writing image files: the only place that knows file formats and their integers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from n2n.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")


@dataclass(frozen=True)
class Picture:
    """An image file's pixels, and what is needed to write the same kind of file again.

    Attributes:
        pixels: H×W×C float32 in [0, 1]; C is 1 for grey images and 3 for colour. Never clipped by the network.
        alpha: H×W uint8 or None; it is no image content and passes through.
        dtype: of the file's samples, uint8 or uint16.
        info: what Pillow writes back unchanged (colour profile, EXIF with the orientation, resolution).
    """

    pixels: NDArray[np.float32]
    alpha: NDArray[np.uint8] | None = None
    dtype: type[np.uint8] | type[np.uint16] = np.uint8
    info: dict[str, Any] = field(default_factory=dict)


def _open(path: Path) -> Image.Image:
    """Open an image file and decode it, with one line for whatever is wrong with it."""
    try:
        image = Image.open(path, formats=FORMATS)
        image.load()
    except FileNotFoundError:
        raise InputError(f"{path} is not there: expected a PNG or JPEG image") from None
    except UnidentifiedImageError:
        raise InputError(f"{path} is not an image that n2n reads: expected PNG or JPEG") from None
    except Image.DecompressionBombError:
        raise InputError(
            f"{path} claims over {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, more than n2n takes from one image: cut it up"
        ) from None
    # Pillow raises many kinds for damaged files (OSError, SyntaxError, ValueError, struct.error, ...).
    except Exception as error:
        raise InputError(f"{path} is damaged ({error}): expected a whole PNG or JPEG image") from None
    return image


def read_picture(path: Path) -> Picture:
    """Read a PNG or JPEG file.

    Palette and CMYK images become RGB, 1-bit images grey. Raises InputError for what is not an image.
    """
    image = _open(path)
    info = {key: image.info[key] for key in ("icc_profile", "exif", "dpi") if image.info.get(key)}
    if image.mode.startswith("I"):
        # Pillow's modes for 16-bit grey PNG; the samples fill 0..65535.
        deep = np.asarray(image).astype(np.float32)[..., None] / np.float32(65535)
        return Picture(deep, None, np.uint16, info)
    if image.mode == "CMYK":
        info.pop("icc_profile", None)  # it describes inks, and what is written is RGB
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA") else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
    image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    pixels = np.asarray(image).astype(np.float32) / np.float32(255)
    return Picture(pixels.reshape(image.height, image.width, -1), alpha, np.uint8, info)


def to_image(picture: Picture) -> Image.Image:
    """Round and clip a picture to the samples of its file."""
    top = np.iinfo(picture.dtype).max
    samples = np.rint(np.clip(picture.pixels, 0.0, 1.0) * top).astype(picture.dtype)
    if picture.alpha is not None:
        samples = np.concatenate([samples, picture.alpha[..., None]], axis=2)
    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def write_picture(path: Path, picture: Picture) -> None:
    """Write a PNG or JPEG file, by the path's suffix; all of it or nothing.

    Raises:
        InputError: if it cannot be written there.
    """
    image = to_image(picture)
    # Quality 95 without colour subsampling: the file must not put noise back that the network took out.
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if path.suffix.lower() != ".png" else {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".n2n-") as folder:
            part = Path(folder) / path.name
            image.save(part, **options, **picture.info)
            part.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror or error})") from error


def read_photograph(path: Path, channels: int) -> NDArray[np.uint8]:
    """Read a photograph as H×W×channels uint8, upright: 3 channels (grey is repeated) or 1 (colour becomes luma)."""
    image = _open(path).convert("L" if channels == 1 else "RGB")
    return np.asarray(image).reshape(image.height, image.width, channels)


def find_images(roots: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Give the PNG and JPEG files in some folders and all their subfolders, in a fixed order.

    Raises:
        InputError: if a folder is not there.
    """
    for root in roots:
        folder = Path(root).expanduser()
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder: expected one with PNG or JPEG images in it")
        yield from sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
