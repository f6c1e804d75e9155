from __future__ import annotations

import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor

from n2n.cli import main
from n2n.data import CourseFiles, Photographs
from n2n.data.images import open_image, read_photograph
from n2n.errors import InputError
from tests.conftest import write_course, write_photos
from tests.fuzz.formats import FORMATS
from tests.fuzz.run import fuzz
from tests.hostile import Hostile, Takes, everything, run
from tests.run_folders import add_panel, write_run
from tests.write_checkpoints import same, write_checkpoint

FIGURES = {"train/loss": 0.5, "val/psnr": 20.0}


def predict(capsys: pytest.CaptureFixture[str], source: str, ckpt: str = "same.ckpt") -> tuple[int, list[str]]:
    return run(
        capsys, "predict", "--ckpt_path", ckpt, "--input", source, "--output", "out", "--device", "cpu", "--tile", "64"
    )


def refused(capsys: pytest.CaptureFixture[str], source: str, message: str, ckpt: str = "same.ckpt") -> None:
    """Predict, and see one line, and nothing new anywhere."""
    before = everything()
    status, lines = predict(capsys, source, ckpt)
    lines = [line for line in lines if "error: " in line]
    assert (status, len(lines)) == (2, 1)
    assert message in lines[0]
    assert len(lines[0]) < 600
    assert everything() - before <= {"out"}


@pytest.fixture(autouse=True)
def _checkpoint() -> None:
    write_checkpoint("same.ckpt", same)


@pytest.mark.parametrize("payload", [Hostile(), Takes()])
@pytest.mark.parametrize("file", ["train_data.pkl", "val_data.pkl"])
def test_course_files_run_nothing(payload: object, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_course(Path("data"), 4)
    torch.save((payload, payload), root / file)
    status, lines = run(capsys, "fit", "--config", "data/ee559", "--data.source.root", str(root))
    assert (status, len(lines)) == (2, 1)
    assert "none of it was run" in lines[0]
    assert not Path("code-ran").exists()


def test_plain_pickles_run_nothing() -> None:
    for data in (pickle.dumps(Hostile()), pickle.dumps((Hostile(), Hostile()), 0)):
        Path("train_data.pkl").write_bytes(data)
        with pytest.raises(InputError, match="damaged or not a PyTorch file"):
            CourseFiles().train_pairs()
        with zipfile.ZipFile("train_data.pkl", "w") as archive:
            archive.writestr("archive/data.pkl", data)
        with pytest.raises(InputError):
            CourseFiles().train_pairs()
    assert not Path("code-ran").exists()


def test_archives_that_torch_and_zipfile_read_differently_are_refused() -> None:
    torch.save((torch.zeros(2, 3, 8, 8, dtype=torch.uint8),) * 2, "train_data.pkl")
    whole = Path("train_data.pkl").read_bytes()
    moved = whole[:-34] + (0).to_bytes(8, "little") + whole[-26:]  # where the directory of 64 bits is
    for data in (
        b"x" * 40 + whole,
        whole + b"x" * 40,
        whole[:-2] + b"\4\0" + b"more",
        whole + whole,
        moved,
        whole[-22:],
    ):
        Path("train_data.pkl").write_bytes(data)
        with pytest.raises(InputError, match="damaged or not a PyTorch file"):
            CourseFiles().train_pairs()


def test_zip_paths_lead_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("../escaped.npy", "/tmp/escaped.npy", "..\\escaped.npy", "a\nb.npy", "../..", ""):
        np.savez("x.npz", picture=np.zeros((8, 8, 3), np.uint8))
        with zipfile.ZipFile("x.npz") as archive:
            data = archive.read("picture.npy")
        with zipfile.ZipFile("x.npz", "w") as archive:
            archive.writestr(zipfile.ZipInfo(name), data)
        before = everything()
        status, lines = run(
            capsys, "predict", "--ckpt_path", "same.ckpt", "--input", "x.npz", "--output", "out", "--overwrite"
        )
        if status == 0:
            with zipfile.ZipFile("out/x.npz") as archive:
                (written,) = archive.namelist()
            assert written.endswith(".npy")
            assert not {"/", "\\"} & set(written)
        else:
            assert len(lines) == 1
        assert everything() - before <= {"out", "out/x.npz"}
    assert not Path("../escaped.npy").exists()


def npz(method: int, header: bytes, size: int) -> None:
    with zipfile.ZipFile("x.npz", "w", method) as archive, archive.open("x.npy", "w") as file:
        file.write(header)
        for _ in range(size // 2**20):
            file.write(bytes(2**20))


def npy_header(shape: object, descr: str = "|u1") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int = 8, *further: bytes) -> None:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    rows = zlib.compress(bytes(10**6))
    data = b"\x89PNG\r\n\x1a\n" + head + b"".join(further) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    Path("x.png").write_bytes(data)


def tiff(*tags: tuple[int, int, int, int], data: bytes = b"", after: int = 0) -> None:
    """Write a directory of tags, (code, type, count, value), behind the header, and data behind that."""
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    Path("x.tif").write_bytes(struct.pack("<2sHI", b"II", 42, 8) + directory + struct.pack("<I", after) + data)


def sized_tiff(width: int, height: int, *more: tuple[int, int, int, int]) -> None:
    tags = ((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8))
    given = {code for code, *_ in more}
    tiff(*(tag for tag in (*tags, (278, 4, 1, height), (279, 4, 1, 64)) if tag[0] not in given), *more, data=bytes(64))


def zeros_in_strips(height: int, samples: int) -> None:
    """Write a TIFF file of rows of 2¹⁸ pixels that are one strip, again and again."""
    strip = zlib.compress(bytes(2**18))
    count = height * samples
    at = 8 + 2 + 12 * 11 + 4
    tags = (
        (256, 4, 1, 2**18),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 8),
        (262, 3, 1, 1),
        (277, 3, 1, samples),
    )
    layout = ((278, 4, 1, 1), (284, 3, 1, 2), (339, 3, 1, 1), (273, 4, count, at), (279, 4, count, at + 4 * count))
    data = struct.pack(f"<{count}I", *[at + 8 * count] * count) + struct.pack(f"<{count}I", *[len(strip)] * count)
    tiff(*tags, *layout, data=data + strip)


def chained_tiff() -> None:
    """Write 200 empty directories, the last of which leads to the first: longer loops than tifffile sees."""
    directories = b"".join(struct.pack("<HI", 0, 8 + 6 * ((i + 1) % 200)) for i in range(200))
    Path("x.tif").write_bytes(struct.pack("<2sHI", b"II", 42, 8) + directories)


def looped_tiff() -> None:
    tifffile.imwrite("x.tif", np.zeros((3, 16, 16), np.uint8), photometric="minisblack")
    with tifffile.TiffFile("x.tif") as file:
        first, last = file.pages.first.offset, file.pages[2].offset
        count = len(file.pages[2].tags)  # type: ignore[union-attr]
    data = bytearray(Path("x.tif").read_bytes())
    data[last + 2 + 12 * count : last + 6 + 12 * count] = struct.pack("<I", first)
    Path("x.tif").write_bytes(data)


def told_again_and_again() -> None:
    """Write a TIFF file of 1 MiB with 4000 descriptions, each of which is all of it."""
    tiff(*[(270, 2, 2**20, 8)] * 4000, data=bytes(2**20))


def overlapping_tiff() -> None:
    """Write directories of 4000 tags that begin at every sixth byte."""
    number, count = 4000, 30_000
    body = bytearray(b"\0" * (6 * count + 12 * number + 100))
    for i in range(count):
        struct.pack_into("<H", body, 6 * i, number)
    for i in range(count):
        after = 6 * i + 2 + 12 * number
        if after + 4 <= len(body):
            struct.pack_into("<I", body, after, 8 + 6 * (i + 1))
    Path("x.tif").write_bytes(struct.pack("<2sHI", b"II", 42, 8) + bytes(body))


def zarr_of(**changed: object) -> None:
    import json

    import zarr

    zarr.create_array("x.zarr", data=np.zeros((16, 16), np.uint8), chunks=(8, 8), zarr_format=2, fill_value=7)
    kept = json.loads(Path("x.zarr/.zarray").read_text())
    Path("x.zarr/.zarray").write_text(json.dumps(kept | changed))


def zarr_with_a_pipe() -> None:
    zarr_of()
    Path("x.zarr/0.0").unlink(missing_ok=True)
    os.mkfifo("x.zarr/0.0")


def save(array: object) -> None:
    np.save("x.npy", np.asarray(array), allow_pickle=True)


def link(to: str) -> None:
    Path("in").mkdir()
    Path("in/x.png").symlink_to(to)


EXIF = b"II*\0\x08\0\0\0\xff\xff" + bytes(20)
LIES: dict[str, tuple[Callable[[], object], str, str]] = {
    "png of 60000×60000": (lambda: png(60000, 60000), "x.png", "claims over 178,956,970 pixels"),
    "png of more than it has": (lambda: png(13000, 13000), "x.png", "x.png is damaged"),
    "png of two sizes": (
        lambda: png(60000, 60000, 16, chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 0, 0, 0, 0))),
        "x.png",
        "x.png ",
    ),
    "tiff of 60000×60000": (lambda: sized_tiff(60000, 60000), "x.tif", "x.tif is cut off: its pages need 3,600,000"),
    "tiff of 60000×60000 in one strip": (lambda: sized_tiff(60000, 60000, (259, 3, 1, 8)), "x.tif", "pieces of 3.4 GiB"),
    "tiff of 2³² rows": (lambda: sized_tiff(1, 2**32 - 1, (259, 3, 1, 8)), "x.tif", "pieces of 4.0 GiB"),
    "tiff of many samples": (lambda: zeros_in_strips(64, 1000), "x.tif", "rows of 250.0 MiB (1000 values a pixel)"),
    "tiff in a long loop": (chained_tiff, "x.tif", "its directories are a loop"),
    "tiff in a loop": (looped_tiff, "x.tif", "its directories are a loop"),
    "tiff of descriptions": (told_again_and_again, "x.tif", "its directories say that they hold"),
    "tiff of directories": (overlapping_tiff, "x.tif", "its directories say that they hold"),
    "tiff of a kind that is no text": (lambda: sized_tiff(8, 8, (259, 3, 1, 5000)), "x.tif", "compressed by 5000"),
    "npy of 60000×60000": (lambda: Path("x.npy").write_bytes(npy_header("(60000, 60000)")), "x.npy", "x.npy is cut off"),
    "npy of no number": (lambda: Path("x.npy").write_bytes(npy_header("(0x" + "f" * 5000 + ", 2)")), "x.npy", "x.npy is "),
    "npy of negative": (lambda: Path("x.npy").write_bytes(npy_header("(-1, -1)")), "x.npy", "no array has its shape"),
    "npy of many axes": (lambda: save(np.zeros((1,) * 20 + (0,))), "x.npy", "holds no pixels"),
    "npz bomb": (lambda: npz(8, npy_header("(2048, 1048576)"), 2**21), "x.npz", "says that it unpacks to 2,147,483,648"),
    "npz by lzma": (lambda: npz(zipfile.ZIP_LZMA, npy_header("(8, 8)"), 0), "x.npz", "a compression that NumPy does not use"),
    "npz that lies": (lambda: npz(8, npy_header("(900, 900)"), 0), "x.npz", "expected what it holds"),
    "zarr of nothing": (lambda: zarr_of(shape=[10**9, 10**5], chunks=[64, 64]), "x.zarr", "it was not written in full"),
    "zarr of one chunk": (lambda: zarr_of(shape=[60000, 60000], chunks=[60000, 60000]), "x.zarr", "x.zarr "),
    "zarr of a pipe": (zarr_with_a_pipe, "x.zarr", "has something in it that is no file"),
    "zarr of no size": (lambda: zarr_of(shape=[0, 8]), "x.zarr", "x.zarr "),
    "zarr of objects": (lambda: zarr_of(dtype="|O"), "x.zarr", "x.zarr "),
    "far off": (lambda: save(np.full((8, 8), 1e300)), "x.npy", "too far from the range of 0 to 1"),
    "structures": (lambda: save(np.zeros((8, 8), "f4,f4")), "x.npy", "expected an array of numbers"),
    "times": (lambda: save(np.zeros((8, 8), "M8[s]")), "x.npy", "expected an array of numbers"),
    "objects": (lambda: save(np.array([[Hostile()]], object)), "x.npy", "none of which was loaded"),
    "a pipe": (lambda: os.mkfifo("x.png"), "x.png", "x.png is a device"),
    "a folder": (lambda: (Path("in/x.zarr").mkdir(parents=True)), "in", "in/x.zarr"),
    "a link to itself": (lambda: link("x.png"), "in", "x.png cannot be read"),
    "a link to nothing": (lambda: link("y.png"), "in", "x.png is not there"),
    "a name that is too long": (lambda: None, "a" * 300 + ".png", "(File name too long)"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_lies_get_one_line_and_no_memory(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    make, source, message = LIES[name]
    make()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(capsys, source, message)
    # In KiB: a picture that is damaged at its end is decoded up to there.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**20
    assert not Path("code-ran").exists()


NAMES = (
    "a b.png", " .png", "-x.png", "--output.png", "a\nb.png", "a\tb.png", "é漢字🙂.png", "\u202egnp.png", "$(ls).png",
    "*?[a].png", "'\".png", "a\\b.png", "%s{0}.png", os.fsdecode(b"\xff\xfe.png"), "CON.png", "x" * 251 + ".png",
)  # fmt: skip


def test_odd_names_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    photo = write_photos(Path("photos"), 1) / "0.png"
    for name in NAMES:
        for folder in ("in", "in/é\n "):
            Path(folder).mkdir(exist_ok=True, parents=True)
            (Path(folder) / name).write_bytes(photo.read_bytes())
    before = everything()
    assert predict(capsys, "in") == (0, [])
    written = {path for path in everything() - before if path.endswith(".png")}
    assert written == {f"out/{folder}{name}" for folder in ("", "é\n /") for name in NAMES}
    assert all(path == "out" or path.startswith("out/") for path in everything() - before)


def test_odd_names_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        Path("in").mkdir(exist_ok=True)
        Path("in", name).write_text("no image")
    status, lines = predict(capsys, "in")
    assert (status, len(lines)) == (2, len(NAMES))
    assert all(line.isprintable() for line in lines)
    assert any(r"in/a\nb.png is not an image" in line for line in lines)


def test_loops_of_folders_end(capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(Path("in/deeper"), 1)
    Path("in/deeper/up").symlink_to("..", target_is_directory=True)
    Path("in/self").symlink_to("self")
    Path("in/x.png").symlink_to("x.png")
    status, lines = run(
        capsys, "predict", "--ckpt_path", "same.ckpt", "--input", "in", "--output", "in/out", "--device", "cpu"
    )
    assert (status, len(lines)) == (2, 1)
    assert "in/x.png cannot be read (Too many levels of symbolic links)" in lines[0]
    assert sorted(str(path) for path in Path("in/out").rglob("*.png")) == ["in/out/deeper/0.png"]
    Path("in/there").symlink_to("there")
    status, lines = run(capsys, "predict", "--ckpt_path", "same.ckpt", "--input", "in/there", "--output", "out")
    assert (status, len(lines)) == (2, 1)
    assert main(["predict", "--ckpt_path", "same.ckpt", "--input", "in", "--output", "in/there"]) == 2


def test_outputs_go_nowhere_else(capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(Path("in"), 1)
    Path("out").mkdir()
    Path("precious").write_text("precious")
    Path("out/0.png").symlink_to("../precious")
    status, lines = predict(capsys, "in")
    assert (status, len(lines)) == (2, 1)
    assert main(["predict", "--ckpt_path", "same.ckpt", "--input", "in", "--output", "out", "--overwrite"]) == 0
    assert Path("precious").read_text() == "precious"
    assert not Path("out/0.png").is_symlink()


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif"])
def test_damaged_orientation_is_none(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    picture.save(name, exif=b"" if name == "x.tif" else b"Exif\0\0" + EXIF)
    assert read_photograph(Path(name), 3).shape == (20, 30, 3)
    assert predict(capsys, name) == (0, [])


def test_photographs_leave_out_what_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(Path("in"), 3, (300, 300))
    png(60000, 60000)
    Path("x.png").rename("in/claims.png")
    np.save("in/nan.npy", np.full((300, 300), np.nan))
    Path("in/loop.png").symlink_to("loop.png")
    Path("in/nothing.png").symlink_to("nowhere.png")
    os.mkfifo("in/pipe.png")
    zarr_of(shape=[200_000, 1000], chunks=[64, 64])
    Path("x.zarr").rename("in/x.zarr")
    store = Photographs(["in"], val_fraction=0, max_pairs=4).train_pairs()
    assert len(store) == 4
    assert "3 photographs used, 6 unreadable left out" in store.remarks[0]


def test_photographs_larger_than_any_are_refused() -> None:
    zarr_of(shape=[200_000, 1000], chunks=[64, 64])
    with pytest.raises(InputError, match=r"expected a photograph of at most 178,956,970"):
        read_photograph(Path("x.zarr"), 3)
    with open_image(Path("x.zarr")) as image:
        assert image.samples(0, 199_999, 200_000).max() == 7


CONFIGS = {
    "loop": ("model: &a {backbone: *a}", "it holds more than 100,000 values"),
    "doubled": ("\n".join(["a0: &a0 [1, 1]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]),
                "it holds more than 100,000 values"),
    "deep": ("[" * 5000, "recursion depth"),
    "object": ("a: !!python/object/apply:os.mkdir [code-ran]", "could not determine a constructor"),
    "date": ("a: 2020-99-99", "month must be in 1..12"),
    "number": (f"a: {'1' * 9000}", "Exceeds the limit"),
    "no text": ("a: '\x00'", "x.yaml cannot be read"),
    "large": ("# " + "x" * 2**20, "x.yaml has more than 1,048,576 bytes"),
    "nothing": ("", "Unexpected config"),
    "null": ("trainer: null\nname: x", "trainer is null"),
    "seed": (f"seed_everything: {10**30}", "seed_everything"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_hostile_configs_get_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text, message = CONFIGS[name]
    Path("x.yaml").write_text(text)
    status, lines = run(capsys, "fit", "--config", "x.yaml")
    assert (status, len(lines)) == (2, 1)
    assert message in lines[0]
    assert not Path("code-ran").exists()


def test_configs_that_are_no_files(capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    Path("loop.yaml").symlink_to("loop.yaml")
    Path("bytes.yaml").write_bytes(os.urandom(100) + b"\xff")
    for name in ("pipe", "loop.yaml", "none.yaml", "bytes.yaml", "../../etc", ""):
        status, lines = run(capsys, "fit", "--config", name)
        assert (status, len(lines)) == (2, 1)


def run_folder(name: str = "run") -> Path:
    return write_run(Path(name), [(1, 1.0, FIGURES), (2, 2.0, FIGURES)])


FULL = 2**24
TABLES = {
    "cells": "epoch,step,minutes\n" + "1" + "," * (FULL - 100),
    "columns": ",".join(map(str, range(FULL // 9))),
    "rows": "epoch,step,minutes\n" + "1,1,1\n" * (FULL // 8),
    "quote": 'epoch,step,minutes\n"' + "1" * (FULL - 100),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_are_full_take_little_memory(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    (run_folder() / "metrics.csv").write_text(TABLES[name])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, lines = run(capsys, "report", "run", "--output", "out")
    assert (status, len(lines)) == (2, 1)
    assert "run/metrics.csv" in lines[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**19


@pytest.mark.parametrize("size", [(1, 2**21), (4000, 4000), (8000, 8000)])
def test_panels_that_no_panel_looks_like_end_soon(size: tuple[int, int], capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    add_panel(run_folder(), torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), psnr=None)
    path = Path("run/panels/epoch_002.png")
    Image.new("1", size).save(path)
    rows = ["columns,height,width,noisy,denoised", *[f"2,{min(size[1], 256)},{min(size[0], 256)},,"] * 1000]
    path.with_suffix(".csv").write_text("\n".join(rows))
    status, lines = run(capsys, "report", "run", "--output", "out")
    assert (status, len(lines)) == (0, 1)
    assert "run/panels/epoch_002" in lines[0]


def make_pipe(path: str) -> None:
    add_panel(Path("run"), torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), psnr=None)
    Path(path).unlink()
    os.mkfifo(path)


RUNS: dict[str, tuple[Callable[[], object], str]] = {
    "batch size": (lambda: Path("run/config.yaml").write_text(f"data: {{batch_size: {10**400}}}"), ""),
    "date": (lambda: Path("run/config.yaml").write_text("a: 2020-99-99"), "month must be in 1..12"),
    "pipe": (lambda: os.mkfifo("run/config.yaml"), "is a device"),
    "doubled": (lambda: Path("run/config.yaml").write_text(CONFIGS["doubled"][0]), "more than 100,000 values"),
    "name": (lambda: Path("run").rename(os.fsdecode(b"run\xff\n")), ""),
    "facts": (lambda: Path("run/run.yaml").write_text(CONFIGS["doubled"][0]), "more than 100,000 values"),
    "metrics pipe": (lambda: make_pipe("run/metrics.csv"), "no metrics.csv in run"),
    "panel pipe": (lambda: make_pipe("run/panels/epoch_002.png"), ""),
    "loop": (lambda: Path("run/loop").symlink_to("."), ""),
}


@pytest.mark.parametrize("name", RUNS)
def test_hostile_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    make, message = RUNS[name]
    run_folder()
    make()
    folder = next(path for path in Path().glob("run*"))
    status, lines = run(capsys, "report", str(folder), "--output", "out\n")
    assert status == (2 if message else 0)
    assert len(lines) == 1
    assert message in lines[0]


@pytest.mark.parametrize("damage", ["zip", "deep", "shape", "note", "pipe"])
def test_hostile_cache_is_made_again(damage: str) -> None:
    root = write_photos(Path("in"), 3, (300, 300))

    def pairs() -> Tensor:
        return Photographs([str(root)], val_fraction=0, max_pairs=4).train_pairs().batch(torch.arange(4), 0).first

    whole = pairs().clone()
    (kept,) = Path("cache").iterdir()
    array, recipe = kept / "array.npy", kept / "recipe.json"
    if damage == "zip":
        np.savez("x.npz", np.zeros(3))
        array.write_bytes(Path("x.npz").read_bytes())
    elif damage == "deep":
        recipe.write_text("[" * 10**5)
    elif damage == "shape":
        array.write_bytes(array.read_bytes().replace(b"(2, 4,", b"(4, 2,"))
    elif damage == "note":
        recipe.write_text(recipe.read_text().replace("remarks", "rennrks"))
    else:
        array.unlink()
        os.mkfifo(array)
    assert torch.equal(pairs(), whole)


def test_a_bomb_takes_no_more_than_its_pixels() -> None:
    """In a process of its own; a picture of the most pixels would take 3 GiB."""
    Image.new("RGBA", (4000, 4000)).save("x.png")
    assert Path("x.png").stat().st_size < 10**6
    code = """
import resource
from pathlib import Path
from n2n.data.images import read_photograph
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_photograph(Path("x.png"), 3)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert int(done.stdout) * 1024 < 18 * 4000**2


@pytest.mark.parametrize("name", FORMATS)
def test_changed_files_of_every_format_are_read_or_refused(name: str) -> None:
    if name == "zarr":
        pytest.importorskip("zarr")
    tally = fuzz(name, 4 * FORMATS[name].share, 0, Path("faults").absolute())
    assert tally.faults == {}
    assert tally.inputs == 4 * FORMATS[name].share
    assert tally.refused or name == "cache"
