"""The page of a report: one HTML file with curves, figures and pictures, which loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from n2n.commands.plots import shortened
from n2n.commands.report.sliders import SCRIPT, STYLE, sliders
from n2n.commands.runs import Run
from n2n.errors import InputError
from n2n.trainer.panels import PanelRow

_STYLE = """
body { margin: 2rem auto; max-width: 78rem; padding: 0 1rem; font: 16px/1.4 system-ui, sans-serif; color: #222; }
svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
"""

# Far above the filters of any training; a run's file may come from anybody.
_MOST_FILTERS = 20


def _allowed() -> str:
    """Return the Content-Security-Policy: nothing is loaded, and no script runs but the page's own."""
    script = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    rules = ["default-src 'none'", "img-src data:", "style-src 'unsafe-inline'", f"script-src 'sha256-{script}'"]
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


def page(
    runs: Sequence[Run], names: Sequence[str], curves: str, panels: Mapping[str, Sequence[PanelRow]], images: int
) -> str:
    """Return the HTML of the page.

    Args:
        runs: to show.
        names: of the runs, for people.
        curves: SVG of the curves.
        panels: of the runs that have one, by name.
        images: most images of each run.
    """
    shown = sliders(panels, images)
    figures = [_figures(run) for run in runs]
    left_out = f"<p>{shown.left_out} more are left out, to keep the page small.</p>" if shown.left_out else ""
    pictures = (
        "<h2>Pictures</h2><p>Move the line to compare. PSNRs are those of whole images.</p>" if shown.body else ""
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_allowed()}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(names[0] if len(names) == 1 else f"{len(names)} runs")} – n2n report</title>
<style>{_STYLE}{STYLE}{shown.rules}</style>
</head>
<body>
<h1>n2n report</h1>
<h2>Curves</h2>
<div class="wide">{_inline(curves)}</div>
<h2>Figures</h2>
<p>Figures of the best checkpoint on the validation set. PSNRs are in dB.</p>
{_table(["run", *figures[0]], [[name, *line.values()] for name, line in zip(names, figures, strict=True)])}
{_filters(runs, names)}
{pictures}
{shown.body}{left_out}
<script>{SCRIPT}</script>
</body>
</html>
"""


def _inline(svg: str) -> str:
    """Return the SVG element of a file, without what precedes it and without its metadata."""
    return re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def _network(run: Run) -> str:
    value: Any = run.config
    for name in ("model", "backbone", "class_path"):
        value = value.get(name) if isinstance(value, dict) else None
    return shortened([value.rpartition(".")[2]])[0] if isinstance(value, str) else ""


def _figures(run: Run) -> dict[str, str]:
    """Return the columns of the table for a run."""
    try:
        epoch, best = run.best()
    except InputError:  # none was chosen yet
        epoch, best = None, {}
    psnr, noisy = best.get("val/psnr_per_image"), best.get("val/psnr_noisy_per_image")
    return {
        "network": _network(run),
        "parameters": _number(run.parameters, 0),
        "multiplications per pixel": _number(run.macs_per_pixel, 0),
        "epochs": f"{run.epochs}",
        "minutes": _number(run.minutes, 1),
        "best epoch": _number(epoch, 0),
        "PSNR, mean over images": _number(psnr),
        "noisy input": _number(noisy),
        "gain": "" if psnr is None or noisy is None else _number(psnr - noisy),
        "PSNR over all pixels": _number(best.get("val/psnr")),
        "estimated without clean images": _number(best.get("val/psnr_blind")),
        "SSIM": _number(best.get("val/ssim"), 3),
    }


def _filters(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Return the table of classical filters that trainings measured; empty if none did."""
    filters = list(dict.fromkeys(name for run in runs for name in run.baselines))[:_MOST_FILTERS]
    if not filters:
        return ""
    lines = []
    for run, name in zip(runs, names, strict=True):
        if run.baselines:
            lines.append([name, *(_number(run.baselines.get(column)) for column in filters)])
    return (
        "<h3>Beside classical filters</h3>\n<p>PSNR over all pixels of held-out images, in dB, each filter at its best "
        f"strength. Without clean images it is estimated.</p>\n{_table(['run', *shortened(filters)], lines)}"
    )


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table of texts, without the columns that are empty."""
    kept = [i for i in range(len(columns)) if any(line[i] for line in lines)]
    head = "".join(f"<th>{escape(columns[i])}</th>" for i in kept)
    rows = "".join("<tr>" + "".join(f"<td>{escape(line[i])}</td>" for i in kept) + "</tr>\n" for line in lines)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>'
