from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from n2n.cli import main
from tests.data.images.formats.helpers import copy, look, predict, refusal, values
from tests.write_checkpoints import same, write_checkpoint

h5py = pytest.importorskip("h5py")


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "int16", "float16", "float32", "float64"])
def test_come_back_with_path_chunks_compression_and_attributes(dtype: str) -> None:
    pixels = values((3, 20, 30), dtype)
    options: list[dict[str, Any]] = [{}, {"chunks": (1, 8, 30), "compression": "gzip", "shuffle": True}]
    for at, chosen in enumerate(options):
        with h5py.File(f"in{at}.h5", "w") as file:
            data = file.create_dataset("entry/data/image", data=pixels, **chosen)
            data.attrs["units"], data.attrs["gain"] = "counts", np.float32(1.5)
            data.attrs["refers"] = file["entry"].ref
            file["entry"].attrs["NX_class"] = "NXentry"
            file["entry/count"] = 3
        found, axes, shape = look(f"in{at}.h5")
        assert (axes, shape) == ("QYX", pixels.shape)
        assert np.array_equal(found[..., 0], pixels)
        copy(f"in{at}.h5", "out.h5")
        with h5py.File("out.h5") as file:
            data = file["entry/data/image"]
            assert np.array_equal(data[:], pixels)
            assert data.dtype == pixels.dtype
            assert (data.chunks, data.compression, data.shuffle) == (
                chosen.get("chunks"), chosen.get("compression"), bool(chosen),
            )  # fmt: skip
            assert (data.attrs["units"], data.attrs["gain"]) == ("counts", np.float32(1.5))
            assert file["entry"].attrs["NX_class"] == "NXentry"


def test_what_else_is_in_the_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File("in.h5", "w") as file:
        file["entry/data/image"] = values((20, 30), "uint8")
    predict("in.h5", "out")
    assert "warning" not in capsys.readouterr().err
    with h5py.File("in.h5", "a") as file:
        file["entry/data/time"], file["entry/image"] = np.arange(5.0), 3
    predict("in.h5", "out", 1, "--overwrite")
    assert "what else is in the file is not written (2: entry/image, entry/data/time)" in capsys.readouterr().err
    # Names that are no text, or very long, and so many that they are not counted.
    with h5py.File("in.h5", "a") as file:
        file.create_group(b"caf\xe9")
        file.create_group("y" * 1000)
    predict("in.h5", "out", 1, "--overwrite")
    assert f"(4: caf\ufffd, {'y' * 80}, entry/image, entry/data/time)" in capsys.readouterr().err
    with h5py.File("in.h5", "a") as file:
        for number in range(1200):
            file.create_group(f"{number:04}")
    predict("in.h5", "out", 1, "--overwrite")
    assert "(1000 or more: 0000, 0001, 0002, 0003, 0004, ...)" in capsys.readouterr().err


def test_what_else_is_in_the_file_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    pixels = values((20, 30), "uint8")
    with h5py.File("in.h5", "w") as file:
        file["raw"], file["labels"] = pixels, pixels // 2
    before = Path("in.h5").read_bytes()
    checkpoint = write_checkpoint("same.ckpt", same, 1)
    options = ["--trainer.accelerator", "cpu", "--overwrite"]
    command = ["predict", "--ckpt_path", str(checkpoint), "--input", "in.h5:/raw", "--output", "in.h5", *options]
    assert main(command) == 2
    line = "would replace in.h5, and what else is in the file is not written (1: labels): name another --output"
    assert line in capsys.readouterr().err
    assert Path("in.h5").read_bytes() == before
    # An image that is alone in its file may be replaced.
    with h5py.File("in.h5", "w") as file:
        file["raw"] = pixels
    assert main(command) == 0


def test_what_is_damaged_beside_the_image_does_not_matter() -> None:
    pixels = values((20, 30), "uint8")
    with h5py.File("in.h5", "w") as file:
        file["img"] = pixels
        file.create_group("other")
    content = Path("in.h5").read_bytes()
    place = content.rindex(b"TREE")
    Path("in.h5").write_bytes(content[:place] + b"XXXX" + content[place + 4 :])
    with h5py.File("in.h5") as file, pytest.raises(RuntimeError):
        list(file["other"])
    copy("in.h5:/img", "out.h5")
    with h5py.File("out.h5") as file:
        assert np.array_equal(file["img"][:], pixels)


def test_groups_nested_too_deeply_are_refused() -> None:
    with h5py.File("in.h5", "w") as file:
        group = file
        for _ in range(50):
            group = group.create_group("y" * 1000)
        group["img"] = values((20, 30), "uint8")
    assert "has a group whose path is longer than 4,096 characters" in refusal(lambda: look("in.h5"))


def test_names_that_are_no_text_are_kept() -> None:
    pixels = values((20, 30), "uint8")
    with h5py.File("in.h5", "w") as file:
        file.create_group(b"a\xe9").create_dataset(b"b\xe9", data=pixels)
    copy("in.h5", "out.h5")
    with h5py.File("out.h5") as file:
        assert np.array_equal(file[b"a\xe9/b\xe9"][:], pixels)


def test_one_of_several_is_named() -> None:
    first, second = values((20, 30), "uint16"), values((2, 20, 30), "uint16")
    with h5py.File("in.h5", "w") as file:
        file["a"], file["b/c"] = first, second
        file["link"] = h5py.SoftLink("/b/c")
        for label, dimension in zip("zyx", file["b/c"].dims, strict=True):
            dimension.label = label
    line = refusal(lambda: look("in.h5"))
    assert "/a (20×30), /b/c (2×20×30)" in line
    assert "in.h5:/path/to/dataset" in line
    for part in ("/b/c", "b/c", "link"):
        found, axes, _ = look(f"in.h5:{part}")
        assert axes == "ZYX"
        assert np.array_equal(found[..., 0], second)
    assert "d is not in /b" in refusal(lambda: look("in.h5:/b/d"))
    assert "is a group" in refusal(lambda: look("in.h5:/b"))
    predict("in.h5:/b/c", "out")
    assert np.array_equal(h5py.File("out/in.h5")["b/c"], second)
    assert look("out/in.h5")[1] == "ZYX"
    predict("in.h5:/a", "out.tif")
    assert np.array_equal(look("out.tif")[0][0, ..., 0], first)


def test_other_files_stay_closed() -> None:
    with h5py.File("secret.h5", "w") as file:
        file["data"] = values((20, 30), "uint8")
    with h5py.File("in.h5", "w") as file:
        file["link"] = h5py.ExternalLink("secret.h5", "/data")
        file["soft"] = h5py.SoftLink("/link")
        file["loop"] = h5py.SoftLink("/loop")
    assert "holds 0 data sets" in refusal(lambda: look("in.h5"))
    assert "link to another file" in refusal(lambda: look("in.h5:/link"))
    assert "link to another file" in refusal(lambda: look("in.h5:/soft"))
    assert "is not in /" in refusal(lambda: look("in.h5:/loop"))
    layout = h5py.VirtualLayout((20, 30), "u1")
    layout[:] = h5py.VirtualSource("secret.h5", "data", (20, 30))
    with h5py.File("virtual.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    assert "keeps its values in other files" in refusal(lambda: look("virtual.h5"))
    Path("raw").write_bytes(bytes(600))
    with h5py.File("external.h5", "w") as file:
        file.create_dataset("data", (20, 30), "u1", external=[("raw", 0, 600)])
    assert "keeps its values in other files" in refusal(lambda: look("external.h5"))


def test_from_and_to_other_formats() -> None:
    np.save("in.npy", values((20, 30, 3), "uint8"))
    copy("in.npy", "out.h5")
    with h5py.File("out.h5") as file:
        assert np.array_equal(file["image"], np.load("in.npy"))
    copy("out.h5", "back.npy")
    assert np.array_equal(np.load("back.npy"), np.load("in.npy"))


def test_claims_and_damage() -> None:
    with h5py.File("huge.h5", "w") as file:
        file.create_dataset("a", (2**20, 2**18), "u1", chunks=(64, 64))
    assert "claims 274,877,906,944 bytes" in refusal(lambda: look("huge.h5"))
    with h5py.File("pieces.h5", "w") as file:
        file.create_dataset("a", (2**16, 2**16), "u1", chunks=(2**15, 2**16 - 1), compression="gzip")
        # As large as a compressed piece, but none: making one takes 2 GiB.
        file["a"].id.write_direct_chunk((0, 0), bytes(2**21))
    assert "stored in pieces" in refusal(lambda: look("pieces.h5"))
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("a", data=values((40, 50), "uint16"), chunks=(8, 8), compression="gzip")
