from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from n2n.data.images import create_image, find_images, open_image
from n2n.errors import InputError
from n2n.system.files import replacing, write_text
from tests.data.images.formats.test_pictures import copy
from tests.images import read_image

RNG = np.random.default_rng(0)
# What is in the file: pages, H, W, C.
SHAPES = {
    (20, 30): (1, 20, 30, 1),
    (20, 30, 3): (1, 20, 30, 3),
    (20, 30, 1): (1, 20, 30, 1),
    (5, 20, 30): (5, 20, 30, 1),
    (2, 20, 30, 3): (2, 20, 30, 3),
    (2, 3, 20, 30): (6, 20, 30, 1),
}


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "float16", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_arrays_come_back_as_they_were(dtype: str, order: Any) -> None:
    for shape, seen in SHAPES.items():
        array = np.asarray(RNG.integers(0, 200, shape), dtype, order=order)
        np.save("in.npy", array)
        np.savez_compressed("in.npz", picture=array)
        for name in ("in.npy", "in.npz"):
            assert read_image(Path(name)).shape == seen
            assert np.array_equal(read_image(Path(name)), array.reshape(seen))
            copy(name, name.replace("in", "out"))
        written = np.load("out.npy"), np.load("out.npz")["picture"]
        for back in written:
            assert (back.dtype, back.shape) == (array.dtype, array.shape)
            assert np.array_equal(back, array)


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_arrays_come_back_as_they_were(zarr_format: Any, separator: Any) -> None:
    zarr = pytest.importorskip("zarr")
    for shape, seen in SHAPES.items():
        array = RNG.integers(0, 2**16, shape).astype(np.uint16)
        chunks = tuple(8 if size > 8 else 1 for size in shape)
        zarr.create_array(
            "in.zarr", data=array, chunks=chunks, zarr_format=zarr_format, attributes={"a": 1}, overwrite=True,
            chunk_key_encoding={"name": "v2" if zarr_format == 2 else "default", "separator": separator},
        )  # fmt: skip
        assert np.array_equal(read_image(Path("in.zarr")), array.reshape(seen))
        copy("in.zarr", "out.zarr")
        back = zarr.open("out.zarr", mode="r")
        assert np.array_equal(back[:], array)
        assert (back.dtype, back.chunks, dict(back.attrs)) == (array.dtype, chunks, {"a": 1})
        files = [{path.relative_to(name) for path in Path(name).rglob("*")} for name in ("in.zarr", "out.zarr")]
        assert files[0] == files[1]


@pytest.mark.parametrize("target", ["out.tif", "out.npy", "out.npz", "out.zarr"])
def test_formats_become_one_another(target: str) -> None:
    if target.endswith("zarr"):
        pytest.importorskip("zarr")
    for shape in SHAPES:
        np.save("in.npy", RNG.normal(size=shape).astype(np.float32))
        copy("in.npy", target)
        assert np.array_equal(read_image(Path(target)), read_image(Path("in.npy")))


@pytest.mark.parametrize("place", ["compressor", "filters"])
def test_zarr_runs_no_code(place: str) -> None:
    pytest.importorskip("zarr")
    Path("in.zarr").mkdir()
    pickler = {"id": "pickle"}
    codecs = {"compressor": None, "filters": None} | {place: [pickler] if place == "filters" else pickler}
    array = {
        "zarr_format": 2,
        "shape": [8, 8],
        "chunks": [8, 8],
        "dtype": "|u1",
        "fill_value": 0,
        "order": "C",
        **codecs,
    }
    Path("in.zarr/.zarray").write_text(json.dumps(array))

    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (Path("code-ran"),)

    Path("in.zarr/0.0").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(InputError):
        read_image(Path("in.zarr"))
    assert not Path("code-ran").exists()


def test_failed_writing_leaves_what_was_there() -> None:
    np.save("in.npy", np.zeros((9, 9), np.uint8))
    for target in ("out.npy", "out.png", "out.tif"):
        Path(target).write_text("before")
        with open_image(Path("in.npy")) as image:

            def strips() -> Any:
                yield image.samples(0, 0, 4)
                raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                create_image(Path(target), image).write(strips())
        assert Path(target).read_text() == "before"
    assert sorted(path.name for path in Path().iterdir()) == ["in.npy", "out.npy", "out.png", "out.tif"]


def test_folders_are_replaced_too() -> None:
    Path("a.zarr").mkdir()
    Path("a.zarr/old").touch()
    with replacing(Path("a.zarr")) as part:
        part.mkdir()
        (part / "new").touch()
    assert [path.name for path in Path("a.zarr").iterdir()] == ["new"]
    assert [path.name for path in Path().iterdir()] == ["a.zarr"]


def test_a_file_does_not_replace_a_folder() -> None:
    Path("a.csv").mkdir()
    Path("a.csv/old").touch()
    with pytest.raises(InputError, match="csv cannot be written"):
        write_text(Path("a.csv"), "new")
    assert [path.name for path in Path("a.csv").iterdir()] == ["old"]
    assert [path.name for path in Path().iterdir()] == ["a.csv"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("out.png", "PNG cannot hold float32 values"),
        ("out.jpg", "JPEG cannot hold float32 values"),
        ("out.heic", "not a name of an image that n2n writes"),
    ],
)
def test_formats_that_cannot_hold_it_are_refused(target: str, message: str) -> None:
    np.save("in.npy", np.zeros((5, 9, 9), np.float32))
    with pytest.raises(InputError, match=message), open_image(Path("in.npy")) as image:
        create_image(Path(target), image)


def test_images_are_found_in_order_and_others_are_not() -> None:
    for name in (
        "b.PNG",
        "a/c.jpeg",
        "a/b.jpg",
        "notes.txt",
        "z.zarr/c/0.npy",
        "s.tiff",
        ".hidden/a.png",
        ".a.png",
        "d.npy",
    ):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        Path(name).touch()
    assert [path.name for path in find_images(["."])] == ["b.jpg", "c.jpeg", "b.PNG", "d.npy", "s.tiff", "z.zarr"]
    with pytest.raises(InputError, match="is not a folder"):
        list(find_images(["none"]))


@pytest.mark.parametrize("name", ["x.tif", "y.tif", "z.tif", "x.png", "x.jpg", "x.npy", "x.npz"])
def test_damaged_bytes_give_an_image_or_one_line(name: str) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    np.save("x.npy", pixels)
    np.savez_compressed("x.npz", pixels)
    options: dict[str, Any] = {"y.tif": {"compression": "lzw", "tile": (16, 16)}, "z.tif": {"compression": "zlib"}}
    if name.endswith("tif"):
        tifffile.imwrite(name, pixels, photometric="rgb", resolution=(3, 3), **options.get(name, {}))
    elif not name.startswith("x.np"):
        Image.fromarray(pixels).save(name)
    whole, lines = Path(name).read_bytes(), []
    for _ in range(150):
        data = bytearray(whole)
        for at in rng.integers(0, [64, 400, len(data)][rng.integers(3)], rng.integers(1, 5)):
            data[at % len(data)] = rng.integers(256)
        Path(name).write_bytes(data)
        try:
            with open_image(Path(name)) as image:
                if image.pages * image.height * image.width < 10**6:
                    copy(name, f"out-{name}")
        except InputError as error:
            lines.append(str(error))
    assert lines
    assert not any("\n" in line for line in lines)
