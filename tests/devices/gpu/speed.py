"""Measurements: compilation, a profile, and whole trainings beside a plain loop."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.autograd import DeviceType  # type: ignore[attr-defined]

from n2n import backbones
from n2n.data.sources.course import CourseFiles
from n2n.data.sources.dead_leaves import DeadLeaves
from n2n.system.hardware import default_precision
from tests.benchmarks.clock import Clock, Stopwatch
from tests.benchmarks.loops import plain_loop
from tests.devices.gpu.setting import FAILED, MEASURED, SKIPPED, Fit, Row, Setting, fit, verdict
from tests.devices.target import Target

STOPWATCH = ("--trainer.callbacks+", "tests.benchmarks.clock.Stopwatch")
MODES = ("default", "reduce-overhead", "max-autotune")
# Generated pairs to measure on, as many as the course has. All checks use the same, which one of them draws.
PAIRS = 50_000


def _clocked(setting: Setting, target: Target, name: str, *options: str) -> tuple[Fit, float]:
    """Run ``n2n fit``; returns its pairs a second, too, after 20 steps and without what lies between epochs."""
    Stopwatch.clock = Clock(target.device, 0 if setting.quick else 20)
    run = fit(setting, target, name, *options, *STOPWATCH)
    return run, Stopwatch.clock.rate if Stopwatch.clock.seconds else float("nan")


def compiled(setting: Setting) -> Iterator[Row]:
    """Train compiled in each mode: the same result as without, faster or not."""
    target = setting.target()
    if target.pretended:
        yield Row("speed.compile", SKIPPED, "torch.compile has no backend for the pretended device")
        return
    options = ("--config", "final.yaml", *setting.pairs(PAIRS), "--trainer.max_epochs", "1" if setting.quick else "3")
    options += ("--trainer.limit_train_batches", "100")
    eager, rate = _clocked(setting, target, "eager", *options)
    if eager.status:
        yield Row("`n2n fit`", FAILED, eager.error)
        return
    yield Row("eager", MEASURED, f"{rate:,.0f} pairs/s, {eager.psnr}")
    for mode in MODES[:1] if setting.quick else MODES:
        run, fast = _clocked(setting, target, f"compile_{mode}", *options, "--speed.compile", mode)
        if run.status:
            yield Row(f"`--speed.compile {mode}`", FAILED, run.error)
            continue
        apart = abs(run.figures["val/psnr_per_image"] - eager.figures["val/psnr_per_image"])
        figures = (
            f"{fast:,.0f} pairs/s ({fast / rate:.2f} of eager), {run.psnr}, {run.seconds - eager.seconds:+.0f} s in all"
        )
        yield verdict(f"`--speed.compile {mode}`", apart < 0.1, figures)
        torch._dynamo.reset()


class Profiled(Callback):
    """Profiles steps of a training, and counts how often it waits for the GPU.

    Attributes:
        first: step at which the profile starts; the count of waits follows it.
        steps: of the profile.
        waited: steps in which waits are counted.
    """

    first, steps, waited = 30, 50, 200

    def __init__(self) -> None:
        _profiles.append(self)
        self.profile: Any = None
        self.seconds: list[float] = []
        self.waits: list[str] = []
        self._catching: Any = None
        self._begun = 0.0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        step, cuda = trainer.global_step, pl_module.device.type == "cuda"
        if step == self.first:
            kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if cuda else [])]
            self.profile = torch.profiler.profile(activities=kinds)
            self.profile.start()
            self._begun = time.perf_counter()
        if step == self.first + self.steps and cuda:
            torch.cuda.set_sync_debug_mode("warn")
            self._catching = warnings.catch_warnings(record=True)
            self.waits = self._catching.__enter__()
            warnings.simplefilter("always")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, cuda = trainer.global_step, pl_module.device.type == "cuda"
        if step == self.first + self.steps and self.profile is not None:
            if cuda:
                torch.cuda.synchronize()
            self.seconds.append(time.perf_counter() - self._begun)
            self.profile.stop()
        if step == self.first + self.steps + self.waited and self._catching is not None:
            torch.cuda.set_sync_debug_mode("default")
            self._catching.__exit__(None, None, None)
            self._catching = None


# The command line makes the callback, and cannot hand it back.
_profiles: list[Profiled] = []


def kernels_of(events: Iterable[Any]) -> list[Any]:
    """Return a profile's events that ran on the GPU. The operators on the host that launched them count their time again."""
    return [event for event in events if event.device_type != DeviceType.CPU and not event.is_user_annotation]


def profile(setting: Setting) -> Iterator[Row]:
    """Profile 50 steps of ``final.yaml``: kernels, GPU and host time, waits for the GPU."""
    target = setting.target()
    if setting.quick:
        Profiled.first, Profiled.steps, Profiled.waited = 1, 2, 1
    pairs = setting.pairs(PAIRS)
    few = ("--data.batch_size", "4") if setting.quick else ("--trainer.limit_train_batches", "300")
    callback = ("--trainer.callbacks+", "tests.devices.gpu.speed.Profiled")
    run = fit(
        setting, target, "profile", "--config", "final.yaml", *pairs, "--trainer.max_epochs", "1", *few, *callback
    )
    if run.status or not _profiles or not _profiles[-1].seconds:
        yield Row(
            "`n2n fit` with torch's profiler", FAILED, run.error if run.status else "fewer steps than are profiled"
        )
        return
    found, steps = _profiles[-1], Profiled.steps
    events = found.profile.key_averages()
    on_gpu = kernels_of(events)
    yield Row("wall time", MEASURED, f"{1e3 * found.seconds[0] / steps:.2f} ms a step")
    host = sum(event.self_cpu_time_total for event in events) / 1e3 / steps
    yield Row("host", MEASURED, f"{host:.2f} ms a step in operators")
    if target.device.type != "cuda":
        yield Row("kernels and waits", SKIPPED, "only CUDA has them")
        return
    count, busy = sum(event.count for event in on_gpu), sum(event.self_device_time_total for event in on_gpu) / 1e3
    yield Row("kernels", MEASURED, f"{count / steps:.0f} a step, {busy / steps:.2f} ms of the GPU")
    for event in sorted(on_gpu, key=lambda one: -one.self_device_time_total)[:5]:
        milliseconds = event.self_device_time_total / 1e3 / steps
        yield Row(f"`{event.key[:60]}`", MEASURED, f"{event.count / steps:.0f} a step, {milliseconds:.3f} ms")
    waits = [str(warning) for warning in found.waits if "synchroniz" in str(warning)]
    # Losses are read every 100 steps.
    yield verdict(f"waits for the GPU in {Profiled.waited} steps", len(waits) <= 10, str(len(waits)))


def _all_pairs(setting: Setting) -> tuple[Tensor, Tensor]:
    """Return the training pairs as tensors on the CPU, uint8 N×C×H×W."""
    if setting.data is not None:
        store: Any = CourseFiles(str(setting.data)).train_pairs()
    elif setting.quick:
        store = DeadLeaves(pairs=40, val_pairs=20, size=256).train_pairs()
    else:
        store = DeadLeaves(pairs=PAIRS, val_pairs=1000).train_pairs()
    return store.first, store.second


def prepare(setting: Setting) -> Iterator[Row]:
    """Draw the pairs that the other checks train on, while these do other things."""
    begun = time.perf_counter()
    first, _ = _all_pairs(setting)
    yield Row("pairs to measure on", MEASURED, f"{len(first):,} in {time.perf_counter() - begun:.0f} s")


def whole(setting: Setting) -> Iterator[Row]:
    """Train ``final.yaml`` and ``speedrun.yaml`` whole, and a plain PyTorch loop on the same pairs."""
    target = setting.target()
    pairs = setting.pairs(PAIRS)
    short = ("--trainer.max_epochs", "1") if setting.quick else ()
    for config in ("final.yaml", "speedrun.yaml"):
        run, rate = _clocked(setting, target, f"whole_{config[:-5]}", "--config", config, *pairs, *short)
        figures = f"{run.seconds:.1f} s, {run.psnr}, {rate:,.0f} pairs/s between validations"
        yield Row(
            f"`n2n fit --config {config}`", FAILED if run.status else MEASURED, run.error if run.status else figures
        )
    first, second = (images.to(target.device) for images in _all_pairs(setting))
    bf16 = default_precision(target.device.type) == "bf16-mixed"
    kinds: dict[str, tuple[Any, ...]] = {
        "float32": (),
        f"{'bf16' if bf16 else 'float32'}, channels_last": (bf16, torch.channels_last),
    }
    for name, options in kinds.items():
        rates = []
        for _ in range(1 if setting.quick else 2):
            clock = Clock(target.device, 0 if setting.quick else 20)
            epochs = 1 if setting.quick else 3
            orders = (torch.randperm(len(first), device=target.device) for _ in range(epochs))
            clock.resume()
            plain_loop(backbones.ModelFinal(), first, second, orders, 20 if setting.quick else 100, clock, *options)
            rates.append(clock.rate)
        rate = statistics.median(rates)
        seconds = 50 * len(first) / rate
        yield Row(f"plain loop, {name}", MEASURED, f"{rate:,.0f} pairs/s: 50 epochs would take {seconds:.1f} s")
