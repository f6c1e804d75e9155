"""Small files of instruments: CZI by Zeiss's library, ND2 and DNG by hand, since no library writes these."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray


def write_czi(path: str, pixels: NDArray[Any], axes: str) -> None:
    """Write planes as Zeiss's library does."""
    czi = pytest.importorskip("pylibCZIrw.czi")
    Path(path).unlink(missing_ok=True)
    lead = axes.partition("YX")[0]
    with czi.create_czi(path) as file:
        for at in np.ndindex(pixels.shape[: len(lead)]):
            plane = pixels[at]
            place = {"T": 0, "Z": 0, "C": 0} | dict(zip(lead, at, strict=True))
            file.write(plane[..., None] if "S" not in axes else plane[..., ::-1].copy(), plane=place)
        file.write_metadata("test", {0: "DAPI", 1: "GFP", 2: "Cy5"}, scale_x=1e-7, scale_y=1e-7, scale_z=3e-7)


def write_nd2(path: str, frames: NDArray[np.uint16], loops: dict[int, int], missing: bool = False) -> None:
    """Write frames, number×C×Y×X, as NIS-Elements does: chunks with a name, and a map of them at the end.

    Args:
        path: of the file.
        frames: in the order of the loops.
        loops: number of steps by kind, from the outermost: 1 time, 2 position, 4 depth.
        missing: leave the last frame's pixels out.
    """
    count, channels, height, width = frames.shape
    kinds = {"ui": "lx_uint32", "e": "lx_uint32", "d": "double", "s": "CLxStringW", "b": "bool"}

    def tree(name: str, value: object) -> str:
        if isinstance(value, dict):
            return f"<{name}>{''.join(tree(key, item) for key, item in value.items())}</{name}>"
        prefix = next(kind for kind in kinds if name.startswith(kind))
        text = str(value).lower() if isinstance(value, bool) else value
        return f'<{name} runtype="{kinds[prefix]}" value="{text}"/>'

    attributes = {
        "uiWidth": width,
        "uiWidthBytes": 2 * width * channels,
        "uiHeight": height,
        "uiComp": channels,
        "uiBpcInMemory": 16,
        "uiBpcSignificant": 16,
        "uiSequenceCount": count,
        "eCompression": 2,
    }
    experiment: dict[str, Any] = {}
    for kind, steps in reversed(loops.items()):
        pars: dict[str, Any] = {"uiCount": steps, "dPeriod": 500.0, "dStep": 0.3, "dZStep": 0.3, "bRelativeXY": False}
        pars |= {"dStart": 0.0, "dDuration": 0.0, "dMinPeriodDiff": 0.0, "dMaxPeriodDiff": 0.0, "dAvgPeriodDiff": 500.0}
        if kind == 2:
            place = {f"i{i:010}": {"dPosX": float(i), "dPosY": 0.0, "dPosZ": 0.0} for i in range(steps)}
            pars |= {"Points": place}
        experiment = {"eType": kind, "uLoopPars": pars} | (
            {"ppNextLevelEx": {"i0000000000": experiment}} if experiment else {}
        )
    probe = {"m_ExcitationSpectrum": {"uiCount": 0}, "m_EmissionSpectrum": {"uiCount": 0}}
    planes = {
        f"a{i}": {"sDescription": f"channel {i}", "uiCompCount": 1, "uiColor": 255, "pFluorescentProbe": probe}
        for i in range(channels)
    }
    metadata = {
        "dCalibration": 0.25, "dAspect": 1.0, "bCalibrated": True,
        "sPicturePlanes": {"uiCount": channels, "uiCompCount": channels, "sPlaneNew": planes},
    }  # fmt: skip
    content = {
        b"ImageAttributes!": tree("variant", attributes).encode(),
        b"ImageMetadataSeq|0!": tree("variant", metadata).encode(),
    }
    if experiment:
        content[b"ImageMetadata!"] = tree("variant", experiment).encode()
    data = bytearray()

    def chunk(name: bytes, body: bytes, reserve: int) -> None:
        data.extend(struct.pack("<IIQ", 0x0ABECEDA, reserve, len(body)) + name.ljust(reserve, b"\0") + body)

    chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver2.1".ljust(64, b"\0"), 32)
    places = {}
    for name, body in content.items():
        data.extend(bytes(-len(data) % 4096))
        places[name] = len(data), len(body)
        chunk(name, body, 40)
    for number, frame in enumerate(frames):
        data.extend(bytes(-len(data) % 4096))
        body = struct.pack("<d", 100.0 * number) + frame.transpose(1, 2, 0).tobytes()
        places[f"ImageDataSeq|{number}!".encode()] = len(data), len(body)
        if not (missing and number == count - 1):
            # Pixels start 4096 bytes after the chunk, behind a time stamp.
            chunk(f"ImageDataSeq|{number}!".encode(), body, 4096 - 16 - 8)
    data.extend(bytes(-len(data) % 4096))
    at = len(data)
    entries = b"".join(name + struct.pack("<QQ", *place) for name, place in places.items())
    chunk(
        b"ND2 FILEMAP SIGNATURE NAME 0001!", entries + b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", at), 32
    )
    Path(path).write_bytes(data)


def write_dng(path: str, mosaic: NDArray[np.uint16], pattern: bytes = b"\0\1\1\2") -> None:
    """Write a DNG file of an uncompressed mosaic: version 1.4, red, green, green and blue."""
    unit = tuple(number for value in (1, 0, 0, 0, 1, 0, 0, 0, 1) for number in (value, 1))
    tags: Any = [
        (50706, "B", 4, (1, 4, 0, 0), False), (50707, "B", 4, (1, 1, 0, 0), False), (50708, "s", 0, "Camera", False),
        (33421, "H", 2, (2, 2), False), (33422, "B", 4, pattern, False), (50721, "2i", 9, unit, False),
        (50778, "H", 1, 21, False), (50714, "H", 1, 512, False), (50717, "H", 1, 4095, False),
    ]  # fmt: skip
    tifffile.imwrite(path, mosaic, photometric=32803, metadata=None, extratags=tags)
