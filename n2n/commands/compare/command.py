"""``n2n compare``: several networks, trained under one budget, in one table."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from n2n.commands.compare.job import Job
from n2n.commands.compare.plan import Variation, plan
from n2n.commands.compare.table import collect, csv_text, markdown
from n2n.errors import InputError
from n2n.system.config_files import matching
from n2n.system.files import write_text
from n2n.system.options import CommandParser

# The time that is left is estimated from the networks trained so far.
_BAR = "{desc}: {percentage:3.0f}% |{bar}| {elapsed}<{remaining}{postfix}"


def _parser() -> CommandParser:
    parser = CommandParser(
        "compare",
        usage="n2n compare CONFIG [CONFIG ...] [options of compare] [options of n2n fit]",
        description="Train each configuration under the same budget, and write one table: parameters, cost, time and PSNR. "
        "The same command resumes an interrupted comparison and skips runs that are done.",
        epilog="All other options are those of n2n fit, the same for all: --config data/photos.yaml, "
        "--data.source.init_args.root DIR, ... The runs go to lightning_logs/NAME, and table.md, table.csv and psnr.png beside "
        "them. For instance:\n\n"
        "  n2n compare table1/model2.yaml table1/model6.yaml --epochs 5 --config data/photos.yaml "
        "--data.source.init_args.root DIR\n"
        "  n2n compare table1/model2.yaml --vary data.target=noisy,clean --seeds 0 1 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--name", default="compare", help="the runs go to lightning_logs/NAME (default: compare)")
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="budget of each network (default: what its config says)"
    )
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="budget of each network in minutes, for any number of epochs"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[], metavar="S", help="train each with each of these seeds"
    )
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="KEY=A,B",
        help="train each with each of these values; may be repeated",
    )
    parser.add_argument("--base", metavar="CONFIG", help="config that each of the others follows, and changes")
    parser.add_argument("--show", action="store_true", help="train nothing; write the table of the runs so far")
    return parser


def _split(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into the configurations, which come first, and the options."""
    first = next((i for i, argument in enumerate(args) if argument.startswith("-")), len(args))
    return list(args[:first]), list(args[first:])


def _budget(epochs: int | None, minutes: float | None) -> list[str]:
    """Return the options of ``n2n fit`` that set the budget."""
    if epochs is not None and minutes is not None:
        raise InputError("--epochs and --minutes are two budgets: give one of them")
    for name, value in (("--epochs", epochs), ("--minutes", minutes)):
        if value is not None and not 0 < value < 1e6:
            raise InputError(f"{name} is {value:g}: expected more than 0 and less than a million")
    if minutes is not None:
        seconds = max(1, round(minutes * 60))
        time = ":".join(
            f"{part:02}" for part in (seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60, seconds % 60)
        )
        return ["--trainer.max_epochs", "-1", "--trainer.max_time", time]
    return [] if epochs is None else ["--trainer.max_epochs", str(epochs)]


def _is_first_process() -> bool:
    """Return whether this process reports. Lightning starts the command again for every further device."""
    from lightning.pytorch.utilities import rank_zero_only

    return int(getattr(rank_zero_only, "rank", 0)) == 0


def _train(jobs: Sequence[Job], failures: dict[Job, str]) -> None:
    """Train the jobs that are not done, and add the reasons of those that fail to ``failures``.

    Raises:
        InputError: if the first two fail for the same reason, as all would.
    """
    from tqdm import tqdm

    from n2n.commands.compare.progress import Progress
    from n2n.trainer.run import silence, train

    done = [job.progress()[1] for job in jobs]
    shown: dict[str, Any] = {"bar_format": _BAR, "mininterval": 0.5} | (
        {} if _is_first_process() else {"disable": True}
    )
    with tqdm(total=len(jobs), desc="n2n compare", unit="run", **shown) as bar, silence():
        for number, (job, is_done) in enumerate(zip(jobs, done, strict=True), 1):
            seed = "" if job.seed is None else f" seed {job.seed}"
            bar.set_postfix_str("", refresh=False)
            bar.set_description_str(f"{job.label}{seed} ({number}/{len(jobs)})", refresh=False)
            if is_done:
                # Runs that were done before do not count in the estimate of the time left.
                bar.initial = getattr(bar, "initial", 0) + 1  # a bar that is not shown has none
            else:
                # Last, so that they win over a saved configuration.
                quiet = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
                try:
                    # Another comparison of the same name may have trained it meanwhile.
                    if not job.progress()[1]:
                        train(["fit", *job.args, *quiet], job.folder, [Progress(bar, number - 1)])
                except Exception as error:
                    # Any error: the other networks are trained nevertheless.
                    failures[job] = " ".join(f"{error}".split()) or type(error).__name__
                    if number == 2 and len(failures) == 2 and len(set(failures.values())) == 1:
                        raise InputError(failures[job]) from None
                    tqdm.write(f"{job.label}{seed} failed: {failures[job]}", sys.stderr)
            bar.update(number - bar.n)


def _write(jobs: Sequence[Job], failures: dict[Job, str], folder: Path, command: str) -> None:
    """Write the table and the plot of the runs so far."""
    if not _is_first_process():
        return
    rows = collect(jobs, failures)
    text = markdown(rows, command)
    written = []
    for name, content in (("table.md", text), ("table.csv", csv_text(rows))):
        write_text(folder / name, content)
        written.append(folder / name)
    if importlib.util.find_spec("matplotlib") is None:
        remark = 'no plot, which needs matplotlib: pip install "n2n[experiments]"'
    else:
        from n2n.commands.compare.plot import plot

        written += plot(rows, folder / "psnr")
        remark = ""
    print(text)
    print("Written: " + ", ".join(map(str, written)) + (f"; {remark}" if remark else ""))


def main(args: Sequence[str]) -> int:
    """Run ``n2n compare``.

    Args:
        args: the command line after ``n2n compare``.

    Returns:
        The exit status: 0, 1 if a network failed, or 130 if it was interrupted.

    Raises:
        InputError: for what the user can mend.
    """
    configs, options = _split(args)
    parser = _parser()
    own, rest = parser.parse_known_args(options)
    if not configs:
        raise InputError(
            "no configuration is given: name one or more, such as n2n compare table1/model2.yaml table1/model6.yaml"
        )
    variations = [Variation.parse(text) for text in own.vary]
    options = [*rest, *_budget(own.epochs, own.minutes)]
    further = list(parser._option_string_actions)
    jobs = plan(list(matching(configs)), variations, own.seeds, options, own.name, further, own.base)
    folder = jobs[0].folder.parent
    command = shlex.join(["n2n", "compare", *(argument for argument in args if argument != "--show")])
    failures: dict[Job, str] = {}
    try:
        if not own.show:
            _train(jobs, failures)
    except KeyboardInterrupt:
        _write(jobs, failures, folder, command)
        print("Interrupted. The same command goes on where it was.", file=sys.stderr)
        return 130
    _write(jobs, failures, folder, command)
    return 1 if failures else 0
