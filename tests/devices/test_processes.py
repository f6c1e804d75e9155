from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
import torch

from n2n.cli import main
from tests.conftest import write_course
from tests.devices.target import ALL
from tests.processes import Command, on_two_devices, run


def scores(shown: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"(val/\w+)\s+([\d.]+)", shown)}


def test_two_devices_measure_what_one_does(checkpoint: Path) -> None:
    # 20 images: unequal shares, and batches that do not fill up.
    command = ["validate", "--ckpt_path", str(checkpoint), "--trainer.accelerator", "cpu"]
    command += ["--trainer.precision", "32-true"]
    one = scores(run(*command).out)
    two = scores(on_two_devices(*command, "--data.val_batch_size", "3").out)
    assert len(one) == 6
    assert two == pytest.approx(one, rel=1e-4)


def test_two_devices_train_as_one_on_the_same_global_batch(tmp_path: Path) -> None:
    root = write_course(tmp_path / "data")
    common = [
        "fit",
        "--config",
        "table1/model_final.yaml",
        "--config",
        "data/ee559.yaml",
        "--data.source.root",
        str(root),
    ]
    common += ["--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--trainer.max_epochs", "2"]
    # Adam's own, 1e-8, makes large steps of gradients that are nothing but rounding.
    common += ["--model.optimizer.eps", "1e-4"]
    assert main([*common, "--name", "one", "--data.batch_size", "20"]) == 0
    on_two_devices(*common, "--name", "two", "--data.batch_size", "10")
    one, two = (
        torch.load(f"lightning_logs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("one", "two")
    )
    for key, value in one.items():
        assert torch.allclose(value, two[key], atol=1e-5), key


def fit(root: Path, batch_size: int) -> list[str]:
    return [
        *(
            "fit",
            "--config",
            "table1/model2.yaml",
            "--config",
            "data/ee559",
            "--data.source.root",
            str(root),
            "--name",
            "run",
        ),
        *("--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--trainer.max_epochs", "3"),
        *("--trainer.enable_progress_bar", "false", "--data.batch_size", str(batch_size)),
    ]


@pytest.mark.parametrize(("rank", "stuck"), [(0, False), (1, True)] if os.environ.get(ALL) == "1" else [(1, True)])
def test_the_death_of_a_process_ends_the_other_and_the_training_can_be_resumed(
    rank: int, stuck: bool, tmp_path: Path
) -> None:
    root = write_course(tmp_path / "data")
    # 6 steps an epoch: the ninth is in the second.
    death = [
        *("--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.callbacks+", "tests.callbacks.Kill"),
        *("--trainer.callbacks.step", "9", "--trainer.callbacks.rank", str(rank)),
        *("--trainer.callbacks.stuck", str(stuck).lower()),
    ]
    process = Command(*fit(root, 5), *death)
    # Lightning ends a process that is stuck by SIGKILL.
    assert process.wait_for_all() == -signal.SIGKILL
    assert "Traceback" not in process.err
    last = Path("lightning_logs/run/version_0/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["epoch"] == 0
    assert main([*fit(root, 10), "--ckpt_path", "last"]) == 0
    assert torch.load(last, weights_only=True)["epoch"] == 2
