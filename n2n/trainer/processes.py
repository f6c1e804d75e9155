"""The processes of a training on several devices: where one dies the others end, and one line says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from lightning.pytorch.strategies.launchers import subprocess_script

from n2n.errors import InputError, ProcessDiedError

# What the user can do.
_ADVICE = {
    "fit": "what was saved is whole, and the same command with --ckpt_path last goes on from it",
    "validate": "start it again",
}
# Seconds from one look to the next.
_POLL = 0.5
# How long an error may come before the death that caused it can be seen; and how long a process that failed by itself may
# take to say why, or to be ended by the first one, which says it.
_MOMENT, _PATIENCE = 2.0, 10.0

# The processes that this one started.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class _Loss:
    """A process that ended too early.

    Attributes:
        what: for the user.
        killed: whether it could not say anything itself.
    """

    what: str
    killed: bool


class _Watch:
    """Looks after the processes that the first one starts, or, in those, after the first one.

    What a process that is left waits for may never come, so that it cannot end by itself: then a thread of this ends it.

    Args:
        command: ``fit`` or ``validate``.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        # Those of an earlier training of this process, such as of a comparison, take part in the next one too.
        self.children: Sequence[subprocess.Popen[bytes]] = _started
        self.rank = int(os.environ.get("LOCAL_RANK", 0))
        self._parent = os.getppid()
        # Taken by whoever says the line, for good.
        self._turn = threading.Lock()
        self._over = threading.Event()
        if self.rank or self.children:
            self._start()

    def watch(self, children: Sequence[subprocess.Popen[bytes]]) -> None:
        """Watch processes that this one has just started."""
        _started[:] = children
        self._start()

    def _start(self) -> None:
        threading.Thread(target=self._run, daemon=True, name="n2n-processes").start()

    def lost(self) -> _Loss | None:
        """Look whether a process died, and return the first that did."""
        if self.rank:
            return None if os.getppid() == self._parent else _Loss("the first process of this training died", True)
        for number, child in enumerate(self.children, 1):
            if code := child.poll():
                how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with status {code}"
                return _Loss(f"process {number} of 0 to {len(self.children)} {how}", code < 0)
        return None

    def line(self, lost: _Loss) -> str:
        """Say what happened, and how to go on."""
        return f"{lost.what}; {_ADVICE[self.command]}"

    def _run(self) -> None:
        while not (lost := self.lost()):
            if self._over.wait(_POLL):
                return
        if not lost.killed and self._over.wait(_PATIENCE):
            # It said why, and as a rule this one fails for the same reason.
            return
        if self._turn.acquire(blocking=False):
            if self.rank <= 1:
                print(f"\nn2n {self.command}: error: {self.line(lost)}", file=sys.stderr, flush=True)
            self.end()
            # Not sys.exit, which would end this thread alone.
            os._exit(1)

    def leave(self) -> None:
        """Watch no longer."""
        self._over.set()

    def end(self) -> None:
        """End the processes that this one started."""
        for child in self.children:
            if child.poll() is None:
                child.kill()

    def explain(self, error: Exception) -> Exception:
        """Return what a process that is left should raise in the place of its error."""
        waiting = _MOMENT if not self.rank or not _is_of_connections(error) else _PATIENCE
        end = time.monotonic() + waiting
        while not (lost := self.lost()) and time.monotonic() < end:
            time.sleep(_POLL / 10)
        if lost is None or not (lost.killed or _is_of_connections(error)):
            return error
        if not self._turn.acquire(blocking=False):
            # The thread is about to end the process.
            time.sleep(_PATIENCE)
        return ProcessDiedError(self.line(lost))


def _is_of_connections(error: Exception) -> bool:
    """Whether an error may come of another process's death, or that of its connection."""
    return any(word in str(error) for word in ("gloo", "NCCL", "Connection", "Broken pipe", "store", "peer"))


@contextmanager
def together(command: str) -> Iterator[None]:
    """Train in one process, or as one of several: if one of them dies, the others end, with one line.

    Args:
        command: ``fit`` or ``validate``.

    Raises:
        ProcessDiedError: if another process died.
    """
    watch, launcher = _Watch(command), cast(Any, subprocess_script)
    # There is no setting for it: Lightning's own looks every five seconds, kills all, and says nothing.
    before, launcher._launch_process_observer = launcher._launch_process_observer, watch.watch
    try:
        yield
    except InputError:
        watch.end()
        raise
    except Exception as error:
        if not watch.rank and not watch.children:
            raise
        better = watch.explain(error)
        watch.end()
        if watch.rank > 1 and isinstance(better, ProcessDiedError):
            # One line is enough.
            os._exit(1)
        raise better from error
    finally:
        watch.leave()
        launcher._launch_process_observer = before
