"""``n2n report``: draw the curves and the pictures of training runs."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from n2n.commands.plots import file_names, labels, require_matplotlib, save
from n2n.commands.report.curves import curves_figure
from n2n.commands.report.page import page
from n2n.commands.report.strips import DPI, common_strip, run_strip
from n2n.commands.runs import Run, find_runs
from n2n.errors import InputError, one_line
from n2n.system.files import write_text
from n2n.system.options import CommandParser
from n2n.trainer.panels import PanelRow, last_panel

_DESCRIPTION = """\
Draw loss and PSNR of training runs over epochs, and strips of noisy | denoised | clean images with their PSNRs, as PNG and SVG.
Write all figures to a table (CSV), and all of this to one web page (report.html). Several runs share the same axes, and one
strip if they show the same images."""

_EPILOG = """\
A strip shows the last panel of its run. It shows the centre of large images, and dark images brighter, as the line below them
says; the PSNRs are those of the whole images. The page needs no network and no other file. Files of an earlier report in the
same folder are replaced.

examples:
  n2n report lightning_logs/quick/version_0
  n2n report lightning_logs/table1 --output figures/"""


def _warn(line: str) -> None:
    print(f"n2n report: warning: {one_line(line)}", file=sys.stderr)


def write_report(folders: Sequence[Path], output: Path, images: int = 4) -> list[Path]:
    """Draw runs into the folder ``output``, with at most ``images`` rows in a strip; return the files.

    Writes ``curves.png``, ``curves.svg``, ``curves.csv``, a strip for each run, one of all if they show the same images, and
    ``report.html``. Warns of runs that cannot be drawn.

    Raises:
        InputError: if no run has a whole epoch, the output cannot be written, or matplotlib is missing.
    """
    require_matplotlib("n2n report")
    if images < 1:
        raise InputError(f"--images is {images}: expected at least 1")
    runs = []
    failures = []
    for folder in folders:
        try:
            runs.append(Run.read(folder))
        except InputError as error:
            failures.append(str(error))
    if not folders:
        raise InputError("no folder is given: expected those of runs of n2n fit")
    if not runs:
        raise InputError(failures[0] if len(failures) == 1 else f"{failures[0]}; and {len(failures) - 1} more like it")
    for failure in failures:
        _warn(failure)
    names = labels([run.folder for run in runs])
    table = _write_table(runs, names, output / "curves.csv")
    curves = save(curves_figure(runs, names), output / "curves")
    files = [table, *curves]

    panels: dict[str, list[PanelRow]] = {}
    for run, name, file_name in zip(runs, names, file_names(names), strict=True):
        try:
            panel = last_panel(run.folder, int(run.rows[-1]["epoch"]))
        except InputError as error:
            _warn(str(error))
            continue
        if not panel:
            _warn(f"{run.folder} has no panel of images, so there is no strip of it")
            continue
        panels[name] = panel
        files += save(run_strip(panel, images), output / f"strip_{file_name}", DPI)
    if len(panels) > 1:
        figure = common_strip(list(panels.values()), list(panels), images)
        if figure is None:
            _warn("the runs were validated on different images, so there is no strip of all")
        else:
            files += save(figure, output / "strip", DPI)
    html = output / "report.html"
    write_text(html, page(runs, names, curves[-1].read_text(encoding="utf-8"), panels, images))
    return [*files, html]


def _write_table(runs: Sequence[Run], names: Sequence[str], path: Path) -> Path:
    """Write all figures, one line for each run and epoch."""
    tags = sorted({tag for run in runs for row in run.rows for tag in row if tag.startswith(("train/", "val/"))})
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["run", "epoch", "minutes", *tags])
    for run, name in zip(runs, names, strict=True):
        for row in run.rows:
            # Nine digits reproduce a float32 exactly.
            figures = (f"{row[tag]:.9g}" if tag in row else "" for tag in tags)
            table.writerow([name, f"{row['epoch']:.0f}", f"{row['minutes']:.3f}", *figures])
    write_text(path, out.getvalue())
    return path


def _parser() -> CommandParser:
    kind = argparse.RawDescriptionHelpFormatter
    parser = CommandParser("report", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=kind)
    add = parser.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="the folder of a run, or a folder with runs below it")
    add("--output", type=Path, default=Path("report"), metavar="DIR", help="the folder to write to (report)")
    add("--images", type=int, default=4, metavar="N", help="images of each run (4)")
    return parser


def main(args: list[str]) -> int:
    """Run ``n2n report`` with the command line after ``report``."""
    options = _parser().parse_args(args)
    for file in write_report(find_runs(options.runs), options.output, options.images):
        print(one_line(str(file)))
    return 0
