"""How long ``n2n --help`` and the first training step take, against importing torch and lightning."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from tests.benchmarks.loops import write_pairs
from tests.benchmarks.setting import ROOT, Setting, ratios, table, take_turns
from tests.benchmarks.training import random_pairs

IMPORT = 'python -c "import torch, lightning"'
# Python takes its time to end after such an import, so what is measured up to a point is compared with an import up to its end.
IMPORTED = "the same, to the end of the import"


def _python(setting: Setting, *args: str) -> tuple[float, str]:
    """Run Python in the setting's folder: the time of day at its start, and what it printed."""
    start = time.time()
    done = subprocess.run(
        [sys.executable, *args],
        cwd=setting.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(args)}: {done.stdout}")
    return start, done.stdout


def whole(setting: Setting, *args: str) -> Callable[[], float]:
    """Return what gives the seconds from the start to the end of a process."""

    def run() -> float:
        start, _ = _python(setting, *args)
        return time.time() - start

    return run


def until(setting: Setting, mark: str, *args: str) -> Callable[[], float]:
    """Return what gives the seconds from the start of a process to the time of day that it prints after a mark."""

    def run() -> float:
        start, printed = _python(setting, *args)
        found = re.search(rf"{mark}: ([\d.]+)", printed)
        assert found is not None, printed
        return float(found[1]) - start

    return run


def run(setting: Setting) -> Iterator[str]:
    """Give one table."""
    first, second = random_pairs(setting)
    write_pairs(setting.folder / "pairs", first, second, first[:500], second[:500])
    backbone = f"n2n.backbones.{setting.networks[-1]}"
    fit = [
        *("-m", "n2n", "fit", "--config", "final.yaml", "--config", "data/ee559.yaml", "--model.backbone", backbone),
        *("--data.source.init_args.root", str(setting.folder / "pairs"), "--trainer.accelerator", setting.accelerator),
        *("--trainer.max_steps", "1", "--trainer.limit_val_batches", "2"),
        *("--trainer.callbacks+", "tests.benchmarks.clock.FirstStep"),
    ]

    fitted = f"n2n fit, {setting.networks[-1]}, to the end of the first step"
    imported = "import time, torch, lightning; print('imported:', time.time())"
    contestants = {
        IMPORT: whole(setting, "-c", "import torch, lightning"),
        "n2n --help": whole(setting, "-m", "n2n", "--help"),
        "n2n fit --help": whole(setting, "-m", "n2n", "fit", "--help"),
        "n2n fit --help-all": whole(setting, "-m", "n2n", "fit", "--help-all"),
        IMPORTED: until(setting, "imported", "-c", imported),
        fitted: until(setting, "first step", *fit),
    }
    results = take_turns(contestants, setting.rounds)
    rows = []
    for name, taken in results.items():
        base = results[IMPORTED if name in (IMPORTED, fitted) else IMPORT]
        beyond = statistics.median(a - b for a, b in zip(taken, base, strict=True))
        rows.append([name, f"{statistics.median(taken):.2f}", f"{beyond:+.2f}", ratios(taken, base)])
    yield "Seconds from the start of the process."
    yield table(["command", "seconds", "beyond the import", "times the import", "range"], rows)
