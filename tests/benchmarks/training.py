"""Pairs a second of ``n2n fit`` against other ways to train the same network on the same pairs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from n2n import backbones
from n2n.system.hardware import has_fast_bf16
from tests.benchmarks.clock import Clock, Stopwatch
from tests.benchmarks.loops import fit, plain_loop, textbook, write_pairs
from tests.benchmarks.setting import Setting, ratios, table, take_turns

OURS = "n2n fit"


def random_pairs(setting: Setting) -> tuple[Tensor, Tensor]:
    """Draw pairs of nothing: speed does not depend on what is in them."""
    first, second = torch.randint(0, 256, (2, setting.pairs, 3, 32, 32), dtype=torch.uint8)
    return first, second


def timed(setting: Setting, train: Callable[[Clock], object], wholes: list[float] | None = None) -> Callable[[], float]:
    """Return what gives the pairs a second of a training; its first steps are warm-up.

    To ``wholes`` it adds the seconds from the first step to the last, validation between epochs included.
    """

    def run() -> float:
        Stopwatch.clock = Clock(setting.device, max(1, min(10, setting.pairs // setting.batch_size // 3)))
        train(Stopwatch.clock)
        if wholes is not None:
            wholes.append(Stopwatch.clock.whole)
        return Stopwatch.clock.rate

    return run


def timed_fit(setting: Setting, backbone: str, *options: str, wholes: list[float] | None = None) -> Callable[[], float]:
    """Return what gives the pairs a second of ``n2n fit`` on the pairs in the setting's folder."""
    # Validation is not timed: of one epoch a single batch will do.
    few = ("--trainer.limit_val_batches", "1") if setting.epochs == 1 else ()
    return timed(
        setting,
        lambda _: fit(setting, setting.folder / "pairs", backbone, setting.epochs, Stopwatch, *few, *options),
        wholes,
    )


def rate_rows(results: dict[str, list[float]], ours: str) -> list[list[str]]:
    """Rows of a table: pairs a second, and the ratio of ours to each."""
    return [[name, f"{statistics.median(rates):.0f}", ratios(results[ours], rates)] for name, rates in results.items()]


def run(setting: Setting) -> Iterator[str]:
    """Give one table a network."""
    first, second = random_pairs(setting)
    write_pairs(setting.folder / "pairs", first, second, first[:250], second[:250])
    resident = first.to(setting.device), second.to(setting.device)
    dataset = TensorDataset(first.float().div_(255), second.float().div_(255))
    bf16 = has_fast_bf16(setting.accelerator)
    for name in setting.networks:

        def new(name: str = name) -> nn.Module:
            network: nn.Module = getattr(backbones, name)()
            return network

        def orders() -> Iterator[Tensor]:
            return (torch.randperm(setting.pairs, device=setting.device) for _ in range(setting.epochs))

        def plain(*options: Any) -> Callable[[], float]:
            return timed(
                setting, lambda clock: plain_loop(new(), *resident, orders(), setting.batch_size, clock, *options)
            )

        def lightning(workers: int) -> Callable[[], float]:
            return timed(setting, lambda _: textbook(setting, new(), dataset, workers))

        wholes: list[float] = []
        contestants = {
            OURS: timed_fit(setting, f"n2n.backbones.{name}", wholes=wholes),
            "plain loop, fp32": plain(),
            f"plain loop, {'bf16' if bf16 else 'fp32'}, channels_last": plain(bf16, torch.channels_last),
            "Lightning, DataLoader, fp32": lightning(0),
            "Lightning, DataLoader of 2 workers, fp32": lightning(2),
        }
        # The first training of a process is slower: kernels are chosen, and memory is taken.
        plain_loop(new(), resident[0][:500], resident[1][:500], [torch.arange(len(first[:500]))], setting.batch_size)
        results = take_turns(contestants, setting.rounds)
        epochs = f"{setting.epochs} epochs" if setting.epochs > 1 else "1 epoch"
        yield f"{name}: {epochs} of {setting.pairs:,} pairs in batches of {setting.batch_size}."
        yield table(["training", "pairs/s", "n2n fit : it", "range"], rate_rows(results, OURS))
        if setting.epochs > 1:
            yield f"n2n fit from the first step to the last, validations between: {statistics.median(wholes):.1f} s."
