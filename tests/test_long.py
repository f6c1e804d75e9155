"""Small forms of what ``tests.long`` does in large numbers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.long import kills, two_fits
from tests.long.coverage import coverage
from tests.long.many_files import measure
from tests.processes import run


def script(script: Callable[[], int], *args: str) -> str:
    """Run a script in a process of its own, since it forks."""
    done = run(script, args, target=start)
    assert done.poll() == 0, done.out + done.err
    return done.out


def start(script: Callable[[], int], args: tuple[str, ...]) -> int:
    sys.argv = ["script", *args]
    return script()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc here")
def test_many_files_take_no_more_memory_and_open_files_than_few(tmp_path: Path) -> None:
    samples = measure(tmp_path, 300)
    warm, rest = samples[: len(samples) // 3], samples[len(samples) // 3 :]
    assert len(rest) > 5
    # The files that are read, denoised and written at one moment differ a little.
    assert max(one.files for one in rest) <= max(one.files for one in warm) + 4
    assert max(one.memory for one in rest) < max(one.memory for one in warm) + 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_two_trainings_started_at_one_instant_share_the_cache_and_not_the_folder() -> None:
    assert script(two_fits.main, "--rounds", "1").strip() == "1 of 1 well"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_killed_trainings_end_as_if_they_had_not_been() -> None:
    assert "all ended with the weights of a training that was never killed" in script(kills.main, "--kills", "2")


def test_coverage_of_the_blind_interval() -> None:
    assert coverage("smooth", 3, 1) is None
    # 95 of 100 expected.
    assert (coverage("smooth", 10, 100) or 0) >= 0.88
