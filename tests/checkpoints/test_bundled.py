from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from n2n import Denoiser
from n2n.checkpoints.bundled import find_checkpoint, list_checkpoints, pretrained
from n2n.cli import main
from tests.conftest import write_course

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_all_that_come_with_n2n_denoise_by_their_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save("noisy.png")
    assert "quick" in pretrained()
    for name in pretrained():
        assert main(["predict", "--ckpt_path", name, "--input", "noisy.png", "--output", f"{name}.png"]) == 0
        denoised = np.asarray(Image.open(f"{name}.png"))
        assert denoised.shape == (40, 50, 3)
        # White noise has little left of it.
        assert denoised.std() < 0.7 * np.asarray(Image.open("noisy.png")).std()
        noisy = np.asarray(Image.open("noisy.png"))
        assert np.array_equal(Denoiser.from_checkpoint(name, "cpu")(noisy), denoised)


def test_a_name_that_is_neither_a_file_nor_bundled_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save("noisy.png")
    assert main(["predict", "--ckpt_path", "quikc", "--input", "noisy.png", "--output", "out.png"]) == 2
    error = capsys.readouterr().err
    assert (
        "quikc is not there (did you mean quick?): expected a checkpoint written by n2n fit, or one that comes" in error
    )
    assert main(["predict", "--ckpt_path", "nothing.ckpt", "--input", "noisy.png", "--output", "out.png"]) == 2
    error = capsys.readouterr().err
    assert "nothing.ckpt is not there: expected a checkpoint written by n2n fit, or one that comes with n2n (" in error
    assert "quick" in error
    assert not Path("out.png").exists()


def test_a_file_of_that_name_comes_first(tmp_path: Path) -> None:
    assert find_checkpoint("quick") == pretrained()["quick"]
    shutil.copy(pretrained()["quick"], "quick")
    assert find_checkpoint("quick") == Path("quick")


def test_an_old_name_still_works_and_says_the_new_one() -> None:
    with pytest.warns(UserWarning, match="the checkpoint best is called course now: name that"):
        assert find_checkpoint("best") == pretrained()["course"]
    # A file of that name comes first.
    Path("best").touch()
    assert find_checkpoint("best") == Path("best")


def test_predict_without_a_checkpoint_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--input", "x.png", "--output", "out"]) == 2
    error = capsys.readouterr().err
    assert all(line in error for line in list_checkpoints())
    assert "required: --ckpt_path" in error
    assert all(name in line and "  " in line for name, line in zip(pretrained(), list_checkpoints(), strict=True))


def test_validate_and_export_take_a_name(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A small network takes its place: to export that of quick takes long.
    monkeypatch.setattr("n2n.checkpoints.bundled.pretrained", lambda: {"quick": checkpoint})
    root = write_course(tmp_path / "data")
    options = ["--data.val_source", "n2n.data.CourseFiles", "--data.val_source.init_args.root", str(root)]
    assert main(["validate", "--ckpt_path", "quick", *options, "--trainer.accelerator", "cpu"]) == 0
    assert "val/psnr_per_image" in capsys.readouterr().out
    assert main(["export", "--ckpt_path", "quick", "--format", "torch"]) == 0
    assert Path("quick.pt2").is_file()


def test_they_are_in_the_wheel(tmp_path: Path) -> None:
    code = "from hatchling.build import build_wheel; print(build_wheel('.'))"
    copy = tmp_path / "n2n"
    wanted = ["n2n", "configs", "lightning_logs/reference"]
    for name in wanted:
        shutil.copytree(ROOT / name, copy / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(copy / done.stdout.strip().splitlines()[-1]) as wheel:
        names = wheel.namelist()
        assert {f"n2n/pretrained/{name}/checkpoints/best.ckpt" for name in pretrained()} <= set(names)
        wheel.extractall(tmp_path / "installed")
    show = "from n2n.checkpoints.bundled import pretrained; print(*pretrained(), *pretrained().values())"
    shown = subprocess.run(
        [sys.executable, "-c", show], cwd=tmp_path / "installed", capture_output=True, text=True, check=True
    ).stdout
    assert shown.startswith(" ".join(pretrained()))
    assert str(tmp_path / "installed" / "n2n" / "pretrained") in shown
