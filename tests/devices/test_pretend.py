"""n2n on a device that is not the CPU, without one: the sweep on the pretended device, in a process for each profile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.devices import on_pretend, pretend
from tests.devices.target import ALL, VARIABLE
from tests.processes import run

PYTEST = ["-p", "no:xdist", "-o", "addopts=", "-q", "--tb=short", "--show-capture=no", "-W", "ignore"]

pytestmark = pytest.mark.skipif(
    not pretend.supported(), reason=f"torch {torch.__version__} has no devices written in Python: 2.11 and later have"
)


@pytest.mark.parametrize("profile", ["cuda", "mps"])
def test_sweep(profile: str, tmp_path: Path) -> None:
    """Every part trains, resumes and predicts there as on the CPU; a failure lists the tests of the sweep that failed."""
    # The two differ in what their kernels take; whole runs, their states and their data are moved alike.
    few = (
        ["-k", "(test_parts and not (optimizer or source or photographs or targets)) or test_denoiser or test_refusals"]
        if profile == "mps" and os.environ.get(ALL) != "1"
        else []
    )
    where = [f"--rootdir={Path(__file__).parents[2]}", f"--basetemp={tmp_path / 'sweep'}"]
    tests = str(Path(__file__).parent / "sweep")
    done = run([*PYTEST, *where, *few, tests], target=pytest.main, environment={VARIABLE: f"{pretend.NAME}-{profile}"})
    # The last lines name what failed; the errors stand before them.
    assert (done.poll(), " passed" in done.out) == (0, True), f"{done.out[-15_000:]}{done.err[-2000:]}"


def test_command() -> None:
    """``python -m tests.devices.on_pretend`` runs the command; the exit status is its own."""
    done = run(["cuda", "validate", "--ckpt_path", "missing.ckpt"], target=on_pretend.main)
    assert done.poll() == 2
    assert "missing.ckpt" in done.err
    assert "Traceback" not in done.err
