"""Which process works on which trial, so that several share a study, and a killed one's trial is taken up again."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

# The trial's attribute that says who works on it, since when it lives, and how long it took so far.
WORKER = "worker"
# Seconds between signs of life, and until a process without any counts as dead.
INTERVAL, GRACE = 10.0, 30.0
# Seconds between looks at what others do, when nothing is left to start.
_POLL = 0.5


def _here() -> str | None:
    """Return a name of the set of processes that this one can see, where there is one."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _dead(trial: FrozenTrial) -> bool:
    """Whether the process that works on a running trial is gone."""
    worker: dict[str, Any] = trial.user_attrs.get(WORKER, {})
    if "id" not in worker:
        # About to sign, or killed before it did.
        return trial.datetime_start is None or time.time() - trial.datetime_start.timestamp() > GRACE
    if worker["place"] is not None and worker["place"] == _here() and not Path(f"/proc/{worker['pid']}").exists():
        return True
    return bool(time.time() - worker["alive"] > worker["grace"])


class Claim:
    """Signs of life of this process on a trial, while it works on it.

    Optuna's own heartbeat is of its databases alone, and gives a dead process's trial another number.

    Args:
        trial: running, and this process's from now on.
        interval: seconds between signs of life.
        grace: seconds after which others may take the trial up.
    """

    def __init__(self, trial: Trial, interval: float = INTERVAL, grace: float = GRACE) -> None:
        self.trial = trial
        # Whether nobody worked on the trial before.
        self.first = WORKER not in trial.user_attrs
        self._storage, self._trial_id = trial.storage, trial._trial_id
        self._id, self._interval, self._grace = uuid.uuid4().hex, interval, grace
        self._before = float(trial.user_attrs.get(WORKER, {}).get("seconds", 0.0))
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._sign()

    @property
    def seconds(self) -> float:
        """Seconds that the trial took so far, those of processes before this one included."""
        return self._before + time.monotonic() - self._started

    def _sign(self) -> None:
        worker = {"id": self._id, "place": _here(), "pid": os.getpid(), "alive": time.time(), "grace": self._grace}
        self._storage.set_trial_user_attr(self._trial_id, WORKER, worker | {"seconds": self.seconds})

    def held(self) -> bool:
        """Whether the trial is still this process's: one that slept longer than the grace may have lost it."""
        from optuna.trial import TrialState

        trial = self._storage.get_trial(self._trial_id)
        return trial.state == TrialState.RUNNING and trial.user_attrs.get(WORKER, {}).get("id") == self._id

    def _live(self) -> None:
        while not self._stop.wait(self._interval):
            # A storage that cannot be reached for a moment is no reason to stop; the trial itself finds out if it stays so.
            with contextlib.suppress(Exception):
                if not self.held():
                    return
                self._sign()

    def __enter__(self) -> Claim:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def leave(self) -> None:
        """Leave the trial to the next process that asks, with what it took so far."""
        self._stop.set()
        if self.held():
            self._storage.set_trial_user_attr(self._trial_id, WORKER, {"seconds": self.seconds})
            _let_wait(self._storage, self._trial_id)


def _let_wait(storage: BaseStorage, trial_id: int) -> None:
    """Let a running trial of this process wait for the next process that asks."""
    from optuna.trial import TrialState

    storage.set_trial_state_values(trial_id, TrialState.WAITING)


@contextlib.contextmanager
def _alone(study: Study, what: str) -> Iterator[bool]:
    """Let one process in at a time; gives whether this is the one.

    What every storage does as a whole, and refuses to do twice, is to make a study of a name.
    """
    import optuna

    name = f"{study.study_name}: {what}"
    try:
        optuna.create_study(study_name=name, storage=study._storage)
    except optuna.exceptions.DuplicatedStudyError:
        yield False
        return
    try:
        yield True
    finally:
        optuna.delete_study(study_name=name, storage=study._storage)


def _take_up(study: Study, dead: FrozenTrial, interval: float, grace: float) -> Claim | None:
    """Claim a trial whose process is gone; None if another process was faster."""
    import optuna

    worker = dead.user_attrs.get(WORKER, {})
    # A process that is killed in here leaves its lock behind, so after another grace there is another lock.
    turn = int((time.time() - worker["alive"]) / grace) if "id" in worker else int(time.time() / grace)
    with _alone(study, f"trial {dead.number} of {worker.get('id', 'nobody')}, {turn}") as alone:
        now = study._storage.get_trial(dead._trial_id)
        if not alone or now.state != dead.state or now.user_attrs.get(WORKER, {}) != worker:
            return None
        return Claim(optuna.Trial(study, dead._trial_id), interval, grace)


def next_claim(
    study: Study, trials: int, waiting: Callable[[int], None], interval: float = INTERVAL, grace: float = GRACE
) -> Claim | None:
    """Begin a trial, or take up one whose process is gone; wait while others may still leave one.

    The trials of a search are those numbered below ``trials``. Optuna gives a waiting trial, lowest number first, to one
    process alone, and new trials consecutive numbers, so that no two processes have the same and none has too many.

    Args:
        study: shared.
        trials: how many in all.
        waiting: called once with the number of trials of others, if all that is left to do is to wait for them.
        interval: seconds between signs of life.
        grace: seconds after which others may take the trial up.

    Returns:
        The claim on the trial; None if all are finished.
    """
    from optuna.trial import TrialState

    told = False
    while True:
        known = [t for t in study.get_trials(deepcopy=False) if t.number < trials]
        running = [t for t in known if t.state == TrialState.RUNNING]
        for trial in running:
            if _dead(trial) and (claim := _take_up(study, trial, interval, grace)):
                return claim
        finished = sum(t.state.is_finished() for t in known)
        if finished == trials:
            return None
        if finished + len(running) < trials:
            new = study.ask()
            if new.number < trials:
                return Claim(new, interval, grace)
            # Another process was faster, and this one is too many: it waits for a search with more trials.
            _let_wait(study._storage, new._trial_id)
        elif not told:
            told = True
            waiting(len(running))
        time.sleep(_POLL)
