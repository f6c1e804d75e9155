"""What a training says at its end, and where."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import fit, write_course
from tests.processes import Command


def test_the_checkpoint_is_named_before_the_comparison(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("n2n.trainer.ending.compare_with_filters", interrupted)
    assert fit(root=write_course(Path("data"))) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "n2n fit: stopped"
    assert "Checkpoint: lightning_logs/run/version_0/checkpoints/best.ckpt" in caplog.text
    assert "Denoise with it" not in caplog.text


def test_two_machines_need_no_common_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_course(tmp_path / "data")
    options = f"fit --config table1/model2 --config data/ee559 --root {root} --epochs 1 --trainer.accelerator cpu"
    options += " --trainer.num_nodes 2 --trainer.devices 1 --trainer.strategy ddp --trainer.enable_progress_bar false"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "LOCAL_RANK": "0"}
    machines = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        machines.append(Command(*options.split(), environment={**where, "NODE_RANK": str(number)}))
    assert [machine.wait() for machine in machines] == [0, 0], machines[0].err
    assert "beside classical filters" in machines[0].err
    (facts,) = (yaml.safe_load(file.read_text()) for file in tmp_path.rglob("run.yaml"))
    assert "noisy" in facts["baselines"]
