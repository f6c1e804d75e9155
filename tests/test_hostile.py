from __future__ import annotations

import io
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
from typing import Any

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
from tests.events import add_panel, write_events
from tests.fuzz.formats import FORMATS
from tests.fuzz.run import fuzz
from tests.write_checkpoints import write_checkpoint

FIGURES = {"train/loss": 0.5, "val/psnr": 20.0}


class Hostile:
    """Unpickling this leaves a mark."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("code-ran",)


class Takes:
    """Unpickling this takes as much memory as there is, by something that torch lets pass."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return bytearray, (2**38,)


SHELL = {"root": "subprocess.getoutput", "concrete_args": {"cmd": "mkdir code-ran", "encoding": None, "errors": None}}
SHELL_BY_TRACING = {"class_path": "torch.fx.symbolic_trace", "init_args": SHELL}


def everything() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, list[str]]:
    """Run the command; returns its status and its lines of errors and warnings."""
    capsys.readouterr()
    status = main(list(args))
    return status, [line for line in capsys.readouterr().err.splitlines() if "error: " in line or "warning: " in line]


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
    write_checkpoint("same.ckpt", "torch.nn.Identity")


def content(**changed: Any) -> dict[str, Any]:
    """What a checkpoint of a layer holds, with other values somewhere."""
    layer = torch.nn.Conv2d(3, 3, 1)
    spec = {"class_path": "torch.nn.Conv2d", "init_args": {"in_channels": 3, "out_channels": 3, "kernel_size": 1}}
    return {
        "pytorch-lightning_version": "2.6.0",
        "hyper_parameters": {"backbone": spec} | changed.pop("hyper_parameters", {}),
        "datamodule_hyper_parameters": {},
        "state_dict": {f"backbone.{name}": value for name, value in layer.state_dict().items()}
        | changed.pop("state_dict", {}),
        "n2n": {"image_channels": 3, "range": [0.0, 255.0], "dtype": "uint8"} | changed.pop("n2n", {}),
        **changed,
    }


def spec(class_path: object, **init_args: object) -> dict[str, Any]:
    return {"hyper_parameters": {"backbone": {"class_path": class_path, "init_args": init_args}}}


def doubled(times: int) -> list[Any]:
    """Lists of lists, of which a few hold any number of values."""
    value: list[Any] = [1]
    for _ in range(times):
        value = [value, value]
    return value


# A number that claims to be 400 millions.
EXPANDED = {"backbone.weight": torch.zeros(1).expand(20_000, 20_000, 1, 1)}
WIDE = {"in_channels": 20_000, "out_channels": 20_000, "kernel_size": 1, "bias": False}
CHECKPOINTS: dict[str, tuple[Any, str]] = {
    "code": (content(n2n={"range": Hostile()}), "holds more than tensors and plain values, and none of it was run"),
    "bytearray": (content(x=Takes()), "holds more than tensors and plain values"),
    "function": (content(hyper_parameters={"backbone": SHELL_BY_TRACING}), "symbolic_trace, which is no class"),
    "function by name": (content(**spec("torch.fx.symbolic_trace")), "symbolic_trace, which is no class"),
    "inner function": (content(**spec("torch.nn.Sequential", a=SHELL_BY_TRACING)), "symbolic_trace, which is no class"),
    "callable": (content(**spec("torch.nn.TransformerEncoderLayer", d_model=8, nhead=2, activation="os.system")),
                 "names os.system, which is no part of a network"),
    "standard library": (content(**spec("subprocess.Popen", args="mkdir code-ran")), "subprocess.Popen, which is no part"),
    "module with effects": (content(**spec("antigravity.X")), "antigravity.X, which is no part of a network"),
    "program": (content(**spec("pip.__main__.X")), "pip.__main__.X, which is no part of a network"),
    "no module": (content(**spec("numpy.ndarray", shape=[9])), "cannot build the backbone numpy.ndarray"),
    "not there": (content(**spec("nowhere.Net")), "is the package that defines it installed?"),
    "class of a line": (content(**spec("a\nb.C")), r"names a class by 'a\nb.C'"),
    "wide": (content(**spec("torch.nn.Conv2d", **WIDE)), "do not fit the backbone it names (it has many more)"),
    "wider than memory": (content(**spec("torch.nn.Linear", in_features=10**12, out_features=9)), "cannot build"),
    "wide and expanded": (content(**spec("torch.nn.Conv2d", **WIDE), state_dict=EXPANDED), "is not stored in full"),
    "deep": (content(**spec("n2n.backbones.DnCNN", depth=10**9)), "it has many more"),
    "negative": (content(**spec("torch.nn.Conv2d", in_channels=-3, out_channels=3, kernel_size=1)), "cannot build"),
    "doubled": (content(**spec("torch.nn.Conv2d", in_channels=doubled(60))), "more than 100,000 values"),
    "doubled channels": (content(n2n={"image_channels": doubled(60)}), "number of channels is none from 1 to 1024"),
    "doubled range": (content(n2n={"range": doubled(60)}), "the range in the checkpoint is no range"),
    "channels": (content(n2n={"image_channels": 10**9}), "number of channels is none from 1 to 1024"),
    "infinite range": (content(n2n={"range": [-1e308, 1e308]}), "expected two finite numbers"),
    "range of nothing": (content(n2n={"range": [0.0, 1e-320]}), "expected two finite numbers"),
    "huge range": (content(n2n={"range": [0, 10**400]}), "the range in the checkpoint is no range"),
    "sparse": (content(state_dict={"backbone.bias": torch.zeros(3).to_sparse()}), "is not stored in full"),
    "meta": (content(state_dict={"backbone.bias": torch.zeros(10**12, device="meta")}), "is not stored in full"),
    "weight of text": (content(state_dict={"backbone.bias": "text"}), "is not stored in full"),
    "no class": (content(**spec(5)), "it names a class by 5: expected package.Class"),
    "no backbone": (content(hyper_parameters={"backbone": "torch.fx.symbolic_trace"}), "does not say what its backbone is"),
    "a tensor": (torch.zeros(3), "is a PyTorch file of another kind"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_hostile_checkpoints_run_nothing_and_take_no_memory(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    made, message = CHECKPOINTS[name]
    torch.save(made, "x.ckpt")
    write_photos(Path("in"), 1)
    refused(capsys, "in", message, "x.ckpt")
    status, lines = run(capsys, "export", "--ckpt_path", "x.ckpt", "--format", "torch")
    assert (status, len(lines)) == (2, 1)
    assert message in lines[0]
    assert not Path("code-ran").exists()
    assert not Path("x.pt2").exists()


def test_whole_checkpoint_of_these_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(content(), "x.ckpt")
    write_photos(Path("in"), 1)
    assert predict(capsys, "in", "x.ckpt") == (0, [])


TRAINED: dict[str, tuple[dict[str, Any], str]] = {
    "function": ({"hyper_parameters": {"backbone": SHELL_BY_TRACING}}, "symbolic_trace, which is no class"),
    "function of the loss": ({"hyper_parameters": {"loss": SHELL_BY_TRACING}}, "symbolic_trace, which is no class"),
    "optimiser": ({"hyper_parameters": {"optimizer": "os.system"}}, "names os.system"),
    "source": (
        {"datamodule_hyper_parameters": {"source": {"class_path": "subprocess.Popen", "init_args": {"args": "ls"}}}},
        "names subprocess.Popen",
    ),
    "wide": (spec("torch.nn.Conv2d", **WIDE), "do not fit the backbone"),
    "doubled": ({"datamodule_hyper_parameters": {"x": doubled(60)}}, "more than 100,000 values"),
    "doubled callbacks": ({"callbacks": doubled(60)}, "more than 100,000 values"),
    "data of another kind": ({"datamodule_hyper_parameters": 5}, "does not say what it was trained on"),
    "version": ({"pytorch-lightning_version": "x"}, "cannot be resumed"),
    "loops": ({"loops": 5}, "cannot be resumed"),
    "callbacks": ({"callbacks": 5}, "cannot be resumed"),
    "other files": ({"callbacks": {"a": {"best_model_path": "checkpoints/../../precious"}}}, "outside its folder"),
    "further weights": ({"state_dict": {"x": torch.zeros(1)}}, "cannot be resumed"),
}


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("command", ["validate", "fit"])
def test_hostile_checkpoints_are_not_gone_on_with(name: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    changed, message = TRAINED[name]
    torch.save(content(**changed), "x.ckpt")
    root = write_course(Path("data"), 4, (3, 16, 16))
    data = ("--data.source", "n2n.data.CourseFiles", "--data.source.root", str(root))
    trainer = ("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false")
    status, lines = run(capsys, command, "--ckpt_path", "x.ckpt", *data, *trainer)
    assert (status, len(lines)) == (2, 1)
    assert message in lines[0]
    assert not Path("code-ran").exists()


FIT = (
    "--trainer.accelerator",
    "cpu",
    "--trainer.enable_progress_bar",
    "false",
    "--model.backbone.init_args.widths",
    "[4,4]",
)


def set_in(content: Any, path: list[Any], value: object) -> None:
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["optimizer_states", 0, "state", 0, "exp_avg"], torch.zeros(7)),
        (["optimizer_states", 0, "state", 0, "step"], torch.zeros(0)),
        (["optimizer_states", 0, "state", 0], {"step": torch.zeros(())}),
        (["optimizer_states", 0, "param_groups", 0, "betas"], "much"),
        (["n2n", "training", "random"], torch.zeros(3)),
        (["n2n", "training", "losses"], 5),
        (["n2n", "training", "least_val_loss"], "low"),
        (["n2n", "training", "loader"], [1]),
        (["n2n", "range"], "wide"),
        (["optimizer_states", 0], 5),
        (["loops", "fit_loop", "state_dict"], 5),
    ],
)
def test_trainings_of_another_state_are_not_gone_on_with(
    path: list[Any], value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_course(Path("data"), 4, (3, 16, 16))
    command = ("fit", "--config", "data/ee559", "--data.source.root", str(root), "--name", "x", *FIT)
    assert run(capsys, *command, "--trainer.max_epochs", "1")[0] == 0
    last = Path("lightning_logs/x/version_0/checkpoints/last.ckpt")
    made = torch.load(last, weights_only=True)
    set_in(made, path, value)
    torch.save(made, last)
    status, lines = run(capsys, *command, "--trainer.max_epochs", "2", "--ckpt_path", str(last))
    assert (status, len(lines)) == (2, 1)
    assert f"{last} cannot be resumed (" in lines[0]


def test_a_checkpoint_does_not_say_where_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(Path("in"), 3, (300, 300))
    source = {"root": ["in"], "cache_dir": "precious", "val_fraction": 0.5, "max_pairs": 4}
    data = {"source": {"class_path": "n2n.data.Photographs", "init_args": source}, "batch_size": 2}
    torch.save(content(datamodule_hyper_parameters=data), "x.ckpt")
    assert run(capsys, "validate", "--ckpt_path", "x.ckpt", *FIT[:4])[0] == 0
    assert Path("cache").is_dir()
    assert not Path("precious").exists()


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
    "npz by lzma": (lambda: npz(zipfile.ZIP_LZMA, npy_header("(8, 8)"), 0), "x.npz", "in a way that NumPy has not"),
    "npz that lies": (lambda: npz(8, npy_header("(900, 900)"), 0), "x.npz", "expected what it holds"),
    "zarr of nothing": (lambda: zarr_of(shape=[10**9, 10**5], chunks=[64, 64]), "x.zarr", "it was not written in full"),
    "zarr of one chunk": (lambda: zarr_of(shape=[60000, 60000], chunks=[60000, 60000]), "x.zarr", "x.zarr "),
    "zarr of a pipe": (zarr_with_a_pipe, "x.zarr", "has something in it that is no file"),
    "zarr of no size": (lambda: zarr_of(shape=[0, 8]), "x.zarr", "x.zarr "),
    "zarr of objects": (lambda: zarr_of(dtype="|O"), "x.zarr", "x.zarr "),
    "infinite": (lambda: save(np.full((8, 8, 3), np.inf, np.float32)), "x.npy", "192 values are NaN or infinite"),
    "NaN": (lambda: save(np.full((8, 8), np.nan)), "x.npy", "64 values are NaN or infinite"),
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


@pytest.mark.parametrize("ckpt", ["pipe", "folder", "loop", "none", "/dev/zero", "a" * 300, "empty"])
@pytest.mark.parametrize("command", ["predict", "export", "validate", "fit"])
def test_checkpoints_that_are_no_files(ckpt: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    Path("empty").touch()
    write_photos(Path("in"), 1)
    options = {"predict": ("--input", "in", "--output", "out"), "export": ("--format", "torch")}.get(command, ())
    status, lines = run(capsys, command, "--ckpt_path", ckpt, *options)
    assert (status, len(lines)) == (2, 1)
    assert ckpt in lines[0]


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
    return write_events(Path(name) / "events.out.tfevents.1", [(1, 60.0, FIGURES), (2, 120.0, FIGURES)])


def lying_record(length: int) -> bytes:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c  # type: ignore[import-untyped]

    head = struct.pack("<Q", length)
    return head + struct.pack("<I", int(masked_crc32c(head))) + b"x" * 100


@pytest.mark.parametrize("length", [2**31 - 1, 2**36, 2**63 - 1, 2**64 - 1])
def test_records_that_lie_take_no_memory(length: int, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    with run_folder().open("ab") as file:
        file.write(lying_record(length))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert run(capsys, "report", "run", "--output", "out")[0] == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**19


def picture(size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("1", size).save(out, "PNG")
    return out.getvalue()


def test_panels_that_no_panel_looks_like_end_soon(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    for size in ((1, 2**21), (4000, 4000)):
        add_panel(run_folder(f"{size[0]}"), picture(size), None, 20)
        status, lines = run(capsys, "report", f"{size[0]}", "--output", "out")
        assert (status, len(lines)) == (0, 1)
        assert "the last panel of" in lines[0]


RUNS: dict[str, tuple[Callable[[], object], str]] = {
    "batch size": (lambda: Path("run/config.yaml").write_text(f"data: {{batch_size: {10**400}}}"), ""),
    "date": (lambda: Path("run/config.yaml").write_text("a: 2020-99-99"), "month must be in 1..12"),
    "pipe": (lambda: os.mkfifo("run/config.yaml"), "is a device"),
    "doubled": (lambda: Path("run/config.yaml").write_text(CONFIGS["doubled"][0]), "more than 100,000 values"),
    "name": (lambda: Path("run").rename(os.fsdecode(b"run\xff\n")), "that is not UTF-8"),
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
