"""Commands of n2n in processes that start at once: forked from one that has imported what they need."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

# For the children; torch must not have computed anything before they are forked.
import n2n.trainer.run  # noqa: F401
from n2n.cli import main


class Child:
    """A process that runs one command of n2n, and writes what that says into a file.

    Args:
        args: of the command.
        log: the file.
        before: what the process does first.
    """

    def __init__(self, args: list[str], log: Path, before: Callable[[], object] = lambda: None) -> None:
        self.log = log
        self.status: int | None = None
        self.pid = os.fork()
        if not self.pid:
            self._run(args, before)

    def _run(self, args: list[str], before: Callable[[], object]) -> None:
        status = 70
        try:
            file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1)
            os.dup2(file, 2)
            before()
            status = main(args)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def poll(self) -> int | None:
        """Return the exit status, the number of the signal below zero, or None while the process runs."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status

    def wait(self) -> int:
        """Wait for the end; returns as ``poll``."""
        while (status := self.poll()) is None:
            time.sleep(0.005)
        return status

    def kill(self) -> bool:
        """Kill the process; returns whether it still ran."""
        if self.poll() is not None:
            return False
        os.kill(self.pid, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL
