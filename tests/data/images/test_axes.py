from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from n2n.data.images import ImageReader, create_image, open_image
from n2n.data.images.axes import unnamed
from n2n.data.images.planes import channels_apart, channels_together
from n2n.errors import InputError

_RNG = np.random.default_rng(0)
_STACK = _RNG.integers(0, 60000, (2, 3, 4, 20, 30), dtype=np.uint16)
_ORDERS = ["".join(order) + "YX" for order in itertools.permutations("TZC")]


def pages(image: ImageReader) -> Any:
    """Read all pages, N×H×W×(C + extra)."""
    return np.stack([image.samples(page, 0, image.height) for page in range(image.pages)])


def rewrite(source: str, target: str, axes: str | None = None) -> None:
    with open_image(Path(source), axes) as image, open_image(Path(source), axes) as other:
        create_image(Path(target), other).write(image.strips(7))


def same_series(one: str, other: str) -> bool:
    """Whether tifffile reads the same array, axes and layout."""
    with tifffile.TiffFile(one) as a, tifffile.TiffFile(other) as b:
        x, y = a.series[0], b.series[0]
        layout = a.pages.first.planarconfig == b.pages.first.planarconfig
        return x.axes == y.axes and layout and np.array_equal(x.asarray(), y.asarray())


@pytest.mark.parametrize("order", _ORDERS)
@pytest.mark.parametrize("kind", ["ome", "tifffile", "zlib"])
def test_a_tiff_stack_names_its_axes(order: str, kind: str) -> None:
    options: Any = {"ome": kind != "tifffile", "compression": "zlib" if kind == "zlib" else None}
    tifffile.imwrite("x.tif", _STACK, photometric="minisblack", metadata={"axes": order}, **options)
    with open_image(Path("x.tif")) as image:
        assert (image.axes, image.shape, image.named) == (order, _STACK.shape, True)
        assert (image.page_axes, image.page_shape) == (order[:3], (2, 3, 4))
        assert np.array_equal(pages(image)[..., 0], _STACK.reshape(24, 20, 30))
    rewrite("x.tif", "y.tif")
    assert same_series("x.tif", "y.tif")


@pytest.mark.parametrize("axes", ["TZCYX", "TCYX", "ZYX", "CYX", "TYX"])
def test_an_imagej_stack_names_its_axes(axes: str) -> None:
    stack = _STACK[(0,) * (5 - len(axes))]
    tifffile.imwrite("x.tif", stack, imagej=True, metadata={"axes": axes})
    with open_image(Path("x.tif")) as image:
        assert (image.axes, image.shape) == (axes, stack.shape)
        assert np.array_equal(pages(image)[..., 0], stack.reshape(-1, 20, 30))
    rewrite("x.tif", "y.tif")
    assert same_series("x.tif", "y.tif")


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_slices_that_tifffile_wrote_as_planes_of_a_colour_image(count: int, compression: str | None) -> None:
    stack = _STACK[0].reshape(-1, 20, 30)[:count]
    # The photometric interpretation is RGB then, and the fourth plane opacity.
    with pytest.warns(DeprecationWarning, match="photometric"):
        tifffile.imwrite("x.tif", stack, metadata={"axes": "ZYX"}, compression=compression)
    with open_image(Path("x.tif")) as image:
        assert (image.axes, image.pages, image.channels, image.extra) == ("ZYX", count, 1, 0)
        assert f"it says that its {count} planes are red, green" in image.remarks[0]
        assert np.array_equal(pages(image)[..., 0], stack)
    rewrite("x.tif", "y.tif")
    assert same_series("x.tif", "y.tif")


def test_planes_without_names_are_colours_with_a_remark() -> None:
    stack = _STACK[0, 0]
    with pytest.warns(DeprecationWarning, match="photometric"):
        tifffile.imwrite("x.tif", stack)
    with open_image(Path("x.tif")) as image:
        assert (image.axes, image.shape, image.channels, image.extra) == ("YXS", (20, 30, 4), 3, 1)
        assert np.array_equal(pages(image)[0], np.moveaxis(stack, 0, 2))
        assert "--axes ZYX" in image.remarks[0]
    with open_image(Path("x.tif"), "ZYX") as image:
        assert (image.pages, image.channels, image.remarks) == (4, 1, ())
    rewrite("x.tif", "y.tif")
    assert same_series("x.tif", "y.tif")


def test_planar_colours_stay_planar_and_become_side_by_side_in_png() -> None:
    colours = _STACK[0, :, 0]
    tifffile.imwrite("x.tif", colours, photometric="rgb", planarconfig="separate", tile=(16, 16), compression="zlib")
    rewrite("x.tif", "y.tif")
    rewrite("x.tif", "z.png")
    assert same_series("x.tif", "y.tif")
    with open_image(Path("z.png")) as image:
        assert (image.axes, image.pages) == ("YXS", 1)
        assert np.array_equal(pages(image)[0], np.moveaxis(colours, 0, 2))


def test_a_large_planar_image_is_parted_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("n2n.data.images.planes._IN_MEMORY", 100)
    tifffile.imwrite("x.tif", _STACK[0, :, 0], photometric="rgb", planarconfig="separate")
    rewrite("x.tif", "y.tif")
    assert same_series("x.tif", "y.tif")
    assert sorted(path.name for path in Path().iterdir()) == ["x.tif", "y.tif"]


@pytest.mark.parametrize(
    "description",
    [
        # More planes than the file has, a wrong size, and text that is no XML.
        '<OME><Image><Pixels SizeT="9" SizeZ="9" SizeC="9" DimensionOrder="XYCZT"/></Image></OME>',
        '<OME><Image><Pixels SizeT="6" SizeX="7" DimensionOrder="XYCZ"/></Image></OME>',
        "<OME><Image><Pixels",
        '<!DOCTYPE a [<!ENTITY b "c">]><OME><Image/></OME>',
        json.dumps({"shape": [5, 20, 30], "axes": "TYX"}),
        json.dumps({"shape": "x"}),
        "ImageJ=1\nimages=6\nchannels=7\nframes=-1\nhyperstack=true\n",
    ],
)
def test_a_description_that_does_not_fit_leaves_pages_without_a_name(description: str) -> None:
    with tifffile.TiffWriter("x.tif", ome=False, shaped=False) as tiff:
        for page in _STACK[0, :2].reshape(-1, 20, 30)[:6]:
            tiff.write(page, description=description, metadata=None, contiguous=False)
    with open_image(Path("x.tif")) as image:
        assert image.page_axes in ("Q", "I")
        assert image.pages == 6


def test_ome_planes_in_another_order_than_stated_have_no_name() -> None:
    data = '<TiffData FirstC="1" IFD="0" PlaneCount="1"/><TiffData FirstC="0" IFD="1" PlaneCount="1"/>'
    pixels = f'<Pixels SizeC="2" SizeX="30" SizeY="20" DimensionOrder="XYCZT">{data}</Pixels>'
    with tifffile.TiffWriter("x.tif", ome=False, shaped=False) as tiff:
        for page in _STACK[0, 0, :2]:
            tiff.write(page, description=f"<OME><Image>{pixels}</Image></OME>", metadata=None, contiguous=False)
    with open_image(Path("x.tif")) as image:
        assert image.axes == "QYX"


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((20, 30), "YX"),
        ((20, 30, 3), "YXC"),
        ((5, 20, 30), "QYX"),
        ((3, 20, 30), "QYX"),
        ((5, 20, 30, 2), "QYXC"),
        ((2, 5, 20, 30), "QQYX"),
        ((20, 4), "YX"),
    ],
)
def test_an_array_without_names(shape: tuple[int, ...], axes: str) -> None:
    assert unnamed(shape) == axes
    np.save("x.npy", np.zeros(shape))
    with open_image(Path("x.npy")) as image:
        assert (image.axes, image.named) == (axes, False)


@pytest.mark.parametrize("suffix", ["npy", "npz", "zarr"])
@pytest.mark.parametrize("axes", ["ZYX", "YXZ", "YZX", "XYZ", "ZXY", "YXC", "CYX", "XYC"])
def test_an_array_with_its_axes_in_any_order(suffix: str, axes: str) -> None:
    if suffix == "zarr":
        pytest.importorskip("zarr")
    array = _RNG.integers(0, 99, (12, 14, 16), dtype=np.uint8)
    np.save("a.npy", array)
    rewrite("a.npy", f"x.{suffix}")
    with open_image(Path(f"x.{suffix}"), axes) as image:
        letter = axes.replace("Y", "").replace("X", "")
        planes = np.einsum(f"{axes.lower()}->{letter.lower()}yx", array)
        found = pages(image)
        assert np.array_equal(found[..., 0] if axes[-1] != "C" else np.moveaxis(found[0], 2, 0), planes)
    rewrite(f"x.{suffix}", f"y.{suffix}", axes)
    rewrite(f"y.{suffix}", "b.npy")
    assert np.array_equal(np.load("b.npy"), array)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("ZTYX", "one letter for each of the 3 axes"),
        ("ZZY", "Y and X once each"),
        ("YXY", "Y and X once each"),
        ("Z-X", "expected letters"),
        ("ßYX", "expected letters"),
    ],
)
def test_axes_that_do_not_fit_are_refused(axes: str, message: str) -> None:
    np.save("x.npy", np.zeros((5, 20, 30)))
    with pytest.raises(InputError, match=message):
        open_image(Path("x.npy"), axes)


def test_rows_and_columns_of_a_tiff_stay_where_they_are() -> None:
    tifffile.imwrite("x.tif", _STACK[0, 0], photometric="minisblack")
    with pytest.raises(InputError, match="expected YX as the last ones"):
        open_image(Path("x.tif"), "YXZ")


def test_channels_together_and_apart() -> None:
    tifffile.imwrite("x.tif", _STACK, photometric="minisblack", metadata={"axes": "TCZYX"})
    with channels_together(open_image(Path("x.tif"))) as image:
        assert (image.axes, image.pages, image.channels) == ("TZYXC", 8, 3)
        assert np.array_equal(pages(image).reshape(2, 4, 20, 30, 3), np.moveaxis(_STACK, 1, -1))
    np.save("x.npy", _STACK)
    with channels_apart(open_image(Path("x.npy"), "QZYXC")) as image:
        assert (image.axes, image.pages, image.channels) == ("QZCYX", 180, 1)
        assert np.array_equal(pages(image)[31, ..., 0], _STACK[0, 1, ..., 1])


@pytest.mark.parametrize("kind", ["ome", "shaped"])
@pytest.mark.parametrize(
    ("positions", "axes"),
    [(((6, 9, 8), (6, 9, 8)), "RTYX"), (((6, 9, 8), (5, 9, 8)), "QYX"), (((6, 9, 8),), "TYX"), (((9, 8),) * 3, "QYX")],
)
def test_positions_in_a_tiff_are_an_axis(kind: str, positions: Sequence[tuple[int, ...]], axes: str) -> None:
    pixels = [np.full(shape, number, np.uint16) for number, shape in enumerate(positions)]
    with tifffile.TiffWriter("x.ome.tif" if kind == "ome" else "x.tif", shaped=kind == "shaped") as tiff:
        for one in pixels:
            tiff.write(one, metadata={"axes": "TYX"[-one.ndim :]})
    with open_image(Path("x.ome.tif" if kind == "ome" else "x.tif")) as image:
        assert image.axes == axes
        assert [int(image.rows(page, 0, 9).max()) for page in range(image.pages)] == [
            number for number, one in enumerate(pixels) for _ in range(one.size // 72)
        ]
