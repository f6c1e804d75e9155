"""``n2n search`` on the command line."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import warnings
from pathlib import Path

from n2n.errors import InputError
from n2n.system.options import CommandParser

_FORMAT = """\
The section search: of a configuration. Everything else in the file is a configuration of n2n fit.

  name: search/tpe            # results go to lightning_logs/NAME, trials to lightning_logs/NAME/trial_0000, ...
  search:
    sampler: tpe              # grid, tpe or random
    pruner: median            # none, median, hyperband, halving, or class_path and init_args of optuna.pruners
    trials: 30                # in total; for a grid, the default is all its points
    monitor: val/psnr        # the best epoch counts; by default val/psnr_per_image, or without clean images an estimate
    direction: maximize       # the default; minimize for losses and errors
    space:                    # any --key.path of n2n fit
      model.optimizer: [torch.optim.Adam, torch.optim.SGD]                     # a list: choices
      model.optimizer.init_args.lr: {low: 1.0e-4, high: 1.0e-1, log: true}     # a range of numbers
      data.batch_size: {low: 25, high: 200, step: 25}                          # integers; a grid needs a step

example:
  n2n search --config search/grid.yaml --config data/photos.yaml --root photos --epochs 3

The same command continues a search that was interrupted or killed. Started several times, the processes share the trials:
on one machine as it is, on several with one --storage postgresql+psycopg://USER@HOST/DATABASE (pip install "psycopg[binary]").
The results are best.yaml (for n2n fit --config), trials.csv, search.md and plots.
"""


def _parser() -> CommandParser:
    parser = CommandParser(
        "search",
        description="Search for the best values of any options of n2n fit, all of which can be given, too.",
        epilog=_FORMAT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="n2n search --config NAME [--trials N] [--storage URL] [--study NAME] [--grace SECONDS] [any option of n2n fit]",
    )
    parser.add_argument("--trials", type=int, metavar="N", help="trials in total, instead of the section's")
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="database: PostgreSQL or MySQL for several machines; default: SQLite, study.db in the search's folder",
    )
    parser.add_argument(
        "--study", metavar="NAME", help="name of the study in the database; default: the search's --name"
    )
    parser.add_argument(
        "--grace",
        type=int,
        default=60,
        metavar="SECONDS",
        help="a process without a sign of life for so long counts as dead, and another continues its trial; default: 60",
    )
    return parser


def main(args: list[str]) -> int:
    """Run ``n2n search``.

    Args:
        args: the command line after ``search``.

    Returns:
        0, or 130 after Ctrl-C or SIGTERM.

    Raises:
        InputError: for mistakes of the user.
    """
    options, rest = _parser().parse_known_args(args)
    if missing := [name for name in ("optuna", "matplotlib") if importlib.util.find_spec(name) is None]:
        raise InputError(f"n2n search needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    if options.grace < 2:
        raise InputError(f"--grace is {options.grace}: expected at least 2 seconds")

    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        # The heartbeat, for instance, is said to be experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _run(options, rest)


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from n2n.commands.search.configuration import FitConfig, take_section
    from n2n.commands.search.space import read_search
    from n2n.commands.search.storage import open_storage, storage_errors
    from n2n.commands.search.study import make_pruner, open_study
    from n2n.commands.search.worker import Worker

    try:
        fit_args, section = take_section(rest)
        search = read_search(section, options.trials)
        common = FitConfig(fit_args, [f"--{name}" for name in vars(options)])
        pruner = make_pruner(search, common.content["trainer"]["max_epochs"])
        common.check(search)
        if "monitor" not in section:
            figure = common.figure(search)
            if figure != search.monitor:
                # A direction that was given is that of the default figure.
                section = {name: value for name, value in section.items() if name != "direction"} | {"monitor": figure}
                search = read_search(section, options.trials)
        url = options.storage or f"sqlite:///{(common.folder / 'study.db').as_posix()}"
        storage = open_storage(url, options.grace)
        with storage_errors(url), tempfile.TemporaryDirectory() as folder:
            study = open_study(storage, options.study or common.name, search, common.settings(search), common.folder)
            study.pruner = pruner
            # Not in the search's folder, which other machines may share.
            config_file = Path(folder) / "fit.yaml"
            config_file.write_text(common.dump(), encoding="utf-8")
            worker = Worker(study, search, common, config_file, options.grace)
            worker.run()
            worker.finish()
    except KeyboardInterrupt:
        print("n2n search: interrupted; the same command continues from here.", file=sys.stderr)
        return 130
    return 0
