from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import optuna
import pytest

from n2n.commands.search.claims import WORKER, Claim, _here, next_claim
from n2n.commands.search.study import open_storage


class _Waited(Exception):  # noqa: N818
    pass


def waited(others: int) -> None:
    raise _Waited(others)


def begin(study: optuna.Study, trials: int) -> Claim:
    claim = next_claim(study, trials, waited)
    assert claim is not None
    return claim


def gone() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_trials_are_numbered_below_their_count() -> None:
    study = optuna.create_study()
    for i in range(2):
        claim = begin(study, 2)
        assert claim.first
        assert claim.trial.number == i
        study.tell(claim.trial, 0.0)
    assert next_claim(study, 2, waited) is None
    # Another process was faster: the one too many waits for a search with more trials, and has its number then.
    late = study.ask()
    study._storage.set_trial_state_values(late._trial_id, optuna.trial.TrialState.WAITING)
    assert next_claim(study, 2, waited) is None
    assert begin(study, 3).trial.number == late.number == 2


@pytest.mark.parametrize(
    ("worker", "taken"),
    [
        ({"place": None, "alive": 0.0}, False),
        ({"place": None, "alive": -29.0}, False),
        ({"place": None, "alive": -31.0}, True),
        ({"place": "another machine", "alive": 0.0, "pid": gone()}, False),
        ({"place": _here(), "alive": 0.0, "pid": gone()}, _here() is not None),
    ],
)
def test_a_trial_without_signs_of_life_is_taken_up(worker: dict[str, Any], taken: bool) -> None:
    study = optuna.create_study()
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    full = {"id": "other", "pid": 0, "grace": 30.0, "seconds": 60.0} | worker | {"alive": time.time() + worker["alive"]}
    trial.set_user_attr(WORKER, full)
    if not taken:
        with pytest.raises(_Waited, match="1"):
            next_claim(study, 1, waited)
        return
    with begin(study, 1) as claim:
        assert claim.trial.number == trial.number
        assert claim.trial.params == trial.params
        assert not claim.first
        assert claim.seconds >= 60.0
        assert claim.held()
        # It slept too long, and another process took the trial.
        other = Claim(claim.trial)
        assert not claim.held()
        other.leave()
    assert study.trials[0].state == optuna.trial.TrialState.WAITING
    assert begin(study, 1).trial.number == trial.number
    assert len(study.trials) == 1
    assert optuna.get_all_study_names(study._storage) == [study.study_name]


@pytest.mark.parametrize("url", ["sqlite:///study.db", "study.log"])
def test_of_many_that_find_a_dead_trial_one_takes_it_up(url: str) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(url))
    worker = {"id": "other", "place": None, "pid": 0, "alive": 0.0, "grace": 30.0, "seconds": 0.0}
    study.ask().set_user_attr(WORKER, worker)
    barrier = threading.Barrier(4)

    def take(_: int) -> bool:
        own = optuna.load_study(study_name="s", storage=open_storage(url))
        barrier.wait()
        try:
            return next_claim(own, 1, waited) is not None
        except _Waited:
            return False

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(take, range(4))) == 1
    assert len(study.trials) == 1
