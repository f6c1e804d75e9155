"""The attempts at each trial of a search.

Optuna does not continue a trial whose process died: it marks the trial as failed and queues a copy with another number. For a
search, all these attempts are one trial. Trials are numbered by their first attempts, from 0 and without gaps.
"""

from __future__ import annotations

import copy

import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from n2n.commands.search.space import Search

# The user attribute that says why a trial failed.
REASON = "reason"

# Queues a copy of an attempt, with its parameters, attributes and reported values.
retry = RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)


def cut_short(attempt: FrozenTrial) -> bool:
    """Whether an attempt ended without a result: it was killed or interrupted, or another attempt counts."""
    return attempt.state == TrialState.FAIL and REASON not in attempt.user_attrs


def attempts_of(study: optuna.Study) -> list[list[FrozenTrial]]:
    """Return the attempts at each trial, both in the order in which they were made."""
    found: dict[int, list[FrozenTrial]] = {}
    for attempt in study.get_trials(deepcopy=False):
        first = RetryHeartbeatStaleTrialCallback.retried_trial_number(attempt)
        found.setdefault(attempt.number if first is None else first, []).append(attempt)
    return list(found.values())


def current(attempts: list[FrozenTrial]) -> FrozenTrial:
    """Return the attempt that counts: the first that was not cut short, or the last."""
    return next((attempt for attempt in attempts if not cut_short(attempt)), attempts[-1])


def find(study: optuna.Study, attempt: int) -> tuple[int, FrozenTrial]:
    """Return the trial to which an attempt belongs, and a copy of the attempt at it that counts."""
    for number, attempts in enumerate(attempts_of(study)):
        if any(one.number == attempt for one in attempts):
            return number, copy.deepcopy(current(attempts))
    raise KeyError(attempt)


def trials_of(study: optuna.Study, search: Search) -> list[FrozenTrial]:
    """Return the trials of a search: the attempts that count, with the numbers of the trials."""
    trials = [copy.copy(current(attempts)) for attempts in attempts_of(study)[: search.trials]]
    for number, trial in enumerate(trials):
        trial.number = number
    return trials


def requeue(study: optuna.Study, search: Search) -> bool:
    """Queue the trials whose attempts were all cut short; return whether there were any."""
    lost = [own[-1] for own in attempts_of(study)[: search.trials] if all(map(cut_short, own))]
    for attempt in lost:
        retry(study, attempt)
    return bool(lost)
