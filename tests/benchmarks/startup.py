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


def _python(setting: Setting, *args: str) -> tuple[float, float, str]:
    """Run Python in the setting's folder: when it started, when it ended (seconds, time of day), and what it printed."""
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
    return start, time.time(), done.stdout


def run(setting: Setting) -> Iterator[str]:
    """Give one table."""
    first, second = random_pairs(setting)
    write_pairs(setting.folder / "pairs", first, second, first[:250], second[:250])
    backbone = f"n2n.backbones.{setting.networks[-1]}"
    fit = [
        *("-m", "n2n", "fit", "--config", "final.yaml", "--config", "data/ee559.yaml", "--model.backbone", backbone),
        *("--data.source.init_args.root", str(setting.folder / "pairs"), "--trainer.accelerator", setting.accelerator),
        *("--trainer.max_steps", "1", "--trainer.limit_val_batches", "1"),
        *("--trainer.callbacks+", "tests.benchmarks.clock.FirstStep"),
    ]

    def whole(*args: str) -> Callable[[], float]:
        def run() -> float:
            start, end, _ = _python(setting, *args)
            return end - start

        return run

    def first_step() -> float:
        start, _, printed = _python(setting, *fit)
        found = re.search(r"first step: ([\d.]+)", printed)
        assert found is not None, printed
        return float(found[1]) - start

    contestants = {
        IMPORT: whole("-c", "import torch, lightning"),
        "n2n --help": whole("-m", "n2n", "--help"),
        "n2n fit --help": whole("-m", "n2n", "fit", "--help"),
        f"n2n fit, {setting.networks[-1]}, to the end of the first step": first_step,
    }
    results = take_turns(contestants, setting.rounds)
    rows = []
    for name, taken in results.items():
        beyond = statistics.median(a - b for a, b in zip(taken, results[IMPORT], strict=True))
        rows.append([name, f"{statistics.median(taken):.2f}", f"{beyond:+.2f}", ratios(taken, results[IMPORT])])
    yield "Start-up, from the start of the process."
    yield table(["command", "seconds", "beyond the import", "times the import", "range"], rows)
