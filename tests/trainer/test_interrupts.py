"""Ending the processes of a training that failed."""

from __future__ import annotations

import signal
import subprocess
import sys

import lightning as L
import pytest
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from n2n.trainer.interrupts import end_others


def test_the_first_process_outlives_those_that_it_ends() -> None:
    trainer = L.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False)
    launcher = trainer.strategy.launcher
    assert isinstance(launcher, _SubprocessScriptLauncher)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    # Lightning's thread looks at this list, and ends this process if one of it has failed.
    watched = launcher.procs
    watched.append(other)
    with pytest.raises(RuntimeError, match="it failed"), end_others(trainer):
        raise RuntimeError("it failed")
    assert other.wait(timeout=60) == -signal.SIGKILL
    assert watched == []
