"""Commands of n2n in processes of their own, forked from one that has imported Lightning: that alone takes five seconds."""

from __future__ import annotations

import fcntl
import importlib
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from n2n.cli import main
from tests.conftest import shorten_endings

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["n2n.trainer.run", "n2n.trainer.prediction_cli", "pytest"])
ROOT = str(Path(__file__).parents[1])
# Seconds that a command may take at the very most, on a machine that does much else.
LONGEST = 300


def _run(
    target: Callable[..., Any], args: tuple[Any, ...], environment: dict[str, str], folder: str, said: str
) -> None:
    os.setsid()
    # As in a terminal: what a shell starts in the background ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # What Lightning starts for a second device.
    sys.modules["__main__"] = importlib.import_module("n2n.__main__")
    if target is main:
        sys.argv = ["n2n", *args[0]]
    shorten_endings(pytest.MonkeyPatch())
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(f"{said}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        # Held by this process and by those that it starts, until the last of them ends.
        fcntl.flock(file, fcntl.LOCK_SH)
        os.dup2(file, number)
        os.close(file)
    sys.exit(target(*args))


class Command:
    """A process in a group of its own that runs one command of n2n, in the current folder and environment.

    Args:
        *args: of the command, or of another function.
        target: that function, at the top of a module.
        environment: variables beside the current ones.
    """

    def __init__(
        self, *args: Any, target: Callable[..., Any] | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._said = tempfile.TemporaryDirectory()
        called = (target, args) if target is not None else (main, (list(args),))
        # For the classes of tests, in processes that this one starts.
        path = {"PYTHONPATH": os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))}
        there = (dict(os.environ) | path | dict(environment or {}), str(Path.cwd()), self._said.name)
        self._process = _FORKS.Process(target=_run, args=(*called, *there))
        self._process.start()

    @property
    def pid(self) -> int:
        """Number of the process, and of its group."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status, the number of the signal below zero, or None while the process runs."""
        return self._process.exitcode

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds; fails if the process ends before."""
        until = time.monotonic() + LONGEST
        while not condition():
            assert self.poll() is None, self.err
            assert time.monotonic() < until, self.err
            time.sleep(0.02)

    def wait(self) -> int:
        """Wait for the end; returns as ``poll``. A process that takes too long is killed."""
        self._process.join(LONGEST)
        if self._process.exitcode is None:
            self.kill()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def wait_for_all(self) -> int:
        """Wait for the end of this process and of all that it started; returns as ``poll``.

        Raises:
            TimeoutError: if one of them takes too long; all are killed then.
        """
        status, until = self.wait(), time.monotonic() + LONGEST
        with (Path(self._said.name) / "err").open() as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return status
                except BlockingIOError:
                    if time.monotonic() > until:
                        os.killpg(self.pid, signal.SIGKILL)
                        raise TimeoutError(f"a process that {self.pid} started did not end") from None
                    time.sleep(0.05)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process, if it still runs, and wait for its end."""
        self._process.kill()
        self._process.join()

    @property
    def out(self) -> str:
        """What it has said so far."""
        return (Path(self._said.name) / "out").read_text()

    @property
    def err(self) -> str:
        """Its errors and its log so far."""
        return (Path(self._said.name) / "err").read_text()


def barrier(parties: int) -> Barrier:
    """Return what lets so many processes begin something at one instant."""
    return _FORKS.Barrier(parties, timeout=LONGEST)


def run(*args: Any, **options: Any) -> Command:
    """Run a command to its end."""
    command = Command(*args, **options)
    command.wait()
    return command


def on_two_devices(*args: str) -> Command:
    """Run a command in two processes, which a cluster's scheduler could have started so; returns the first of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "NODE_RANK": "0"}
    options = ("--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    ranks = [Command(*args, *options, environment={**where, "LOCAL_RANK": str(rank)}) for rank in range(2)]
    for command in ranks:
        assert command.wait() == 0, command.err
    return ranks[0]
