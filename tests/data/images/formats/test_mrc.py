from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.images.formats.helpers import copy, look, predict, refusal, values

mrcfile = pytest.importorskip("mrcfile")


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32", "uint16", "float16"])
def test_come_back_with_their_header(dtype: str) -> None:
    for shape in ((20, 30), (4, 20, 30), (2, 3, 20, 30)):
        pixels = values(shape, dtype)
        with mrcfile.new("in.mrc", pixels, overwrite=True) as made:
            made.voxel_size = 1.5
            made.add_label("by hand")
            made.set_extended_header(np.frombuffer(b"FEI!" * 40, "V1"))
            made.header.exttyp = b"FEI1"
        found, axes, size = look("in.mrc")
        assert (axes, size, found.dtype) == ({2: "YX", 3: "ZYX", 4: "QZYX"}[len(shape)], shape, np.dtype(dtype))
        assert np.array_equal(found.reshape(shape), pixels)
        copy("in.mrc", "out.mrc")
        with mrcfile.open("out.mrc") as out:
            assert np.array_equal(out.data, pixels)
            assert out.data.dtype == pixels.dtype
            assert float(out.voxel_size.x) == 1.5
            assert "by hand" in str(out.get_labels())
            assert out.extended_header.tobytes() == b"FEI!" * 40
            assert out.header.dmax == pytest.approx(float(pixels.max()), rel=1e-6)
            assert out.header.dmean == pytest.approx(float(pixels.mean(dtype=float)), rel=1e-5, abs=1e-5)
            assert out.header.rms == pytest.approx(float(pixels.std(dtype=float)), rel=1e-5)
        assert mrcfile.validate("out.mrc")


@pytest.mark.parametrize("order", ["<", ">"])
def test_stacks_and_byte_orders(order: str) -> None:
    pixels = values((4, 20, 30), "int16")
    with mrcfile.new("in.mrcs") as made:
        made.set_data(pixels.astype(f"{order}i2"))
        made.set_image_stack()
    assert look("in.mrcs")[1:] == ("QYX", (4, 20, 30))
    predict("in.mrcs", "out", 1, "--range", "-32768", "32767")
    with mrcfile.open("out/in.mrcs") as out:
        assert out.is_image_stack()
        assert np.array_equal(out.data, pixels)
        assert out.data.dtype.byteorder in ({"<": "<=", ">": ">"}[order])


def test_from_and_to_other_formats() -> None:
    pixels = values((3, 20, 30), "uint16")
    np.save("in.npy", pixels)
    copy("in.npy", "out.mrc")
    with mrcfile.open("out.mrc") as out:
        assert out.is_image_stack()
        assert np.array_equal(out.data, pixels)
    copy("out.mrc", "back.npy")
    assert np.array_equal(np.load("back.npy"), pixels)
    np.save("in.npy", pixels.astype(np.uint8))
    assert "MRC cannot hold uint8 values" in refusal(lambda: copy("in.npy", "out.mrc"))


def test_claims_and_damage() -> None:
    with mrcfile.new("x.mrc", values((20, 30), "int16")):
        pass
    data = bytearray(Path("x.mrc").read_bytes())
    data[4:8] = (2**30).to_bytes(4, "little")
    Path("huge.mrc").write_bytes(data)
    assert "is cut off" in refusal(lambda: look("huge.mrc"))
    Path("script.map").write_text('{"version":3}')
    assert "not an MRC file" in refusal(lambda: look("script.map"))
