from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from n2n.cli import main
from n2n.data import Captures, Photographs
from n2n.data.images.left_out import left_out
from tests.conftest import write_photos
from tests.images import read_image
from tests.write_checkpoints import mean, write_checkpoint


def predict(source: str, target: str, *options: str) -> int:
    write_checkpoint("mean.ckpt", mean)
    return main(
        ["predict", "--ckpt_path", "mean.ckpt", "--input", source, "--output", target, "--device", "cpu", *options]
    )


def write_others(folder: str) -> None:
    hidden = (".hidden.heic", ".git/d.lif", "array.zarr/e.lif", "Thumbs.db", "deep/desktop.ini")
    for name in ("a.heic", "deep/b.HEIC", "c.lif", "README", *hidden):
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_files_that_are_left_out_are_counted_by_suffix(capsys: pytest.CaptureFixture[str]) -> None:
    write_others("in")
    assert left_out(["in"]) is not None
    assert str(left_out(["in", "none"])).startswith("left out: 2 .heic, 1 without a suffix, 1 .lif (n2n reads PNG")
    assert predict("in/deep", "out") == 2
    assert "there is no image in in/deep (left out: 1 .heic" in capsys.readouterr().err
    Path("in/array.zarr/e.lif").unlink()
    Path("in/array.zarr").rmdir()
    write_photos(Path("in"), 1)
    Path("in/out").mkdir()
    Path("in/out/f.lif").write_bytes(b"x")
    assert predict("in", "in/out") == 0
    first, last = capsys.readouterr().err.strip().splitlines()[-2:]
    assert first.startswith("n2n predict: left out: 2 .heic, 1 without a suffix, 1 .lif (n2n reads PNG")
    assert last == "Denoised 1 of 1 image to in/out"
    assert predict("in/0.png", "out") == 0
    assert "left out" not in capsys.readouterr().err


def test_folders_that_are_not_searched_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(Path("in/deep"), 1)
    Path("elsewhere").mkdir()
    for name in ("one", "two", ".hidden", "array.zarr"):
        Path("in", name).symlink_to("../elsewhere")
    assert str(left_out(["in"])).startswith("left out: 2 linked folders (n2n reads PNG")
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("deep"):
            raise PermissionError
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert str(left_out(["in"])).startswith("left out: 2 linked folders, 1 unreadable folder (n2n reads PNG")


def test_one_line_for_a_warning_of_many_images(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    for number in range(4):
        tifffile.imwrite(f"in/{number}.tif", np.full((8, 8, 3), 1000 + number, np.uint16), photometric="rgb")
    tifffile.imwrite("in/4.tif", np.full((8, 8, 3), 300.0 + number, np.float32), photometric="rgb")
    assert predict("in", "out") == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    many, one = (line for kind in ("uint16 values", "float32 values") for line in lines if kind in line)
    assert many.startswith("n2n predict: warning: 4 images: it has uint16 values")
    assert many.endswith(", such as in/0.tif")
    assert one.startswith("n2n predict: warning: in/4.tif: it has float32 values")
    assert read_image(Path("out/3.tif")).dtype == np.uint16


def test_training_counts_them_too() -> None:
    rng = np.random.default_rng(0)
    for name in ("a_0", "a_1", "b_0", "b_1", "c_0", "c_1"):
        Path("captures").mkdir(exist_ok=True)
        np.save(f"captures/{name}.npy", rng.integers(90, 110, (40, 40), dtype=np.uint8))
    write_others("captures")
    Path("captures/array.zarr/e.lif").unlink()
    Path("captures/array.zarr").rmdir()
    source = Captures("captures", patch=16, patches=4, val_fraction=0.34, check=False, cache_dir="cache")
    assert "left out: 2 .heic, 1 without a suffix, 1 .lif" in "\n".join(source.train_pairs().remarks)
    write_photos(Path("photos"), 3, (96, 96))
    Path("photos/notes.txt").write_text("x")
    photographs = Photographs("photos", val_fraction=0.34, crop=64, crops_per_photo=2, cache_dir="cache")
    assert "left out: 1 .txt" in "\n".join(photographs.train_pairs().remarks)


def test_a_name_that_begins_with_a_tilde_is_no_home_folder() -> None:
    checkpoint = write_checkpoint("mean.ckpt", mean, 3)
    Image.fromarray(np.full((20, 30, 3), 100, np.uint8)).save("~t.png")
    command = ["predict", "--ckpt_path", str(checkpoint), "--input", "~t.png", "--output", "out", "--device", "cpu"]
    assert main(command) == 0
    assert Path("out/~t.png").is_file()
