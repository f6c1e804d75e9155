from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import optuna
import pytest

from n2n.search.claims import WORKER, Claim, _here, next_trial


class _Waited(Exception):  # noqa: N818
    pass


def waited(others: int) -> None:
    raise _Waited(others)


def number(study: optuna.Study, trials: int) -> int:
    trial = next_trial(study, trials, waited)
    assert trial is not None
    return trial.number


def gone() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_trials_are_numbered_below_their_count() -> None:
    study = optuna.create_study()
    for i in range(2):
        trial = next_trial(study, 2, waited)
        assert trial is not None
        assert trial.number == i
        study.tell(trial, 0.0)
    assert next_trial(study, 2, waited) is None
    # Another process was faster: the one too many waits for a search with more trials, and has its number then.
    late = study.ask()
    study._storage.set_trial_state_values(late._trial_id, optuna.trial.TrialState.WAITING)
    assert next_trial(study, 2, waited) is None
    assert number(study, 3) == late.number == 2


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
            next_trial(study, 1, waited)
        return
    again = next_trial(study, 1, waited)
    assert again is not None
    assert again.number == trial.number
    assert again.params == trial.params
    with Claim(again) as claim:
        assert not claim.first
        assert claim.seconds >= 60.0
        # The first process wakes up, and finds that it has lost the trial.
        assert claim.held()
    # Another one takes it in turn.
    other = Claim(again)
    assert not claim.held()
    other.leave()
    assert number(study, 1) == trial.number
