"""``n2n compare``: train several networks under one budget, and write one table."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
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
from n2n.system.options import CommandParser, option_names
from n2n.system.terminal import shows_bars
from n2n.system.text import command_line

_BAR = "{desc}: {percentage:3.0f}% |{bar}| {elapsed}<{remaining}{postfix}"


def _parser() -> CommandParser:
    parser = CommandParser(
        "compare",
        usage="n2n compare CONFIG [CONFIG ...] [options of compare] [options of n2n fit]",
        description="Train each configuration under the same budget, and write one table: parameters, cost, time and PSNR. "
        "The same command resumes an interrupted comparison and skips runs that are done.",
        epilog="All other options are those of n2n fit, the same for all: --config data/photos.yaml --root DIR, "
        "... The runs go to lightning_logs/NAME, and table.md, table.csv and psnr.png beside "
        "them. For instance:\n\n"
        "  n2n compare table1/model2.yaml table1/model6.yaml --epochs 5 --config data/photos.yaml "
        "--root DIR\n"
        "  n2n compare table1/model2.yaml --vary data.target=noisy,clean --seeds 0 1 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--name", default="compare", help="the runs go to lightning_logs/NAME (default: compare)")
    add("--epochs", type=int, metavar="N", help="budget of each network (default: that of its config)")
    add("--minutes", type=float, metavar="M", help="budget of each network in minutes, for any number of epochs")
    add("--seeds", type=int, nargs="+", default=[], metavar="S", help="train each with each of these seeds")
    vary = "train each with each of these values; may be repeated"
    add("--vary", action="append", default=[], metavar="KEY=A,B", help=vary)
    add("--base", metavar="CONFIG", help="config that is read before each of the others, which change it")
    add("--show", action="store_true", help="train nothing; write the table of the runs so far")
    return parser


def _budget(epochs: int | None, minutes: float | None) -> list[str]:
    """Return the options of ``n2n fit`` that set the budget."""
    if epochs is not None and minutes is not None:
        raise InputError("--epochs and --minutes are two budgets: give one of them")
    for name, value in (("--epochs", epochs), ("--minutes", minutes)):
        if value is not None and not 0 < value < 1e6:
            raise InputError(f"{name} is {value:g}: expected more than 0 and less than a million")
    if minutes is not None:
        whole, seconds = divmod(max(1, round(minutes * 60)), 60)
        time = f"{whole // 1440:02}:{whole // 60 % 24:02}:{whole % 60:02}:{seconds:02}"
        return ["--trainer.max_epochs", "-1", "--trainer.max_time", time]
    return [] if epochs is None else ["--trainer.max_epochs", str(epochs)]


def _is_first_process() -> bool:
    """Return whether this process reports. Lightning starts the command again for each further device."""
    from lightning.pytorch.utilities import rank_zero_only

    return int(getattr(rank_zero_only, "rank", 0)) == 0


def _end(started: list[list[subprocess.Popen[bytes]]]) -> None:
    """End the processes of further devices, which may wait for this one."""
    for processes in started:
        for process in processes:
            process.kill()
        # Lightning looks at this list, and would kill this process too for one that did not end by itself.
        processes.clear()


def _train(jobs: Sequence[Job], failures: dict[Job, str]) -> None:
    """Train the jobs that are not done, and note in ``failures`` why jobs fail. Raise if the first two fail alike.

    On several devices the first failure is the end: their processes may have failed at different places.
    """
    from torch import distributed
    from tqdm import tqdm

    from n2n.commands.compare.progress import Progress, count_as_done
    from n2n.system.hardware import release_memory
    from n2n.trainer.quiet import silence
    from n2n.trainer.run import train

    done = [job.progress()[1] for job in jobs]
    started: list[list[subprocess.Popen[bytes]]] = []
    # The time that is left comes from the mean pace: networks differ, and the bar jumps over what was done before.
    shown: dict[str, Any] = {"bar_format": _BAR, "mininterval": 0.5, "miniters": 0, "smoothing": 0}
    shown["disable"] = not (_is_first_process() and shows_bars())
    with tqdm(total=len(jobs), desc="n2n compare", unit="run", **shown) as bar, silence():
        for number, (job, is_done) in enumerate(zip(jobs, done, strict=True), 1):
            seed = "" if job.seed is None else f" seed {job.seed}"
            bar.set_postfix_str("", refresh=False)
            bar.set_description_str(f"{job.label}{seed} ({number}/{len(jobs)})", refresh=False)
            if is_done:
                count_as_done(bar, 1)
            else:
                # Last, so that they override a saved configuration.
                quiet = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
                try:
                    # Another process may have trained it meanwhile.
                    if not job.progress()[1]:
                        train(["fit", *job.args, *quiet], job.folder, [Progress(bar, number - 1, started)])
                except Exception as error:  # of any kind: the other networks are trained nevertheless
                    failures[job] = " ".join(f"{error}".split()) or type(error).__name__
                    if number == 2 and len(failures) == 2 and len(set(failures.values())) == 1:
                        raise InputError(failures[job]) from None
                    tqdm.write(f"{job.label}{seed} failed: {failures[job]}", sys.stderr)
                    if distributed.is_initialized() and distributed.get_world_size() > 1:
                        _end(started)
                        if number < len(jobs) and _is_first_process():
                            tqdm.write(
                                f"On several devices nothing is trained after that: leave {job.label} out", sys.stderr
                            )
                        break
                finally:
                    release_memory()  # images of the last job may fill half of a GPU
            bar.update(number - bar.n)


def _write(jobs: Sequence[Job], failures: dict[Job, str], folder: Path, command: str, must_exist: bool = False) -> None:
    """Write the table and the plot of the runs so far. If there ``must_exist`` one, raise InputError where there is none."""
    if not _is_first_process():
        return
    rows = collect(jobs, failures)
    if must_exist and not any(row.runs for row in rows):
        why = "; ".join(f"{row.label}: {remark}" for row in rows for remark in row.remarks)
        raise InputError(
            f"{folder} has no run of this comparison ({why:.400}): repeat its options, or leave --show out"
        )
    written, remark = [folder / "table.md", folder / "table.csv"], ""
    for path, content in zip(written, (text := markdown(rows, command), csv_text(rows)), strict=True):
        write_text(path, content)
    if importlib.util.find_spec("matplotlib") is None:
        remark = "; no plot, which needs matplotlib: pip install matplotlib"
    else:
        from n2n.commands.compare.plot import plot

        written += plot(rows, folder / "psnr")
    print(f"{text}\nWritten: {', '.join(map(str, written))}{remark}")


def main(args: Sequence[str]) -> int:
    """Run ``n2n compare`` with the command line after ``compare``.

    Returns:
        The exit status: 0, 1 if a network failed, or 130 if it was interrupted.
    """
    # The configurations come first.
    first = next((i for i, argument in enumerate(args) if argument.startswith("-")), len(args))
    parser = _parser()
    own, rest = parser.parse_known_args(args[first:])
    if not first:
        raise InputError("no configuration is given: name one or more, such as table1/model2.yaml table1/model6.yaml")
    variations = [Variation.parse(text) for text in own.vary]
    options = [*rest, *_budget(own.epochs, own.minutes)]
    further = sorted(option_names(parser))
    jobs = plan(list(matching(args[:first])), variations, own.seeds, options, own.name, further, own.base)
    folder = jobs[0].folder.parent
    command = command_line(["n2n", "compare", *(argument for argument in args if argument != "--show")])
    failures: dict[Job, str] = {}
    try:
        if not own.show:
            _train(jobs, failures)
    except KeyboardInterrupt:
        _write(jobs, failures, folder, command)
        print("Interrupted. The same command goes on where it was.", file=sys.stderr)
        return 130
    _write(jobs, failures, folder, command, own.show)
    return 1 if failures else 0
