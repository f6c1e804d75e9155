"""``n2n compare``: several networks, trained under one budget, in one table."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from n2n.errors import InputError
from n2n.files import write_whole
from n2n.options import CommandParser


def _parser() -> CommandParser:
    parser = CommandParser(
        "compare",
        usage="n2n compare CONFIG [CONFIG ...] [options of compare] [options of n2n fit]",
        description="Train each configuration under the same budget, and write one table: parameters, cost, time and PSNR. "
        "Started again, it goes on where it was interrupted and skips what is done.",
        epilog="All other options are those of n2n fit, the same for all: --config data/photos.yaml, "
        "--data.source.init_args.root DIR, ... The runs go to lightning_logs/NAME, and table.md, table.csv and psnr.png beside "
        "them. For instance:\n\n"
        "  n2n compare table1/model2.yaml table1/model6.yaml --epochs 5 --config data/photos.yaml "
        "--data.source.init_args.root DIR\n"
        "  n2n compare table1/model2.yaml --vary data.target=noisy,clean --seeds 0 1 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--name", default="compare", help="the runs go to lightning_logs/NAME (default: compare)")
    parser.add_argument("--epochs", type=int, metavar="N", help="budget of each network (default: what its config says)")
    parser.add_argument("--minutes", type=float, metavar="M", help="budget of each network in minutes, for any number of epochs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], metavar="S", help="train each with each of these seeds")
    parser.add_argument(
        "--vary", action="append", default=[], metavar="KEY=A,B", help="train each with each of these values; may be repeated"
    )
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
            raise InputError(f"{name} is {value:g}: expected more than 0")
    if minutes is not None:
        seconds = max(1, round(minutes * 60))
        return ["--trainer.max_epochs", "-1", "--trainer.max_time", f"00:00:{seconds // 60}:{seconds % 60}"]
    return [] if epochs is None else ["--trainer.max_epochs", str(epochs)]


def _train_all(comparison: Comparison) -> None:
    ...


def main(args: Sequence[str]) -> int:
    ...
