from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from n2n.cli import main
from n2n.commands.search.attempts import REASON, attempts_of, requeue, retry, trials_of
from n2n.commands.search.space import read_search
from n2n.commands.search.storage import open_storage
from n2n.commands.search.trial import Reporter, can_continue
from tests.commands.search.conftest import LR, read_trials, write_search

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning", "ignore:Heartbeat:UserWarning")


def test_all_attempts_at_a_trial_are_one_trial() -> None:
    search = read_search({"sampler": "random", "trials": 3, "space": {"x": {"low": 0, "high": 9}}})
    study = optuna.create_study()
    first, second, third = (study.ask(), study.ask(), study.ask())
    for trial in (first, second):
        trial.suggest_int("x", 0, 9)
        trial.report(trial.number, 0)
    second.set_user_attr(REASON, "too large")
    for trial in (first, second):
        study.tell(trial, state=TrialState.FAIL)
    assert requeue(study, search)
    assert not requeue(study, search)
    assert [[attempt.number for attempt in own] for own in attempts_of(study)] == [[0, 3], [1], [2]]
    trials = trials_of(study, search)
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert [trial.state.name for trial in trials] == ["WAITING", "FAIL", "RUNNING"]
    assert trials[0].params == study.trials[0].params
    assert trials[0].intermediate_values == {0: 0}

    # Two processes found the same trial: the first attempt counts, also if the other was cut short later.
    retry(study, study.trials[0])
    study.tell(study.ask(), 1.0)
    study.tell(study.ask(), state=TrialState.FAIL)
    study.tell(third, 2.0)
    assert [[attempt.number for attempt in own] for own in attempts_of(study)] == [[0, 3, 4], [1], [2]]
    assert [trial.value for trial in trials_of(study, search)] == [1.0, None, 2.0]
    assert not requeue(study, search)


def test_sqlite_gives_a_queued_trial_to_one_process() -> None:
    open_storage("sqlite:///study.db", 60)
    study = optuna.create_study(study_name="s", storage="sqlite:///study.db")
    for _ in range(20):
        study.enqueue_trial({})
    barrier = threading.Barrier(4)

    def take(_: int) -> list[int]:
        own = optuna.load_study(study_name="s", storage=open_storage("sqlite:///study.db", 60))
        barrier.wait()
        return [own.ask().number for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        taken = [number for numbers in pool.map(take, range(4)) for number in numbers]
    assert sorted(taken) == list(range(20))


@pytest.mark.usefixtures("no_plots")
def test_a_process_that_lost_its_trial_takes_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Reporter.on_train_epoch_end

    def lose(self: Reporter, *args: Any) -> None:
        if not self.trial.user_attrs.get("lost"):
            self.trial.set_user_attr("lost", True)
            report(self, *args)
            other = optuna.load_study(study_name="s", storage="sqlite:///lightning_logs/s/study.db")
            other.tell(self.trial.number, state=TrialState.FAIL)
        else:
            report(self, *args)

    monkeypatch.setattr(Reporter, "on_train_epoch_end", lose)
    assert main(write_search(epochs=3, sampler="grid", space={LR: [1e-3]})) == 0
    shown = capsys.readouterr().out
    assert "silent for too long" in shown
    assert "trial 0 was begun before: it continues." in shown
    assert [(t["number"], t["state"], t["epochs"]) for t in read_trials()] == [("0", "complete", "3")]


@pytest.mark.usefixtures("no_plots")
def test_a_process_killed_before_its_first_heartbeat_loses_its_trial() -> None:
    command = [*write_search(sampler="grid", space={LR: [1e-3, 1e-2]}), "--grace", "2"]
    assert main([*command, "--trials", "1"]) == 0
    optuna.load_study(study_name="s", storage="sqlite:///lightning_logs/s/study.db").ask()
    assert main(command) == 0
    assert [t["state"] for t in read_trials()] == ["complete", "complete"]


def test_a_trial_continues_from_the_checkpoint_before_a_missing_one(checkpoint: Path) -> None:
    folder = Path("trial/checkpoints")
    folder.mkdir(parents=True)
    assert not can_continue(folder.parent)
    shutil.copy(checkpoint, folder / "before_last.ckpt")
    assert can_continue(folder.parent)
    (folder / "last.ckpt").write_bytes(b"damaged")
    assert not can_continue(folder.parent)
