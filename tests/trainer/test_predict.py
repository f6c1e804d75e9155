from __future__ import annotations

import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from n2n.cli import main
from tests.conftest import write_photos
from tests.images import read_image
from tests.networks import Slow
from tests.processes import Command
from tests.write_checkpoints import mean, same, write_checkpoint


@pytest.fixture(autouse=True)
def _checkpoints() -> None:
    write_checkpoint("mean.ckpt", mean)
    write_checkpoint("same.ckpt", same)


def predict(source: str, target: str, *options: str, ckpt: str = "mean.ckpt") -> int:
    return main(["predict", "--ckpt_path", ckpt, "--input", source, "--output", target, "--device", "cpu", *options])


@pytest.mark.parametrize("size", [(33, 47), (1, 1), (600, 20)])
def test_names_and_sizes_are_kept(size: tuple[int, int]) -> None:
    write_photos(Path("in/deeper"), 2, size)
    assert predict("in", "out") == 0
    assert sorted(path.name for path in Path("out/deeper").iterdir()) == ["0.png", "1.png"]
    with Image.open("out/deeper/0.png") as image:
        assert (image.size, image.mode) == (size[::-1], "RGB")
    assert not Path("lightning_logs").exists()


def test_a_trained_network_removes_noise(checkpoint: Path) -> None:
    rng = np.random.default_rng(3)
    noisy = np.clip(128 + rng.normal(0, 20, (64, 64, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save("noisy.png")
    assert predict("noisy.png", "clean.png", ckpt=str(checkpoint)) == 0
    assert np.asarray(Image.open("clean.png")).astype(float).std() < 0.8 * noisy.std()


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.npy", "x.npz", "x.zarr"])
def test_a_network_that_changes_nothing_gives_the_same_image(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name.endswith("zarr"):
        pytest.importorskip("zarr")
    np.save("x.npy", np.random.default_rng(0).integers(0, 65536, (90, 70, 3), dtype=np.uint16))
    if name != "x.npy":
        assert predict("x.npy", name, ckpt="same.ckpt") == 0
    for options in (
        ["--tile", "32"],
        ["--tile", "32", "--overlap", "0", "--ensemble"],
        ["--precision", "32", "--batch", "2"],
    ):
        assert predict(name, "out", *options, "--overwrite", ckpt="same.ckpt") == 0
        assert np.array_equal(read_image(Path("out") / name), read_image(Path("x.npy")))
    assert f"warning: {name}: it has uint16 values" in capsys.readouterr().err


def test_opacity_passes_through_at_every_row() -> None:
    image = np.random.default_rng(0).integers(0, 256, (150, 40, 4), dtype=np.uint8)
    Image.fromarray(image).save("x.png")
    assert predict("x.png", "out", "--tile", "32") == 0
    written = np.asarray(Image.open("out/x.png"))
    assert np.array_equal(written[..., 3], image[..., 3])
    assert written[..., :3].std() < 0.6 * image[..., :3].std()


def test_pages_and_range() -> None:
    write_checkpoint("x.ckpt", mean, 1, range=[0, 4095], dtype="uint16")
    stack = np.random.default_rng(0).integers(1000, 4000, (3, 40, 50), dtype=np.uint16)
    tifffile.imwrite("x.tif", stack, imagej=True, metadata={"axes": "TYX"})
    assert predict("x.tif", "out", ckpt="x.ckpt") == 0
    expected = torch.nn.functional.avg_pool2d(torch.from_numpy(stack.astype(np.float32)), 3, 1, 1)
    assert np.abs(tifffile.imread("out/x.tif") - expected.numpy()).max() <= 0.51
    with tifffile.TiffFile("out/x.tif") as tiff:
        assert tiff.series[0].axes == "TYX"


@pytest.mark.parametrize(
    ("values", "dtype", "options", "remark"),
    [
        (4500, "uint16", [], "x.tif: its values go from 0 to 4500, outside the network's range of 0 to 4095"),
        (
            200,
            "float32",
            [],
            "x.tif: its values go from 0 to 200, outside the network's range of 0 to 1, and what lies below -1 or above 2 is "
            "not denoised: it looks like 8-bit",
        ),
        (200, "uint8", [], "x.tif: it has uint8 values and the network was trained on uint16: 0 to 255 was taken"),
        (4000, "uint16", [], None),
        (200, "float32", ["--range", "0", "255"], None),
    ],
)
def test_what_was_not_trained_on_is_warned_about(
    values: float, dtype: str, options: list[str], remark: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint("x.ckpt", mean, 1, range=[0, 4095], dtype="uint16")
    tifffile.imwrite("x.tif", np.array([[0, values]], dtype))
    assert predict("x.tif", "out", *options, ckpt="x.ckpt") == 0
    shown = capsys.readouterr().err
    assert (remark or "Denoised 1 of 1 image") in shown
    assert ("warning" in shown) == (remark is not None)


def test_one_bad_file_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(Path("in"), 2)
    Path("in/bad.png").write_text("no image")
    assert predict("in", "out") == 2
    assert sorted(path.name for path in Path("out").iterdir()) == ["0.png", "1.png"]
    last, count = capsys.readouterr().err.strip().splitlines()[-2:]
    assert "error: in/bad.png is not an image" in last
    assert count == "Denoised 2 of 3 images to out"


def test_outputs_are_replaced_only_if_asked() -> None:
    write_photos(Path("in"), 2)
    assert predict("in", "out") == 0
    before = Path("out/0.png").read_bytes()
    assert predict("in", "out", ckpt="same.ckpt") == 2
    assert Path("out/0.png").read_bytes() == before
    assert predict("in", "in") == 2
    assert predict("in", "out", "--overwrite", ckpt="same.ckpt") == 0
    assert np.array_equal(read_image(Path("out/0.png")), read_image(Path("in/0.png")))
    assert predict("in", "in", "--overwrite") == 0
    assert np.array_equal(read_image(Path("in/0.png"))[0], np.asarray(Image.open("in/0.png")))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are listed on Linux alone")
@pytest.mark.parametrize(
    "name", ["x.png", "x.jpg", "x.tif", "x.npy", "x.npz", "x.fits", "x.h5", "x.mrc", "x.exr", "x.pgm"]
)
def test_no_file_is_open_when_it_is_replaced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows replaces no file that is open."""
    needed = {"fits": "astropy", "h5": "h5py", "mrc": "mrcfile", "exr": "OpenEXR"}
    if (suffix := name.partition(".")[2]) in needed:
        pytest.importorskip(needed[suffix])
    dtype = np.float32 if suffix in ("exr", "mrc", "fits") else np.uint8
    np.save("first.npy", np.random.default_rng(0).integers(0, 256, (200, 70)).astype(dtype))
    if name != "x.npy":
        assert predict("first.npy", name, "--range", "0", "255", ckpt="same.ckpt") == 0
    else:
        Path("first.npy").rename(name)
    replace, replaced = os.replace, []

    def checked(source: Path, target: Path) -> None:
        replaced.append(target)
        held = {str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink() and os.path.lexists(fd)}
        assert str(Path(target).resolve()) not in held
        assert str(Path(source).resolve()) not in held
        assert str(Path(target).resolve()) not in Path("/proc/self/maps").read_text()
        replace(source, target)

    monkeypatch.setattr("os.replace", checked)
    for options in ((), ("--tile", "64")):
        assert predict(name, name, "--overwrite", "--range", "0", "255", *options) == 0
    assert replaced


def test_outputs_inside_the_input_are_no_inputs() -> None:
    write_photos(Path("in"), 1)
    for _ in range(2):
        assert predict("in", "in/denoised", "--overwrite") == 0
    assert sorted(str(path) for path in Path("in").rglob("*.png")) == ["in/0.png", "in/denoised/0.png"]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopping_leaves_no_half_file(stop: signal.Signals) -> None:
    np.save("x.npy", np.zeros((4000, 4000), np.float32))
    write_checkpoint("slow.ckpt", Slow(), 1)
    options = ("--ckpt_path", "slow.ckpt", "--input", "x.npy", "--output", "out", "--tile", "64", "--trust", "tests")
    process = Command("predict", *options, "--device", "cpu")
    process.wait_until(lambda: list(Path().glob("out/.n2n-*/x.npy")))
    process.send(stop)
    assert process.wait() == 128 + stop
    assert "Stopped: denoised 0 of 1 image" in process.err
    assert list(Path("out").iterdir()) == []


def test_help_names_formats_and_needs_no_torch() -> None:
    lines = ("import sys", "from n2n.cli import main", "try: main(['predict', '--help'])")
    code = "\n".join((*lines, "except SystemExit: print('torch' in sys.modules)"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
    assert "--overwrite" in done.stdout
    assert "TIFF" in done.stdout


def cut(name: str, save: Callable[[], object]) -> None:
    save()
    whole = Path(name).read_bytes()
    Path(name).write_bytes(whole[: len(whole) // 2])


def photo(name: str = "x.png") -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(name)
    return Path(name)


def npy_header(shape: str) -> bytes:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def png_header(width: int, height: int) -> None:
    photo()
    data = bytearray(Path("x.png").read_bytes())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    Path("x.png").write_bytes(data)


def lying_tiff() -> None:
    tifffile.imwrite("x.tif", np.zeros((64, 64), np.uint8))
    with tifffile.TiffFile("x.tif", mode="r+") as tiff:
        tiff.pages.first.tags[257].overwrite(100_000)


def other_checkpoint() -> Path:
    torch.save({"a": 1}, "mean.ckpt")
    return Path("mean.ckpt")


def save(array: object) -> Path:
    np.save("x.npy", np.asarray(array), allow_pickle=True)
    return Path("x.npy")


# What is made, what is asked for, and what comes back.
BAD: dict[str, tuple[Callable[[], object], str, str]] = {
    "text as png": (lambda: Path("x.png").write_text("hello"), "x.png out", "x.png is not an image that n2n reads"),
    "png cut off": (lambda: cut("x.png", photo), "x.png out", "x.png is damaged"),
    "jpeg cut off": (lambda: cut("x.jpg", lambda: photo("x.jpg")), "x.jpg out", "x.jpg is damaged"),
    "tiff cut off": (
        lambda: cut("x.tif", lambda: tifffile.imwrite("x.tif", np.zeros((64, 64), np.uint8))),
        "x.tif out",
        "x.tif is cut off: its pages need",
    ),
    "npy cut off": (lambda: cut("x.npy", lambda: save(np.zeros((64, 64), np.uint8))), "x.npy out", "x.npy is cut off"),
    "npz cut off": (
        lambda: cut("x.npz", lambda: np.savez("x.npz", np.zeros((64, 64), np.uint8))),
        "x.npz out",
        "x.npz is damaged or not an .npz file",
    ),
    "empty png": (lambda: Path("x.png").touch(), "x.png out", "x.png is empty (0 bytes)"),
    "empty tiff": (lambda: Path("x.tif").touch(), "x.tif out", "x.tif is empty (0 bytes)"),
    "empty npy": (lambda: Path("x.npy").touch(), "x.npy out", "x.npy is not an array that NumPy saved"),
    "text as tiff": (lambda: Path("x.tif").write_text("hello"), "x.tif out", "x.tif is damaged or not a TIFF image"),
    "text as npz": (lambda: Path("x.npz").write_text("hello"), "x.npz out", "x.npz is damaged or not an .npz file"),
    "text as zarr": (lambda: Path("x.zarr").write_text("hello"), "x.zarr out", "x.zarr is not a zarr array"),
    "npy of objects": (
        lambda: save(np.array([[{}]], dtype=object)),
        "x.npy out",
        "Python objects, none of which was loaded",
    ),
    "npy that lies": (
        lambda: Path("x.npy").write_bytes(npy_header("(1000000, 1000000)")),
        "x.npy out",
        "x.npy is cut off: its header says 1000000×1000000 uint8, and the file has 0 bytes of them",
    ),
    "npy of no shape": (lambda: Path("x.npy").write_bytes(npy_header("(0, 5)")), "x.npy out", "holds no pixels"),
    "tiff that lies": (lying_tiff, "x.tif out", "x.tif is cut off: its pages need 6,400,256 bytes"),
    "png of 60000×60000": (lambda: png_header(60000, 60000), "x.png out", "x.png claims over 178,956,970 pixels"),
    "complex": (
        lambda: save(np.zeros((4, 4), complex)),
        "x.npy out",
        "x.npy holds complex128 values: expected one of uint8",
    ),
    "int64": (lambda: save(np.zeros((4, 4), int)), "x.npy out", "x.npy holds int64 values: expected one of uint8"),
    "one axis": (lambda: save(np.zeros(4)), "x.npy out", "x.npy holds an array of 1 axes"),
    "several arrays": (lambda: np.savez("x.npz", a=[1], b=[2]), "x.npz out", "x.npz holds 2 arrays (a, b)"),
    "missing file": (lambda: None, "none.png out", "none.png is not there"),
    "no images": (lambda: Path("empty").mkdir(), "empty out", "there is no image in empty"),
    "output inside a file": (
        lambda: (photo(), Path("f").write_text("a file")),
        "x.png f/out",
        "f is a file; name a folder",
    ),
    "output is the input": (photo, "x.png x.png", "would replace the input x.png"),
    "output is there": (lambda: (photo(), photo("y.png")), "x.png y.png", "y.png exists already"),
    "folder into a file": (
        lambda: (write_photos(Path("in")), Path("f").write_text("a file")),
        "in f",
        "f is a file and --input a folder",
    ),
    "format that cannot hold it": (lambda: save(np.zeros((4, 4))), "x.npy x.png", "PNG cannot hold float64 values"),
    "bad checkpoint": (
        lambda: (photo(), Path("mean.ckpt").write_text("x")),
        "x.png out",
        "mean.ckpt is damaged or not",
    ),
    "other checkpoint": (
        lambda: (photo(), other_checkpoint()),
        "x.png out",
        "PyTorch file of another kind",
    ),
    "range": (photo, "x.png out --range 5 1", "the range is 5 to 1"),
    "tile": (photo, "x.png out --tile 7", "tile is 7"),
    "batch": (photo, "x.png out --batch 0", "batch is 0"),
    "precision": (photo, "x.png out --precision 7", "precision is 7"),
    "device": (photo, "x.png out --device quantum", "quantum cannot be used"),
    "unknown option": (photo, "x.png out --fast", "unrecognized arguments: --fast"),
    "counts": (
        lambda: (photo(), write_checkpoint("mean.ckpt", mean, range=[0.0, 9000.0], dtype="float32")),
        "x.png out",
        "x.png: uint8 values for a network trained on float32 values from 0 to 9000: say with --range",
    ),
}


@pytest.mark.parametrize(("source", "target"), [("", "out"), ("x.png", "")])
def test_an_empty_name_is_not_the_current_folder(source: str, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    photo()
    before = Path("x.png").read_bytes()
    assert predict(source, target, "--overwrite") == 2
    assert "expected names that are not empty" in capsys.readouterr().err
    assert Path("x.png").read_bytes() == before
    assert not Path("out").exists()


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line_and_leaves_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    make, command, message = BAD[name]
    make()
    before = sorted(str(path) for path in Path().rglob("*") if path.is_file())
    source, target, *options = command.split()
    assert predict(source, target, *options) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "n2n predict: error: " in line]
    assert len(errors) == 1
    assert message in errors[0]
    assert len(errors[0]) < 400
    assert sorted(str(path) for path in Path().rglob("*") if path.is_file()) == before


def test_unwritable_output_gets_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    photo()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    assert predict("x.png", "out") == 2
    assert "error: cannot write out/x.png (No space left on device)" in capsys.readouterr().err
    monkeypatch.setattr("os.access", lambda *_: False)
    assert predict("x.png", "other") == 2
    assert "may not be written to" in capsys.readouterr().err
