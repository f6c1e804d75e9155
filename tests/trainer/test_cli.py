from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import yaml

from n2n.cli import main
from n2n.module import DenoisingModule
from tests.conftest import fit, write_course


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_too_little_memory_is_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")

    root = write_course(tmp_path / "data")
    assert fit(root=root) == 0
    monkeypatch.setattr(DenoisingModule, "training_step" if command == "fit" else "validation_step", fail)
    checkpoint = "lightning_logs/run/version_0/checkpoints/last.ckpt"
    options = ["--ckpt_path", checkpoint, "--trainer.accelerator", "cpu"]
    assert main([command, *options, *(["--epochs", "2"] if command == "fit" else [])]) == 2
    sizes = "--data.batch_size (now 20) or --data.val_batch_size" if command == "fit" else "--data.val_batch_size (now "
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"n2n {command}: error: the memory of cpu is too small (CUDA out of memory" in line
    assert f": make {sizes}" in line
    assert "on_device" not in line


def test_a_table_that_another_program_holds_does_not_end_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As Excel does on Windows."""
    root = write_course(tmp_path / "data")
    replace = os.replace

    def held(source: Path, target: Path) -> None:
        if Path(target).name == "metrics.csv" and "epoch 1" not in caplog.text:
            raise PermissionError(13, "in use", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", held)
    monkeypatch.setattr("n2n.trainer.logger.WINDOWS", True)
    assert fit("--epochs", "2", root=root) == 0
    assert "metrics.csv is in use by another program; it lacks epoch 1 until this closes it" in caplog.text
    rows = Path("lightning_logs/run/version_0/metrics.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["epoch", "1", "2"]
    monkeypatch.setattr("n2n.trainer.logger.WINDOWS", False)
    caplog.clear()
    assert fit("--epochs", "2", root=root) == 2


@pytest.mark.parametrize("launched", [False, True])
def test_one_device_unless_several_are_asked_for(
    launched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_course(tmp_path / "data")
    if launched:  # by torchrun, which says how many processes there are
        for name in ("RANK", "LOCAL_RANK", "GROUP_RANK"):
            monkeypatch.setenv(name, "0")
        for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
            monkeypatch.setenv(name, "1")
    assert fit(root=root) == 0
    saved = yaml.safe_load(Path("lightning_logs/run/version_0/config.yaml").read_text())
    assert saved["trainer"]["devices"] == ("auto" if launched else 1)
