from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.images.formats.helpers import copy, look, predict, refusal, values

OpenEXR = pytest.importorskip("OpenEXR")


def write(path: str, channels: dict[str, Any], compression: str = "ZIP_COMPRESSION") -> None:
    header = {"compression": getattr(OpenEXR, compression), "type": OpenEXR.scanlineimage, "owner": "Pixar"}
    OpenEXR.File(header, dict(channels)).write(path)  # it changes its argument


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_come_back_with_other_channels_and_attributes(dtype: str) -> None:
    colours = {name: values((20, 30), dtype) * 9 - 1 for name in "RGB"}  # below 0 and above 1
    for names, kind in (("RGB", "YXS"), ("RGBA", "YXS"), ("Y", "YX")):
        channels = {name: colours.get(name, values((20, 30), dtype)) for name in names}
        write("in.exr", channels | {"Z": values((20, 30), "float32")})
        found, axes, _ = look("in.exr")
        assert (axes, found.dtype) == (kind, np.dtype(dtype))
        assert np.array_equal(found[0], np.stack([channels[name] for name in names], axis=2))
        copy("in.exr", "out.exr")
        before, after = (OpenEXR.File(name, separate_channels=True) for name in ("in.exr", "out.exr"))
        assert after.header()["owner"] == "Pixar"
        assert after.channels().keys() == before.channels().keys()
        for name, channel in before.channels().items():
            assert np.array_equal(after.channels()[name].pixels, channel.pixels)
            assert after.channels()[name].pixels.dtype == channel.pixels.dtype


def test_predict_clips_nothing() -> None:
    pixels = {name: (values((40, 50), "float32") * 8 - 2).astype(np.float32) for name in "RGB"}
    write("in.exr", pixels)
    predict("in.exr", "out", 3, "--range", "0", "1")
    after = OpenEXR.File("out/in.exr", separate_channels=True).channels()
    for name in "RGB":
        assert np.allclose(after[name].pixels, pixels[name], rtol=0, atol=1e-6)


def test_lossy_compression_is_not_repeated() -> None:
    write("in.exr", {name: values((64, 64), "float16") for name in "RGB"}, "DWAA_COMPRESSION")
    copy("in.exr", "out.exr")
    assert np.array_equal(look("out.exr")[0], look("in.exr")[0])


def test_refused() -> None:
    write("layers.exr", {f"diffuse.{name}": values((20, 30), "float16") for name in "RGB"})
    assert "diffuse.B" in refusal(lambda: look("layers.exr"))
    parts = [OpenEXR.Part({"name": name}, {"Y": values((20, 30), "float32")}) for name in "ab"]
    OpenEXR.File(parts).write("parts.exr")
    assert "has 2 parts" in refusal(lambda: look("parts.exr"))
    np.save("in.npy", values((20, 30), "uint8"))
    assert "uint8 values" in refusal(lambda: copy("in.npy", "out.exr"))
    write("x.exr", {"Y": values((20, 30), "float32")})
    data = bytearray(Path("x.exr").read_bytes())
    at = data.index(b"dataWindow\0box2i\0") + 17 + 4
    data[at : at + 16] = np.array([0, 0, 2**30, 2**30], "<i4").tobytes()
    Path("huge.exr").write_bytes(data)
    refusal(lambda: look("huge.exr"))


def test_luminance_and_chroma_are_refused_before_they_are_denoised(monkeypatch: pytest.MonkeyPatch) -> None:
    write("in.exr", {"Y": values((8, 8), "float16"), "BY": values((8, 8), "float16")})
    real = OpenEXR.File

    def opened(*args: Any, **options: Any) -> Any:
        # The library reads such files and cannot write any.
        file = real(*args, **options)
        if not options.get("header_only"):
            file.parts[0].channels["BY"].pixels = values((4, 4), "float16")
        return file

    monkeypatch.setattr(OpenEXR, "File", opened)
    assert "has other sizes in its channels BY: expected one size" in refusal(lambda: look("in.exr"))
