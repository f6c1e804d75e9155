"""One process of a search: it runs trials, or waits for those of other processes, until all have ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from n2n.commands.search.attempts import REASON, attempts_of, current, cut_short, find, requeue, trials_of
from n2n.commands.search.configuration import FitConfig, arguments
from n2n.commands.search.results import best_trial, report, short_names, show, value_of, write_tables
from n2n.commands.search.space import Search, Value
from n2n.commands.search.study import give_up, make_sampler
from n2n.commands.search.trial import MINUTES, TrialFailed, run_trial
from n2n.errors import InputError
from n2n.system.files import write_text

# A search gives up if the first trials, this many, all fail: then the fault is not in the parameters.
_FAILURES = 3
# Seconds between two looks at the trials of other processes.
_POLL = 0.5
# The user attribute that holds the number of the attempt, once its heartbeat has begun.
_BEGUN = "begun"


class Worker:
    """One process of a search.

    Args:
        study: shared with other processes.
        search: the section.
        common: the configuration of all trials.
        config_file: ``common`` for ``n2n fit``.
        grace: seconds without a heartbeat after which another process counts as dead.
    """

    def __init__(self, study: optuna.Study, search: Search, common: FitConfig, config_file: Path, grace: int) -> None:
        self.study, self.search, self.common, self.config_file, self.grace = study, search, common, config_file, grace
        seed = common.content["seed_everything"]
        self._seed = int(seed) if isinstance(seed, int) else 0
        self._waits = False
        # When this process first saw an attempt of another one without a heartbeat.
        self._silent: dict[int, float] = {}

    def run(self) -> None:
        """Run trials until all have ended.

        Raises:
            InputError: if the first trials all fail.
            KeyboardInterrupt: on Ctrl-C or SIGTERM.
        """
        # Of the first trial alone: each then sets that of the next.
        self.study.sampler = make_sampler(self.search, len(attempts_of(self.study)), self._seed)
        try:
            while self._step():
                pass
        except KeyboardInterrupt:
            requeue(self.study, self.search)
            self._write(trials_of(self.study, self.search), [])
            raise

    def _step(self) -> bool:
        """Run a trial, or wait a moment; return False if all have ended."""
        queued = requeue(self.study, self.search)
        trials = trials_of(self.study, self.search)
        states = {trial.state for trial in trials}
        if queued or len(trials) < self.search.trials or TrialState.WAITING in states:
            self._work()
        elif TrialState.RUNNING in states:
            self._wait()
        else:
            return False
        return True

    def _work(self) -> None:
        self._lost = False
        try:
            self.study.optimize(self._objective, n_trials=1, catch=(TrialFailed,), callbacks=[self._ended])
        except ValueError:
            # Optuna cannot end a trial that another process has ended.
            if not self._lost:
                raise
            print("This process was silent for too long: its trial was queued again.", flush=True)

    def _objective(self, trial: optuna.Trial) -> float:
        trial.set_user_attr(_BEGUN, trial.number)
        number, attempt = find(self.study, trial.number)
        if number >= self.search.trials or attempt.number != trial.number:
            # Other processes were faster, and all trials are taken.
            raise TrialFailed
        if attempt.params:
            print(f"trial {number} was begun before: it continues.", flush=True)
        self.study.sampler = make_sampler(self.search, number, self._seed)
        suggested = self.search.suggest(trial)
        if not attempt.params:
            print(f"trial {number} begins: {self._describe(suggested)}", flush=True)
        chosen = arguments(suggested)
        folder = self.common.folder / f"trial_{number:04d}"
        try:
            return run_trial(trial, attempt, self.search, self._args(chosen), folder)
        except UpdateFinishedTrialError:
            self._lost = True
            raise

    def _args(self, chosen: list[str]) -> list[str]:
        """Return the arguments of a trial for ``n2n fit``."""
        args = ["fit", "--config", str(self.config_file), "--trainer.devices", "1"]
        args += ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
        if self.common.content["checkpoint"]["monitor"] is None:
            # A trial keeps the checkpoint of its value.
            args += ["--checkpoint.monitor", self.search.monitor, "--checkpoint.mode", self.search.direction[:3]]
        return [*args, *chosen]

    def _wait(self) -> None:
        attempts = [current(own) for own in attempts_of(self.study)[: self.search.trials]]
        running = [attempt for attempt in attempts if attempt.state == TrialState.RUNNING]
        if not self._waits:
            self._waits = True
            print(
                f"Waiting for other processes ({len(running)} at work). If one was killed, its trial continues here after "
                f"{self.grace} s.",
                flush=True,
            )
        optuna.storages.fail_stale_trials(self.study)
        for attempt in running:
            # Optuna ignores a process that was killed before its first heartbeat.
            if attempt.user_attrs.get(_BEGUN) != attempt.number:
                seen = self._silent.setdefault(attempt.number, time.monotonic())
                if time.monotonic() - seen > self.grace:
                    with contextlib.suppress(ValueError, UpdateFinishedTrialError):
                        self.study.tell(attempt.number, state=TrialState.FAIL)
        time.sleep(_POLL)

    def _ended(self, study: optuna.Study, attempt: FrozenTrial) -> None:
        """Print a line for a trial that has ended, and write the tables."""
        if cut_short(attempt):
            return
        self._waits = False
        number = find(study, attempt.number)[0]
        trials = trials_of(study, self.search)
        self._print(trials[number], trials)
        write_tables(trials, self.search, self.common.content, self.common.folder)
        ended = [trial for trial in trials if trial.state.is_finished()]
        if len(ended) >= min(_FAILURES, self.search.trials) and all(t.state == TrialState.FAIL for t in ended):
            give_up(study)
            reason = trials[number].user_attrs[REASON]
            raise InputError(f"the first {len(ended)} trials all failed, the last with: {reason}")

    def _describe(self, params: Mapping[str, Value]) -> str:
        names = short_names(self.search)
        return ", ".join(f"{names[key]} {show(params[key])}" for key in names if key in params)

    def _print(self, trial: FrozenTrial, trials: list[FrozenTrial]) -> None:
        parameters = self._describe(trial.params)
        value = value_of(trial, self.search)
        shown = "no value" if value is None else f"{value:.4f}"
        if trial.state == TrialState.FAIL:
            shown = f"failed: {trial.user_attrs[REASON]}"
        elif trial.state == TrialState.PRUNED:
            shown += ", pruned"
        line = f"trial {trial.number}: {parameters}: {shown}"
        if best := best_trial(trials, self.search):
            line += f"; best {best.value:.4f} (trial {best.number})"
        minutes = [t.user_attrs.get(MINUTES, 0.0) for t in trials if t.state.is_finished()]
        if left := self.search.trials - len(minutes):
            workers = 1 + sum(t.state == TrialState.RUNNING for t in trials)
            about = left * sum(minutes) / len(minutes) / workers
            line += f"; {len(minutes)} of {self.search.trials}, about {about:.1f} min left"
        print(line, flush=True)

    def finish(self) -> None:
        """Write the results and the plots, and print the report.

        Raises:
            InputError: if no trial has a value.
        """
        from n2n.commands.search.figures import draw

        trials = trials_of(self.study, self.search)
        content = self._write(trials, draw(trials, self.search, self.common.folder))
        print(f"\n{content.partition('![')[0].strip()}\n\nResults: {self.common.folder}")
        if best_trial(trials, self.search) is None:
            raise InputError(f"no trial of {self.common.name} has a value: trials.csv has the reasons")

    def _write(self, trials: list[FrozenTrial], plots: list[Path]) -> str:
        write_tables(trials, self.search, self.common.content, self.common.folder)
        content = report(trials, self.search, self.common.name, self.common.folder, plots)
        write_text(self.common.folder / "search.md", content)
        return content
