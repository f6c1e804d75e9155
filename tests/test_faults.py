"""Disks that are full, folders that may not be written, trainings that diverge."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from n2n.backbones import Model6
from n2n.cli import main
from tests.conftest import write_course
from tests.processes import Command, run
from tests.write_checkpoints import write_checkpoint

# Of Linux: namespaces of users and of mounts.
NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000


def can_mount(folder: Path) -> bool:
    folder.mkdir(exist_ok=True)
    script = 'mount -t tmpfs -o size=16k tmpfs "$1"'
    try:
        return subprocess.run(["unshare", "-rm", "sh", "-c", script, "sh", str(folder)], check=False).returncode == 0
    except OSError:
        return False


def in_namespace(disk: str, size: str, args: list[str], before: str, after: str) -> int:
    """Run a command on a file system of a few kilobytes, in a namespace of its own, so that nobody need be root."""
    user, group = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_USER | NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    for name, content in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path("/proc/self", name).write_text(content)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
    subprocess.run(["sh", "-c", before], check=True)
    os.chdir(disk)
    status = main(args)
    subprocess.run(["sh", "-c", after], check=True)
    return status


def small(disk: Path, size: str, *args: str, before: str = ":", after: str = "ls -A", **environment: str) -> Command:
    """Run a command of n2n on a disk of some size, and scripts before and after it."""
    return run(str(disk), size, list(args), before, after, target=in_namespace, environment=environment)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    if not can_mount(tmp_path / "disk"):
        pytest.skip("file systems cannot be mounted here")
    return tmp_path / "disk"


def fit_command(root: Path, *options: str) -> list[str]:
    fixed = ["--config", "data/ee559", "--data.source.root", str(root), "--trainer.accelerator", "cpu"]
    fixed += ["--trainer.enable_progress_bar", "false", "--data.batch_size", "20", "--name", "run"]
    return ["fit", "--config", "table1/model_final.yaml", *fixed, *options]


# What fits beside the first events; beside the best checkpoint, but not the last one too.
@pytest.mark.parametrize(("size", "kept"), [("24k", []), ("1800k", ["best.ckpt"])])
def test_a_training_on_a_full_disk_says_so_and_leaves_whole_files(
    size: str, kept: list[str], disk: Path, tmp_path: Path
) -> None:
    root = write_course(tmp_path / "data")
    folder = "lightning_logs/run/version_0/checkpoints"
    look = f"ls -A {folder} 2>/dev/null; cp {folder}/best.ckpt {tmp_path} 2>/dev/null; true"
    done = small(disk, size, *fit_command(root, "--trainer.max_epochs", "2"), after=look)
    assert done.poll() == 2
    assert "cannot be written (No space left on device): make room" in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    # There is no checkpoint to go on from yet.
    assert "what was saved before" not in done.err
    assert done.out.split() == kept
    for name in kept:
        assert torch.load(tmp_path / name, weights_only=True)["epoch"] == 0


def test_outputs_on_a_full_disk_are_whole_or_not_there(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "noisy").mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (100, 120, 3), dtype=np.uint8)).save(tmp_path / f"noisy/{i}.png")
    predict = ("predict", "--ckpt_path", "quick", "--input", str(tmp_path / "noisy"), "--output", "out")
    done = small(disk, "60k", *predict, after=f"cp -r out {tmp_path}")
    assert done.poll() == 2
    assert "n2n predict: error: cannot write out/1.png (No space left on device)" in done.err
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["0.png"]
    assert np.asarray(Image.open(tmp_path / "out/0.png")).shape == (100, 120, 3)


@pytest.mark.parametrize("file_format", ["onnx", "torch"])
def test_an_export_to_a_full_disk_leaves_nothing(file_format: str, disk: Path) -> None:
    if file_format == "onnx":
        pytest.importorskip("onnxscript")
    checkpoint = write_checkpoint(str(disk.parent / "x.ckpt"), Model6())
    done = small(disk, "60k", "export", "--ckpt_path", str(checkpoint), "--format", file_format)
    assert (done.poll(), done.out) == (2, "")
    assert "No space left on device" in done.err.splitlines()[-1]


def test_pairs_that_do_not_fit_into_the_cache_are_refused_before_they_are_made(disk: Path) -> None:
    fit = ("fit", "--config", "quick.yaml", "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1")
    done = small(disk, "2m", *fit, N2N_CACHE=".")
    assert done.poll() == 2
    assert re.search(r"the images need \d+ MB and \. has 2 MB free", done.err.splitlines()[-1])
    assert done.out == ""


def test_a_folder_that_may_not_be_written_is_named(disk: Path, tmp_path: Path) -> None:
    root = write_course(tmp_path / "data")
    done = small(disk, "1m", *fit_command(root), before=f"mount -o remount,ro {disk}")
    assert done.poll() == 2
    assert done.err.splitlines()[-1] == (
        "n2n fit: error: the run cannot be written to lightning_logs/run (Read-only file system): choose a folder that can be "
        "written with --trainer.default_root_dir"
    )


def fit(root: Path, *options: str) -> int:
    return main(fit_command(root, *options))


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_course(tmp_path / "data")
    options = ["--trainer.max_epochs", "9", "--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "1e12"]
    assert fit(root, *options, "--trainer.precision", "32-true") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the training diverged: the loss of step 2 of epoch 1 is not a finite number" in error
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
    assert " after epoch 2, and was " in error
    best = tmp_path / "lightning_logs/run/version_0/checkpoints/best.ckpt"
    assert (
        "What was saved before stays, and a new training may begin with it: --model.start_from lightning_logs/" in error
    )
    assert torch.load(best, weights_only=True)["epoch"] == 0
