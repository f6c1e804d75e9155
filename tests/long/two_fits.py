"""Two trainings started at the same instant, in one folder and with one cache, again and again.

python -m tests.long.two_fits --rounds 50
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from n2n.data.cache import Cache
from tests.long.forks import Child

# Of two caches, of pairs to train and to validate on.
FIT = (
    "fit --config table1/model2.yaml --name run --trainer.accelerator cpu --trainer.max_epochs 1 --data.batch_size 20 "
    "--trainer.enable_progress_bar false --panel.images 0 --data.source n2n.data.DeadLeaves --data.source.pairs 60 "
    "--data.source.val_pairs 10 --data.source.size 64 --data.source.crop 64"
)
CACHES = 2


def note_builds(file: Path) -> None:
    """Add a line to a file for each cache that this process builds."""
    build = Cache._write

    def write(cache: Cache, *args: Any) -> dict[str, Any]:
        with file.open("a") as builds:
            builds.write(f"{cache.path.name}\n")
        return build(cache, *args)

    Cache._write = write  # type: ignore[assignment, method-assign]


def one_round(folder: Path) -> str:
    """Start both in an empty folder; returns what was wrong, or "well"."""
    os.chdir(folder)
    os.environ["N2N_CACHE"] = str(folder / "cache")
    builds = folder / "builds"
    start = multiprocessing.get_context("fork").Barrier(2)

    def before() -> None:
        note_builds(builds)
        torch.set_num_threads(1)
        start.wait()

    children = [Child(FIT.split(), folder / f"log{number}", before) for number in range(2)]
    statuses = [child.wait() for child in children]
    if statuses != [0, 0]:
        return f"statuses {statuses}"
    built = Counter(builds.read_text().split())
    if sorted(built.values()) != [1] * CACHES:
        return f"caches built {sorted(built.values())} times"
    if left := sorted(path.name for path in (folder / "cache").iterdir() if path.name not in built):
        return f"left in the cache: {left}"
    runs = sorted(path.name for path in (folder / "lightning_logs/run").iterdir())
    if runs != ["version_0", "version_1"]:
        return f"runs {runs}"
    one, other = (
        torch.load(folder / f"lightning_logs/run/{run}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for run in runs
    )
    return "well" if all(torch.equal(one[key], other[key]) for key in one) else "other weights"


def main() -> int:
    """Print how often each outcome came; returns 1 if one was not well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    outcomes: Counter[str] = Counter()
    for _ in range(rounds):
        folder = Path(tempfile.mkdtemp())
        outcome = one_round(folder)
        if outcome == "well":
            shutil.rmtree(folder)
        else:
            outcome += f" ({folder})"
        outcomes[outcome] += 1
    for outcome, count in outcomes.most_common():
        print(f"{count:4} of {rounds} {outcome}")
    return int(set(outcomes) != {"well"})


if __name__ == "__main__":
    raise SystemExit(main())
