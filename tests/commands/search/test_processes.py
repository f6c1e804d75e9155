"""Several processes that share a search, one of which is killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from n2n.commands.search.attempts import attempts_of
from tests.commands.search.conftest import LR, write_search
from tests.devices.target import ALL
from tests.processes import Command

# Epochs of a trial, and those after which it waits for the one of the other process.
EPOCHS, TOGETHER = 6, 3
INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
# A database on a server is the harder one. test_attempts.py tries SQLite.
DATABASES = ["sqlite", "postgresql"] if os.environ.get(ALL) == "1" else ["postgresql" if INSTALLED else "sqlite"]

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture
def sqlite() -> str:
    return "sqlite:///study.db"


@pytest.fixture
def postgresql() -> Iterator[str]:
    """Start a server on the loopback, in a temporary folder; gives the URL of a database."""
    if not INSTALLED:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    # PostgreSQL refuses to run as root, and pytest's temporary folders are the user's alone.
    user = "nobody" if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp())
    if user:
        shutil.chown(folder, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    initdb = [
        f"{INSTALLED[-1]}/initdb",
        "-D",
        "data",
        "-U",
        "n2n",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]
    subprocess.run(initdb, cwd=folder, user=user, check=True, stdout=subprocess.DEVNULL)
    postgres = [f"{INSTALLED[-1]}/postgres", "-D", "data", "-h", "127.0.0.1", "-p", port, "-k", "", "-F"]
    server = subprocess.Popen(postgres, cwd=folder, user=user, stderr=subprocess.DEVNULL, text=True)
    try:
        ready = [f"{INSTALLED[-1]}/pg_isready", "-q", "-h", "127.0.0.1", "-p", port]
        while subprocess.run(ready, check=False).returncode:
            assert server.poll() is None
            time.sleep(0.05)
        yield f"postgresql+psycopg://n2n@127.0.0.1:{port}/postgres"
    finally:
        # Unlike SIGTERM, it does not wait for clients.
        server.send_signal(signal.SIGINT)
        server.wait()
        shutil.rmtree(folder)


def epochs_of_running(study: optuna.Study) -> list[int]:
    return [len(trial.intermediate_values) for trial in study.get_trials(states=[TrialState.RUNNING])]


@pytest.mark.parametrize("database", DATABASES)
def test_the_trial_of_a_killed_process_continues_from_its_checkpoint(
    database: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(database)
    gate = ("--trainer.callbacks", "tests.callbacks.Gate", "--trainer.callbacks.epoch", str(TOGETHER))
    command = [
        *write_search(epochs=EPOCHS, sampler="grid", space={LR: [1e-3, 1e-2, 1e-1]}),
        *("--storage", url, "--grace", "4", *gate, "--trainer.callbacks.file", str(Path("go").absolute())),
    ]
    killed, other = Command(*command), Command(*command)
    try:
        for process in (killed, other):
            process.wait_until(lambda: len(list(Path("lightning_logs/s").glob("trial_*"))) == 2)
        study = optuna.load_study(study_name="s", storage=url)
        other.wait_until(lambda: len(list(Path().glob("go.*"))) == 2)
        assert epochs_of_running(study) == [TOGETHER, TOGETHER]
        logs = set(Path("lightning_logs").rglob("events*"))
        killed.kill()
        Path("go").touch()
        assert other.wait() == 0, other.err
    finally:
        killed.kill()
        other.kill()
    output = other.out
    assert "3 trials: 3 finished" in output

    # The grid has each point once.
    done = study.get_trials(states=[TrialState.COMPLETE])
    assert len({tuple(trial.params.values()) for trial in done}) == len(done) == 3
    assert all(sorted(trial.intermediate_values) == list(range(EPOCHS)) for trial in done)

    ((number, (before, again)),) = [(number, own) for number, own in enumerate(attempts_of(study)) if len(own) > 1]
    assert (before.state, again.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert before.params == again.params
    assert f"trial {number} was begun before: it continues." in output
    # The epoch before which the process was killed, and those after it.
    trained = 0
    for log in set(Path(f"lightning_logs/s/trial_{number:04d}").glob("events*")) - logs:
        events = EventAccumulator(str(log))
        events.Reload()
        trained += len(events.Scalars("val/loss")) if "val/loss" in events.Tags()["scalars"] else 0
    assert len(before.intermediate_values) == TOGETHER
    assert trained == EPOCHS - TOGETHER
