"""``n2n search`` on the command line."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from n2n.commands.search.claims import GRACE, INTERVAL
from n2n.errors import InputError
from n2n.system.options import CommandParser

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from n2n.commands.search.configuration import FitConfig
    from n2n.commands.search.space import Search

# A search in which nothing else happens than this many failures has a fault that is not the parameters'.
_FAILURES = 3

_FORMAT = """\
The section search: of a configuration; all else in it is a configuration of n2n fit.

  name: search/tpe            # results go to lightning_logs/NAME, trials to lightning_logs/NAME/trial_0000, ...
  search:
    sampler: tpe              # grid, tpe or random
    pruner: median            # none, median, hyperband, halving, or class_path and init_args of optuna.pruners
    trials: 30                # in all; of a grid: all its points, unless fewer are asked for
    monitor: val/psnr_per_image   # best epoch of a trial counts
    direction: maximize       # the default, but for losses and errors
    space:                    # any --key.path of n2n fit
      model.optimizer: [torch.optim.Adam, torch.optim.SGD]                     # a list: choices
      model.optimizer.init_args.lr: {low: 1.0e-4, high: 1.0e-1, log: true}     # a range of numbers
      data.batch_size: {low: 25, high: 200, step: 25}                          # integers, if all are; step for a grid

example:
  n2n search --config search/grid.yaml --config data/photos.yaml --data.source.init_args.root photos --trainer.max_epochs 3

The same command again goes on where the search was, also after a kill. Started several times at once, also on several machines
with one --storage, the processes share the trials. The results are best.yaml (for n2n fit --config), trials.csv, search.md
and plots.
"""


def _parser() -> CommandParser:
    parser = CommandParser(
        "search",
        description="Search the configuration of n2n fit for its best values. All options of n2n fit can be given, too.",
        epilog=_FORMAT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="n2n search --config NAME [--trials N] [--storage URL] [--study NAME] [any option of n2n fit]",
    )
    parser.add_argument("--trials", type=int, metavar="N", help="trials in all, instead of the section's")
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="any storage of Optuna, such as postgresql://..., or the path of a journal, which ends in .log and suits network "
        "file systems; default: sqlite, study.db in the search's folder",
    )
    parser.add_argument(
        "--study", metavar="NAME", help="name of the study in the storage; default: the search's --name"
    )
    parser.add_argument("--heartbeat", type=float, default=INTERVAL, help=argparse.SUPPRESS)
    parser.add_argument("--grace", type=float, default=GRACE, help=argparse.SUPPRESS)
    return parser


@dataclass
class _Run:
    """A search in this process."""

    study: Study
    search: Search
    common: FitConfig
    config_file: Path
    heartbeat: float
    grace: float
    failures: int = 0

    def trials(self) -> list[FrozenTrial]:
        """Return the trials of the search, finished or not."""
        return [t for t in self.study.get_trials(deepcopy=False) if t.number < self.search.trials]

    def args(self, chosen: list[str]) -> list[str]:
        """Return the arguments of a trial for ``n2n fit``."""
        args = ["fit", "--config", str(self.config_file), "--trainer.devices", "1"]
        for name in ("enable_progress_bar", "enable_model_summary"):
            args += [f"--trainer.{name}", "false"]
        if self.common.content["checkpoint"]["monitor"] is None:
            # The checkpoint that a trial keeps is that of its value.
            args += ["--checkpoint.monitor", self.search.monitor, "--checkpoint.mode", self.search.direction[:3]]
        return [*args, *chosen]

    def tell(self, number: int) -> None:
        """Print one line for a trial that ended."""
        from n2n.commands.search.results import best_trial, short_names, show, value_of
        from n2n.commands.search.trial import MINUTES, REASON

        trials = self.trials()
        trial = next(t for t in trials if t.number == number)
        names = short_names([parameter.key for parameter in self.search.parameters])
        parameters = ", ".join(f"{names[key]} {show(trial.params[key])}" for key in names if key in trial.params)
        value, state = value_of(trial, self.search), trial.state.name
        shown = "no value" if value is None else f"{value:.4f}"
        if state == "FAIL":
            shown = f"failed: {trial.user_attrs.get(REASON)}"
        elif state == "PRUNED":
            shown += ", pruned"
        line = f"trial {number}: {parameters}: {shown}"
        if best := best_trial(self.study, self.search):
            line += f"; best {best.value:.4f} (trial {best.number})"
        done = [t for t in trials if t.state.is_finished()]
        minutes = [t.user_attrs[MINUTES] for t in done if MINUTES in t.user_attrs]
        left = self.search.trials - len(done)
        if minutes and left:
            workers = 1 + sum(t.state.name == "RUNNING" for t in trials)
            line += f"; {len(done)} of {self.search.trials}, about {left * sum(minutes) / len(minutes) / workers:.1f} min left"
        print(line, flush=True)

    def step(self) -> bool:
        """Run one trial; returns whether there may be another."""
        from n2n.commands.search.claims import next_claim
        from n2n.commands.search.configuration import arguments
        from n2n.commands.search.results import write_cheap
        from n2n.commands.search.study import give_up, make_sampler
        from n2n.commands.search.trial import REASON, run_trial

        def waiting(others: int) -> None:
            print(f"All trials are begun; waiting for {others} of other processes.", flush=True)

        claim = next_claim(self.study, self.search.trials, waiting, self.heartbeat, self.grace)
        if claim is None:
            return False
        trial, seed = claim.trial, self.common.content["seed_everything"]
        self.study.sampler = make_sampler(self.search, trial.number, int(seed) if isinstance(seed, int) else 0)
        with claim:
            if not claim.first:
                print(f"trial {trial.number} was begun before: it goes on.", flush=True)
            args = self.args(arguments(self.search.suggest(trial)))
            folder = self.common.folder / f"trial_{trial.number:04d}"
            ended = run_trial(self.study, self.search, args, folder, claim)
        if not ended:
            print(f"trial {trial.number} was taken up by another process meanwhile.", flush=True)
            return True
        self.tell(trial.number)
        write_cheap(self.study, self.search, self.common.content, self.common.folder)
        trials = self.trials()
        self.failures += 1
        finished = [t for t in trials if t.state.is_finished()]
        if any(t.state.name != "FAIL" for t in finished):
            self.failures = 0
        if self.failures >= min(_FAILURES, self.search.trials):
            give_up(self.study)
            reason = next(t.user_attrs.get(REASON) for t in trials if t.number == trial.number)
            raise InputError(f"the first {len(finished)} trials all failed, the last one so: {reason}")
        return True

    def finish(self, plots: bool) -> None:
        """Write and print the results."""
        from n2n.commands.search.results import best_trial, report, write_cheap
        from n2n.system.files import write_text

        folder = self.common.folder
        write_cheap(self.study, self.search, self.common.content, folder)
        files = []
        if plots:
            from n2n.commands.search.figures import draw

            files = draw(self.study, self.search, folder)
        content = report(self.study, self.search, self.common.name, folder, files)
        write_text(folder / "search.md", content)
        if plots:
            print(f"\n{content.partition('![')[0].strip()}\n\nResults: {folder}")
            if best_trial(self.study, self.search) is None:
                raise InputError(f"no trial of {self.common.name} was finished: trials.csv says why")


def main(args: list[str]) -> int:
    """Run ``n2n search``.

    Args:
        args: the command line after ``search``.

    Returns:
        0, or 130 after Ctrl-C.

    Raises:
        InputError: for what the user can mend.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(args)
    if missing := [name for name in ("optuna", "matplotlib") if importlib.util.find_spec(name) is None]:
        raise InputError(f'n2n search needs {" and ".join(missing)}: pip install "n2n[experiments]"')
    if not 0 < options.heartbeat < options.grace:
        raise InputError(
            f"--heartbeat is {options.heartbeat:g} and --grace {options.grace:g}: expected 0 < heartbeat < grace"
        )

    from n2n.commands.search.configuration import FitConfig, take_section
    from n2n.commands.search.space import read_search
    from n2n.commands.search.study import make_pruner, open_storage, open_study, quiet, storage_errors

    run = None
    try:
        with quiet():
            fit_args, section = take_section(rest)
            search = read_search(section, options.trials)
            common = FitConfig(fit_args, parser._option_string_actions)
            common.check(search)
            url = options.storage or f"sqlite:///{(common.folder / 'study.db').as_posix()}"
            storage = open_storage(url)
            with storage_errors(url):
                identity = {f"search.{key}": value for key, value in search.identity().items()} | common.identity()
                study = open_study(storage, options.study or common.name, search, identity, common.folder)
                study.pruner = make_pruner(search, common.content["trainer"]["max_epochs"])
                # Not in the search's folder, where a process could see the file of another machine.
                with tempfile.TemporaryDirectory() as folder:
                    config_file = Path(folder) / "fit.yaml"
                    config_file.write_text(common.dump(common.config), encoding="utf-8")
                    run = _Run(study, search, common, config_file, options.heartbeat, options.grace)
                    while run.step():
                        pass
                run.finish(plots=True)
    except KeyboardInterrupt:
        if run is not None:
            with quiet():
                run.finish(plots=False)
        print("n2n search: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0
