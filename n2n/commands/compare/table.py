"""The table of a comparison in Markdown and CSV, with a row for each network."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from n2n import __version__
from n2n.commands.compare.job import Job
from n2n.commands.compare.paper import reported
from n2n.commands.runs import Run
from n2n.errors import InputError
from n2n.metrics import psnr_from_mse
from n2n.system.text import counted


@dataclass
class Row:
    """A network of a comparison: its label, all its runs that have a best checkpoint, and remarks on the other runs."""

    label: str
    runs: list[tuple[Job, Run]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def collect(jobs: Sequence[Job], failures: dict[Job, str]) -> list[Row]:
    """Read the runs so far; ``failures`` holds the reasons why jobs failed."""
    rows: dict[str, Row] = {}
    for job in jobs:
        row = rows.setdefault(job.label, Row(job.label))
        seed = "" if job.seed is None else f" (seed {job.seed})"
        try:
            run, done = job.progress()
        except InputError as error:
            # Another process has changed the folder. Show the other runs.
            row.remarks.append(f"left out{seed}: {failures.get(job, error)}")
            continue
        scored = False
        if run is not None:
            with contextlib.suppress(InputError):
                run.best()
                scored = True
                row.runs.append((job, run))
        if job in failures:
            row.remarks.append(f"failed{seed}: {failures[job]}")
        elif run is None or not (run.epochs or scored):
            row.remarks.append(f"not trained yet{seed}")
        elif not scored:
            row.remarks.append(f"{counted(run.epochs, 'epoch')} without a figure{seed}: not validated, or not a number")
        elif not done:
            row.remarks.append(f"{counted(run.epochs, 'epoch')} so far{seed}")
    return list(rows.values())


@dataclass(frozen=True)
class _Column:
    title: str
    value: Callable[[Run], float | None]
    style: str = ".2f"
    # Whether the mean over seeds is shown with the standard deviation.
    spread: bool = True


def psnr_estimated(mse: float) -> float:
    """Return the PSNR in dB of a squared error that was estimated from pairs; NaN if that is not positive.

    The table shows it even if its interval is wide, because most of the uncertainty is the same for all networks.
    """
    return float(psnr_from_mse(torch.tensor(mse, dtype=torch.float64))) if mse > 0 else math.nan


def _figure(tag: str) -> Callable[[Run], float | None]:
    return lambda run: run.best()[1].get(tag)


def _estimated(run: Run) -> float | None:
    mse = run.best()[1].get("val/mse_blind")
    return None if mse is None else psnr_estimated(mse)


def _gain(run: Run) -> float | None:
    figures = run.best()[1]
    denoised, noisy = figures.get("val/psnr_per_image"), figures.get("val/psnr_noisy_per_image")
    if denoised is None or noisy is None:
        denoised, noisy = _estimated(run), figures.get("val/psnr_noisy_blind")
    return None if denoised is None or noisy is None else denoised - noisy


def _paper(column: int) -> Callable[[Run], float | None]:
    def value(run: Run) -> float | None:
        row = reported(run.config.get("model", {}).get("backbone", {}))
        return None if row is None else float(row[column])

    return value


COLUMNS = (
    _Column("parameters", lambda run: run.parameters, ",.0f", False),
    _Column("MACs/px", lambda run: run.macs_per_pixel, ",.0f", False),
    _Column("epochs", lambda run: run.epochs, ".0f", False),
    _Column("best epoch", lambda run: run.best()[0], ".0f", False),
    _Column("minutes", lambda run: run.minutes, ".1f", False),
    _Column("pairs/s", lambda run: run.pairs_per_second, ",.0f", False),
    _Column("noisy, per image", _figure("val/psnr_noisy_per_image"), spread=False),
    _Column("noisy, global", _figure("val/psnr_noisy"), spread=False),
    _Column("denoised, per image", _figure("val/psnr_per_image")),
    _Column("denoised, global", _figure("val/psnr")),
    _Column("noisy, estimated", _figure("val/psnr_noisy_blind"), spread=False),
    _Column("denoised, estimated", _estimated),
    _Column("gain", _gain),
    _Column("paper, per image", _paper(0), spread=False),
    _Column("paper, minutes", _paper(1), ".0f", False),
)


# The epoch of the figures, for configurations that choose by a figure and for those with ``checkpoint.monitor: step``.
_BEST = "PSNR in dB at the best epoch of each run, which was chosen on the same validation images."
_LAST = "PSNR in dB at the last epoch of each run."
_SOME_LAST = "Networks whose configuration has checkpoint.monitor: step keep the last one instead."
_KINDS = {
    "per image": " Per image: mean over images.",
    "global": " Global: of one squared error over all pixels.",
    "estimated": " Estimated: over all pixels, from pairs, without clean images; differences between networks are more certain "
    "than the figures, because all networks are measured on the same pairs.",
}


def _cell(column: _Column, runs: Sequence[Run]) -> str:
    values = [value for run in runs if (value := column.value(run)) is not None]
    if not values:
        return ""
    text = format(statistics.mean(values), column.style)
    # statistics.stdev fails for NaN and infinity.
    if column.spread and len(values) > 1 and all(map(math.isfinite, values)):
        text += f" ± {statistics.stdev(values):{column.style}}"
    return text


def markdown(rows: Sequence[Row], command: str) -> str:
    """Return the table in Markdown, with notes and the command that makes it."""
    runs = {row.label: [run for _, run in row.runs] for row in rows}
    columns = [column for column in COLUMNS if any(_cell(column, found) for found in runs.values())]
    lines = ["| " + " | ".join(["network", *(column.title for column in columns)]) + " |"]
    lines.append("|---|" + "--:|" * len(columns))
    for row in rows:
        cells = [_cell(column, runs[row.label]) for column in columns]
        # A label may contain the character that separates columns.
        label = row.label.replace("|", "\\|")
        lines.append("| " + " | ".join([label, *cells]) + " |")
    notes = [f"{row.label}: {'; '.join(row.remarks)}." for row in rows if row.remarks]
    chosen_by = {run.config.get("checkpoint", {}).get("monitor") for found in runs.values() for run in found}
    last = chosen_by & {"epoch", "step"}
    notes.append(
        (_BEST if not last else _LAST if last == chosen_by else f"{_BEST} {_SOME_LAST}")
        + "".join(text for word, text in _KINDS.items() if any(word in column.title for column in columns))
    )
    seeds = {len(found) for found in runs.values() if found}
    if seeds - {0, 1}:
        notes.append(f"Mean ± standard deviation over {' or '.join(map(str, sorted(seeds)))} seeds.")
    else:
        notes.append("One seed each: small differences may be chance.")
    if any(column.title.startswith("paper") for column in columns):
        notes.append("Paper: its Table I, 30 epochs on its authors' GPU and the course's own 1,000 validation images.")
    notes.append("Minutes and pairs a second include validation.")
    devices = sorted({run.device or "?" for found in runs.values() for run in found})
    notes.append(f"Trained on: {'; '.join(devices) or 'nothing yet'}. n2n {__version__}.")
    return "\n".join([*lines, "", *notes, "", "```sh", command, "```", ""])


def csv_text(rows: Sequence[Row]) -> str:
    """Return the table in CSV: unrounded, one line for each run."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["network", "seed", *(column.title for column in COLUMNS), "device", "folder"])
    for row in rows:
        for job, run in row.runs:
            values = [column.value(run) for column in COLUMNS]
            seed = run.config.get("seed_everything")
            writer.writerow([row.label, seed, *values, run.device, job.folder.name])
    return out.getvalue()
