"""Pairs a second of ``n2n fit`` against a plain PyTorch loop: same network, precision, batches and machine, side by side.

Run it as ``python -m tests.benchmarks.training_speed``; it prints a table. The two take turns, so that a busy machine slows
both down, and each ratio is of neighbours.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import lightning as L
import torch
from torch import nn

from n2n import backbones
from n2n.cli import main as n2n
from n2n.hardware import has_fast_bf16


class Stopwatch(L.Callback):
    """Times the training epochs, without start-up and validation."""

    seconds: float = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(self, *args: object) -> None:
        Stopwatch.seconds = time.perf_counter() - self._start


def time_n2n(folder: Path, name: str, batch_size: int, bf16: bool) -> float:
    """Seconds of one epoch of ``n2n fit``."""
    source = "--data.source.init_args."
    options = ["--config", "final.yaml", "--config", "data/ee559.yaml", f"{source}root", str(folder)]
    options += ["--model.backbone", f"n2n.backbones.{name}", "--data.batch_size", str(batch_size)]
    options += [
        "--trainer.max_epochs",
        "1",
        "--trainer.limit_val_batches",
        "1",
        "--trainer.accelerator",
        "cpu",
    ]
    options += [
        "--trainer.precision",
        "bf16-mixed" if bf16 else "32-true",
        "--trainer.default_root_dir",
        str(folder),
    ]
    options += ["--trainer.callbacks+", "tests.benchmarks.training_speed.Stopwatch"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as log:
        status = n2n(["fit", *options])
    if status:
        sys.exit(log.getvalue())
    # The command imports this module by its name, which is another copy where it runs as a script.
    return sys.modules["tests.benchmarks.training_speed"].Stopwatch.seconds  # type: ignore[no-any-return]


def time_plain(first: torch.Tensor, second: torch.Tensor, name: str, batch_size: int, bf16: bool) -> float:
    """Seconds of one epoch of a loop that does nothing but train."""
    network: nn.Module = getattr(backbones, name)().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    loss_function = nn.MSELoss()
    start = time.perf_counter()
    for indices in torch.split(torch.randperm(len(first)), batch_size):
        noisy, target = first[indices].float().div_(255), second[indices].float().div_(255)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = loss_function(network(noisy.contiguous(memory_format=torch.channels_last)).float(), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=100)
    parser.add_argument("--networks", nargs="+", default=["Model2", "ModelFinal"])
    options = parser.parse_args()
    bf16 = has_fast_bf16("cpu")
    first, second = torch.randint(0, 256, (2, options.pairs, 3, 32, 32), dtype=torch.uint8)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save((first, second), folder / "train_data.pkl")
        torch.save((first[:100], second[:100]), folder / "val_data.pkl")
        for network in options.networks:
            arguments = network, options.batch_size, bf16
            time_plain(first[:500], second[:500], *arguments)  # warms the kernels' caches up
            plain, ours = [], []
            for _ in range(options.rounds):
                plain.append(time_plain(first, second, *arguments))
                ours.append(time_n2n(folder, *arguments))
            ratios = [p / o for p, o in zip(plain, ours, strict=True)]
            rate = [options.pairs / statistics.median(seconds) for seconds in (ours, plain)]
            rows.append(
                f"| {network} | {rate[0]:.0f} | {rate[1]:.0f} | {statistics.median(ratios):.3f} "
                f"| {min(ratios):.3f} to {max(ratios):.3f} |"
            )
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"{'bf16' if bf16 else 'fp32'}, channels_last, batches of {options.batch_size}, {options.rounds} rounds of "
        f"{options.pairs} pairs\n\n| network | n2n fit, pairs/s | plain loop, pairs/s | ratio, median | range |\n"
        "|---|---|---|---|---|"
    )
    print("\n".join(rows))


if __name__ == "__main__":
    main()
