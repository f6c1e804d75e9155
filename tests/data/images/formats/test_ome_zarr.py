from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from n2n.cli import main
from tests.data.images.formats.helpers import copy, look, predict, refusal, values
from tests.write_checkpoints import same, write_checkpoint

zarr = pytest.importorskip("zarr")
SCALES = [{"type": "scale", "scale": [1, 1, 2.0, 0.5, 0.5]}]


def write(path: str, pixels: NDArray[Any], version: str, axes: str = "tczyx") -> None:
    """Write a group of two sizes as ome-zarr does."""
    kinds = {"t": "time", "c": "channel"}
    image = {
        "axes": [{"name": name, "type": kinds.get(name, "space"), "unit": "micrometer"} for name in axes],
        "datasets": [
            {"path": "0", "coordinateTransformations": SCALES},
            {"path": "1", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 2.0, 1, 1]}]},
        ],
        "name": "cells",
    }
    omero = {
        "channels": [{"label": "DAPI", "color": "0000FF", "window": {"start": 0, "end": 1500, "min": 0, "max": 65535}}]
    }
    content: dict[str, Any] = {"multiscales": [image], "omero": omero}
    attributes = {"ome": content | {"version": version}} if version == "0.5" else content
    if version == "0.4":
        image["version"] = version
    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2, attributes=attributes, overwrite=True)
    chunks = (1,) * (pixels.ndim - 2) + (8, 8)
    group.create_array("0", data=pixels, chunks=chunks)
    group.create_array("1", data=pixels[..., ::2, ::2], chunks=chunks)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_is_beside_the_image_is_not_opened(version: str, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = values((20, 30), "uint16")
    write("in.zarr", pixels, version, "yx")
    for name, file, text in (
        ("future", "zarr.json", '{"zarr_format": 3, "node_type": "array", "data_type": "text"}'),
        ("codec", ".zarray", "{}"),
        ("broken", ".zgroup", "{"),
    ):
        Path("in.zarr", name).mkdir()
        Path("in.zarr", name, file).write_text(text)
    Path("in.zarr/.DS_Store").write_bytes(b"x")
    Path("in.zarr/thumbnails").mkdir()
    assert np.array_equal(look("in.zarr")[0][0, ..., 0], pixels)
    predict("in.zarr", "out")
    error = capfd.readouterr().err
    assert "not written (4: 1, broken, codec, future)" in error
    assert "DS_Store" not in error
    checkpoint = write_checkpoint("same.ckpt", same, 1)
    command = ["predict", "--ckpt_path", str(checkpoint), "--input", "in.zarr", "--output", "in.zarr", "--overwrite"]
    assert main([*command, "--trainer.accelerator", "cpu"]) == 2
    assert "would replace in.zarr, and what else is in the file is not written (4: " in capfd.readouterr().err
    assert Path("in.zarr/broken/.zgroup").exists()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_come_back_with_axes_scale_and_channels(version: str, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = values((2, 3, 2, 20, 30), "uint16")
    write("in.zarr", pixels, version)
    found, axes, shape = look("in.zarr")
    assert (axes, shape) == ("TCZYX", pixels.shape)
    assert np.array_equal(found.reshape(shape), pixels)
    predict("in.zarr", "out")
    assert "in.zarr: what else is in the file is not written (1: 1)" in capsys.readouterr().err
    before, after = zarr.open_group("in.zarr", mode="r"), zarr.open_group("out/in.zarr", mode="r")
    assert np.array_equal(after["0"][:], pixels)
    assert (after["0"].chunks, after.metadata.zarr_format) == (before["0"].chunks, before.metadata.zarr_format)
    assert list(after.array_keys()) == ["0"]
    old, new = (dict(group.attrs).get("ome", dict(group.attrs)) for group in (before, after))
    assert new["omero"] == old["omero"]
    assert new.get("version") == old.get("version")
    (image,) = new["multiscales"]
    assert image == old["multiscales"][0] | {"datasets": [{"path": "0", "coordinateTransformations": SCALES}]}


def test_made_by_ome_zarr_itself() -> None:
    ome_writer = pytest.importorskip("ome_zarr.writer")
    pixels = values((2, 40, 60), "uint8")
    ome_writer.write_image(pixels, zarr.create_group("in.ome.zarr"), axes="cyx")
    found, axes, _ = look("in.ome.zarr")
    assert axes == "CYX"
    assert np.array_equal(found[..., 0], pixels)
    copy("in.ome.zarr", "out.ome.zarr")
    reader = pytest.importorskip("ome_zarr.reader")
    (node,) = reader.Reader(pytest.importorskip("ome_zarr.io").parse_url("out.ome.zarr"))()
    assert np.array_equal(np.asarray(node.data[0]), pixels)


def test_hostile_and_other_groups() -> None:
    pixels = values((2, 3, 2, 20, 30), "uint16")
    zarr.create_array("secret.zarr", data=pixels)
    write("in.zarr", pixels, "0.5")
    path = Path("in.zarr/zarr.json")
    content = json.loads(path.read_text())

    def changed(change: Any) -> str:
        other = json.loads(json.dumps(content))
        change(other["attributes"]["ome"]["multiscales"][0])
        path.write_text(json.dumps(other))
        return refusal(lambda: look("in.zarr"))

    for place in ("../secret.zarr", "/secret.zarr", "0/../../secret.zarr", "..\\secret.zarr", ""):
        line = changed(lambda image, place=place: image["datasets"][0].update(path=place))
        assert "outside of the group" in line
    changed(lambda image: image.update(axes=[{"name": "t"}] * 5))
    changed(lambda image: image.update(axes=image["axes"][:3]))
    changed(lambda image: image.update(datasets=[]))
    changed(lambda image: image.update(datasets=7))
    zarr.create_group("plate.zarr", attributes={"plate": {}}).create_group("A")
    assert "without an OME-Zarr image" in refusal(lambda: look("plate.zarr"))


def test_names_of_dimensions_are_axes() -> None:
    pixels = values((3, 20, 30), "uint8")
    zarr.create_array("in.zarr", data=pixels, dimension_names=["z", "y", "x"])
    assert look("in.zarr")[1] == "ZYX"
    copy("in.zarr", "out.zarr")
    assert look("out.zarr")[1] == "ZYX"
    zarr.create_array("other.zarr", data=pixels, dimension_names=["band", "lat", "lon"])
    assert look("other.zarr")[1] == "QYX"
