"""Trainings that are killed at random moments, gone on with, and compared with one that was never killed.

python -m tests.long.kills --kills 200
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from tests.long.forks import Child

# With what depends on the number of the step and on random numbers: a schedule, augmentations, means of batches.
FIT = (
    "fit --config table1/model3.yaml --name run --ckpt_path last --trainer.accelerator cpu --trainer.precision 32-true "
    "--trainer.max_epochs 3 --trainer.enable_progress_bar false --data.batch_size 20 --model.optimizer n2n.optimizers.Muon "
    "--model.scheduler n2n.schedules.OneCycle --model.scheduler_interval step "
    "--data.augmentations [n2n.data.augmentation.FlipsAndRotations,n2n.data.augmentation.PixelExchange] "
    "--data.source n2n.data.DeadLeaves --data.source.pairs 600 --data.source.val_pairs 20 --data.source.size 64 "
    "--data.source.crop 64 "
    # Checkpoints in the middle of an epoch too.
    "--trainer.callbacks+ ModelCheckpoint --trainer.callbacks.filename last --trainer.callbacks.every_n_train_steps 7 "
    "--trainer.callbacks.enable_version_counter false"
)
# Kills of one training, before it may end.
MOST = 3
# Seconds that a training may take at the very most.
LONGEST = 300.0


def start(folder: Path) -> Child:
    """Start the training, or go on with it."""

    def before() -> None:
        os.chdir(folder)
        os.environ["N2N_CACHE"] = str(folder / "cache")
        torch.set_num_threads(1)

    return Child(FIT.split(), folder / "log", before)


def building(folder: Path) -> bool:
    """Whether a cache is being built, or was when the process was killed."""
    return any((folder / "cache").glob(".building-*/"))


def parts(folder: Path) -> set[str]:
    """Return the checkpoints that are being written, or were when the process was killed."""
    return {path.name for path in folder.glob("lightning_logs/run/*/checkpoints/.n2n-*")}


def moment(folder: Path, parts_before: set[str]) -> str:
    """Say what a process did when it was killed, by what it left."""
    if building(folder):
        return "while a cache is built"
    if parts(folder) - parts_before:
        return "while a checkpoint is written"
    if not any(folder.glob("lightning_logs/run/version_*")):
        return "before training"
    if not any(folder.glob("lightning_logs/run/*/checkpoints/last.ckpt")):
        return "training, nothing saved"
    return "training, something saved"


def kill(child: Child, folder: Path, draw: random.Random, seconds: float) -> None:
    """Kill a process at a moment of one of three kinds, or let it end before."""
    aim = draw.choice(["any", "cache", "checkpoint"])
    end, before = time.monotonic() + draw.uniform(0.0, seconds), parts(folder)
    if (
        aim == "cache"
        and (folder / "cache").exists()
        and not building(folder)
        and len(list((folder / "cache").iterdir())) > 1
    ):
        aim = "any"
    wanted, seen = draw.randint(1, 6), set[str]()
    limit = time.monotonic() + LONGEST
    while child.poll() is None and time.monotonic() < limit:
        if aim == "any" and time.monotonic() >= end:
            break
        if aim == "cache" and building(folder):
            time.sleep(draw.uniform(0.0, 0.2))
            break
        if aim == "checkpoint":
            seen |= parts(folder) - before
            if len(seen) >= wanted:
                break
        time.sleep(0.0002 if aim == "checkpoint" else 0.002)
    child.kill()


def result(folder: Path) -> dict[str, Any]:
    """Return what the newest run has learnt: weights, and the optimiser's memory."""
    run = max(folder.glob("lightning_logs/run/version_*"), key=lambda path: int(path.name.rpartition("_")[2]))
    content = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    return {"weights": content["state_dict"], "optimizer": content["optimizer_states"], "step": content["global_step"]}


def same(one: Any, other: Any) -> bool:
    """Whether two results are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def trial(
    folder: Path, reference: dict[str, Any], draw: random.Random, seconds: float, most: int
) -> tuple[list[str], str]:
    """Kill one training again and again, then let it end; returns the moments, and how it ended."""
    moments: list[str] = []
    for _ in range(most):
        before = parts(folder)
        child = start(folder)
        kill(child, folder, draw, seconds)
        status = child.wait()
        if status == 0:
            break
        if status > 0:
            return moments, f"status {status} of one that goes on"
        moments.append(moment(folder, before))
    else:
        if (status := start(folder).wait()) != 0:
            return moments, f"status {status} of one that goes on"
    # The empty file of a lock may stay, of a process that was killed in the instant between the two.
    if left := list((folder / "cache").glob(".building-*/")):
        return moments, f"left in the cache: {left[0].name}"
    return moments, "same" if same(result(folder), reference) else "other weights"


def main() -> int:
    """Print the moments and the outcomes; returns 1 unless all trainings ended alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    root = Path(tempfile.mkdtemp())
    (whole := root / "whole").mkdir()
    begun = time.monotonic()
    if start(whole).wait():
        print((whole / "log").read_text())
        return 1
    seconds, reference = time.monotonic() - begun, result(whole)
    print(f"A training that is not killed takes {seconds:.1f} s; seed {options.seed}.")
    outcomes: Counter[tuple[str, str]] = Counter()
    endings: Counter[str] = Counter()
    number = 0
    while sum(outcomes.values()) < options.kills:
        (folder := root / str(number)).mkdir()
        moments, ending = trial(folder, reference, draw, seconds, min(MOST, options.kills - sum(outcomes.values())))
        endings[ending] += 1
        outcomes.update((one, ending) for one in moments)
        number += 1
        if ending == "same":
            shutil.rmtree(folder)
        else:
            print(f"{ending}: {folder}, killed {', '.join(moments)}", flush=True)
    print(f"{'killed':32} {'times':>5}  the training ended with")
    for (one, ending), count in sorted(outcomes.items()):
        print(f"{one:32} {count:5}  {ending}")
    if set(endings) != {"same"}:
        return 1
    shutil.rmtree(root)
    print(
        f"{number} trainings, {sum(outcomes.values())} kills: all ended with the weights of a training that was never killed"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
