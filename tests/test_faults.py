"""Disks that are full, folders that may not be written, trainings that diverge."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from n2n.cli import main
from tests.conftest import write_course

# A file system of a few kilobytes, in a namespace of its own, so that nobody need be root.
SMALL = 'mount -t tmpfs -o size={size} tmpfs "$1" && cd "$1" && {command}'


def can_mount(folder: Path) -> bool:
    return small(folder, "16k", "true").returncode == 0


def small(folder: Path, size: str, command: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    script = SMALL.format(size=size, command=command)
    try:
        return subprocess.run(
            ["unshare", "-rm", "sh", "-c", script, "sh", str(folder)], capture_output=True, text=True, check=False
        )
    except OSError:
        return subprocess.CompletedProcess([], 1)


def n2n(*args: str) -> str:
    return shlex.join([sys.executable, "-m", "n2n", *args])


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("N2N_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    if not can_mount(tmp_path / "disk"):
        pytest.skip("file systems cannot be mounted here")
    return tmp_path / "disk"


def fit_command(root: Path, *options: str) -> str:
    fixed = ["--config", "data/ee559", "--data.source.root", str(root), "--trainer.accelerator", "cpu"]
    fixed += ["--trainer.enable_progress_bar", "false", "--data.batch_size", "20", "--name", "run"]
    return n2n("fit", "--config", "table1/model_final.yaml", *fixed, *options)


# What fits beside the first events; beside the best checkpoint, but not the last one too.
@pytest.mark.parametrize(("size", "kept"), [("24k", []), ("1800k", ["best.ckpt"])])
def test_a_training_on_a_full_disk_says_so_and_leaves_whole_files(
    size: str, kept: list[str], disk: Path, tmp_path: Path
) -> None:
    root = write_course(tmp_path / "data")
    folder = "lightning_logs/run/version_0/checkpoints"
    look = f"status=$?; ls -A {folder} 2>/dev/null; cp {folder}/best.ckpt {tmp_path} 2>/dev/null; exit $status"
    done = small(disk, size, f"{fit_command(root, '--trainer.max_epochs', '2')}; {look}")
    assert done.returncode == 2
    assert "cannot be written (No space left on device): make room" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout.split() == kept
    for name in kept:
        assert torch.load(tmp_path / name, weights_only=True)["epoch"] == 0


def test_outputs_on_a_full_disk_are_whole_or_not_there(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "noisy").mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (100, 120, 3), dtype=np.uint8)).save(tmp_path / f"noisy/{i}.png")
    predict = n2n("predict", "--ckpt_path", "quick", "--input", str(tmp_path / "noisy"), "--output", "out")
    done = small(disk, "60k", f"{predict}; status=$?; cp -r out {tmp_path}; exit $status")
    assert done.returncode == 2
    assert "n2n predict: error: cannot write out/1.png (No space left on device)" in done.stderr
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["0.png"]
    assert np.asarray(Image.open(tmp_path / "out/0.png")).shape == (100, 120, 3)


@pytest.mark.parametrize("file_format", ["onnx", "torch"])
def test_an_export_to_a_full_disk_leaves_nothing(file_format: str, disk: Path) -> None:
    if file_format == "onnx":
        pytest.importorskip("onnxscript")
    done = small(disk, "60k", f"{n2n('export', '--ckpt_path', 'quick', '--format', file_format)}; echo $?; ls -A")
    assert done.stdout.split() == ["2"]
    assert "No space left on device" in done.stderr.splitlines()[-1]


def test_pairs_that_do_not_fit_into_the_cache_are_refused_before_they_are_made(disk: Path) -> None:
    fit = n2n("fit", "--config", "quick.yaml", "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1")
    done = small(disk, "2m", f"N2N_CACHE=. {fit}; status=$?; ls -A; exit $status")
    assert done.returncode == 2
    assert "the images need 147 MB and . has 2 MB free" in done.stderr.splitlines()[-1]
    assert done.stdout == ""


def test_a_folder_that_may_not_be_written_is_named(disk: Path, tmp_path: Path) -> None:
    root = write_course(tmp_path / "data")
    done = small(disk, "1m", f"mount -o remount,ro {disk}; cd {disk}; {fit_command(root)}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "n2n fit: error: the run cannot be written to lightning_logs/run (Read-only file system): choose a folder that can be "
        "written with --trainer.default_root_dir"
    )


def fit(root: Path, *options: str) -> int:
    fixed = ["--config", "data/ee559", "--data.source.root", str(root), "--trainer.accelerator", "cpu"]
    fixed += ["--trainer.enable_progress_bar", "false", "--data.batch_size", "20", "--name", "run"]
    return main(["fit", "--config", "table1/model_final.yaml", *fixed, *options])


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_course(tmp_path / "data")
    options = ["--trainer.max_epochs", "9", "--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "1e12"]
    assert fit(root, *options, "--trainer.precision", "32-true") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the training diverged: the loss of step 2 of epoch 0 is not a finite number" in error
    assert (
        "lower the learning rate, which is 1e+12 here, or limit the gradients (--trainer.gradient_clip_val 1)" in error
    )
    assert error.endswith("Nothing had been saved yet")
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_network_that_collapses_stops_the_training_and_its_best_checkpoint_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_course(tmp_path / "data")
    options = ["--model.backbone", "tests.networks.Collapsing", "--trainer.max_epochs", "9"]
    assert fit(root, *options) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the training diverged: val/loss is " in error
    assert " after epoch 1, and was " in error
    best = tmp_path / "lightning_logs/run/version_0/checkpoints/best.ckpt"
    assert "What was saved before stays: " in error
    assert torch.load(best, weights_only=True)["epoch"] == 0
