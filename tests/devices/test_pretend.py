"""n2n on a device that is not the CPU, without one: the sweep on the pretended device, in a process for each profile."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from tests.devices import pretend
from tests.devices.target import VARIABLE

ROOT = Path(__file__).parents[2]
PYTEST = ["-m", "pytest", "-p", "no:xdist", "-o", "addopts=", "-q", "--tb=short", "--show-capture=no", "-W", "ignore"]

pytestmark = pytest.mark.skipif(
    not pretend.supported(), reason=f"torch {torch.__version__} has no devices written in Python: 2.11 and later have"
)


def test_sweep(tmp_path: Path) -> None:
    """Every part trains, resumes and predicts there as on the CPU; a failure lists the tests of the sweep that failed."""

    def sweep(profile: str) -> str:
        name = f"{pretend.NAME}-{profile}"
        environment = {**os.environ, VARIABLE: name, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *PYTEST, f"--basetemp={tmp_path / name}", str(Path(__file__).parent / "sweep")]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode == 0 and " passed" in done.stdout:
            return ""
        # The last lines name what failed; the errors stand before them.
        return f"On {name}:\n{done.stdout[-15_000:]}{done.stderr[-2000:]}"

    # Both at once, since each keeps one core busy.
    with ThreadPoolExecutor(2) as pool:
        failures = [text for text in pool.map(sweep, ["cuda", "mps"]) if text]
    assert not failures, "\n".join(failures)


def test_command(tmp_path: Path) -> None:
    """``python -m tests.devices.on_pretend`` runs the command; the exit status is its own."""
    command = [sys.executable, "-m", "tests.devices.on_pretend", "cuda", "validate", "--ckpt_path", "missing.ckpt"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "missing.ckpt" in done.stderr
    assert "Traceback" not in done.stderr
