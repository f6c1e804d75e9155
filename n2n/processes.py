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

# Seconds from one look to the next.
_POLL = 0.5
# How long an error may come before the death that caused it can be seen; and how long a process that failed by itself may
# take to say why, or to be ended by the first one, which says it.
_MOMENT, _PATIENCE = 2.0, 10.0


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
        advice: what the user can do.
    """

    def __init__(self, advice: str) -> None:
        self.advice = advice
        self.children: Sequence[subprocess.Popen[bytes]] = ()
        self.rank = int(os.environ.get("LOCAL_RANK", 0))
        self._parent = os.getppid()
        # Taken by whoever says the line, for good.
        self._turn = threading.Lock()

    def start(self, children: Sequence[subprocess.Popen[bytes]] = ()) -> None:
        """Begin to watch."""
        self.children = children
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

    def _run(self) -> None:
        while not (lost := self.lost()):
            if self.children and all(child.poll() == 0 for child in self.children):
                return
            time.sleep(_POLL)
        if not lost.killed:
            # It said why, and as a rule this one fails for the same reason.
            time.sleep(_PATIENCE)
        if self._turn.acquire(blocking=False):
            if self.rank <= 1:
                print(f"\nn2n: error: {lost.what}; {self.advice}", file=sys.stderr, flush=True)
            self.end()
            # Not sys.exit, which would end this thread alone.
            os._exit(1)

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
        if lost is None:
            return error
        if not self._turn.acquire(blocking=False):
            # The thread is about to end the process.
            time.sleep(_PATIENCE)
        return ProcessDiedError(f"{lost.what}; {self.advice}")


def _is_of_connections(error: Exception) -> bool:
    """Whether an error may come of another process's death, or that of its connection."""
    return any(word in str(error) for word in ("gloo", "NCCL", "Connection", "Broken pipe", "store", "peer"))


@contextmanager
def together(advice: str) -> Iterator[None]:
    """Train in one process, or as one of several: if one of them dies, the others end, with one line.

    Args:
        advice: what the user can do then, for the line.

    Raises:
        ProcessDiedError: if another process died.
    """
    watch, launcher = _Watch(advice), cast(Any, subprocess_script)
    # There is no setting for it: Lightning's own looks every five seconds, kills all, and says nothing.
    before, launcher._launch_process_observer = launcher._launch_process_observer, watch.start
    if watch.rank:
        watch.start()
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
        launcher._launch_process_observer = before
