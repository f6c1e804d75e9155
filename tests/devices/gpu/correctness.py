"""Checks that can fail: the sweep's tests on the device, the README's first command, memory, and several processes."""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from n2n import Denoiser
from n2n.backbones import ModelFinal
from tests.devices.gpu.setting import FAILED, MEASURED, SKIPPED, Row, Setting, command, fit, verdict
from tests.devices.target import VARIABLE

SWEEP = Path(__file__).parents[1] / "sweep"


class _Collector:
    """Counts how the tests ended, and tells of each that failed at once: the check may be stopped before the last one."""

    def __init__(self, add: Callable[[Row], None]) -> None:
        self._add = add
        self.passed, self.skipped, self.failed = 0, 0, 0

    def _fail(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        self.failed += 1
        crash = getattr(report.longrepr, "reprcrash", None)
        message = getattr(crash, "message", None) or str(report.longrepr).strip().rpartition("\n")[2]
        name = report.nodeid.rpartition("::")[2] or report.nodeid
        self._add(Row(f"`{name}`", FAILED, message.split("\n")[0][:200]))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._fail(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._fail(report)
        elif report.skipped:
            self.skipped += 1
        elif report.when == "call":
            self.passed += 1


def sweep(files: Sequence[str], which: str, quick: str) -> Callable[[Setting], Iterator[Row]]:
    """Return a check that runs tests of the sweep.

    Args:
        files: in ``tests/devices/sweep``, without ``test_`` and the suffix.
        which: pytest's expression for the names of the tests.
        quick: the same in a quick run.
    """

    def check(setting: Setting) -> Iterator[Row]:
        os.environ[VARIABLE] = setting.device
        setting.target()
        collector = _Collector(setting.add)
        paths = [str(SWEEP / f"test_{file}.py") for file in files]
        start = time.perf_counter()
        # Each test is named before it runs, so that the log says where the check was stopped.
        arguments = ["-v", "-p", "no:xdist", "-p", "no:cacheprovider", "-o", "addopts=", "-W", "ignore", "--tb=line"]
        arguments += [f"--basetemp={setting.folder / f'sweep_{os.getpid()}'}", "-k", quick if setting.quick else which]
        status = pytest.main([*arguments, *paths], plugins=[collector])
        seconds = time.perf_counter() - start
        skipped = f", {collector.skipped} skipped" if collector.skipped else ""
        count = f"{collector.passed} passed, {collector.failed} failed{skipped}, {seconds:.0f} s"
        fine = status == pytest.ExitCode.OK and collector.passed > 0
        known = fine or collector.failed
        yield verdict("tests of the sweep", fine, count if known else f"{count}; pytest's status is {int(status)}")

    return check


def start(setting: Setting) -> Iterator[Row]:
    """Run the README's first commands: train, validate, denoise."""
    target = setting.target()
    begun = time.perf_counter()
    torch.zeros(1, device=target.device)
    yield Row("first tensor on the device", MEASURED, f"{time.perf_counter() - begun:.1f} s")
    run = fit(setting, target, "quick", "--config", "quick.yaml", *setting.pairs(2400), "--trainer.max_epochs", "2")
    yield verdict(
        "`n2n fit --config quick.yaml`, 2 epochs",
        run.status == 0,
        f"{run.seconds:.1f} s, {run.psnr}" if not run.status else run.error,
    )
    if run.status:
        return
    status, seconds, log = command(target, "validate", "--ckpt_path", str(run.checkpoint))
    yield verdict("`n2n validate`", status == 0, f"{seconds:.1f} s" if not status else log.strip()[-200:])
    image = np.random.default_rng(0).integers(0, 256, (256, 384, 3), np.uint8)
    tifffile.imwrite(setting.folder / "one.tif", image, photometric="rgb")
    files = ("--input", str(setting.folder / "one.tif"), "--output", str(setting.folder / "one_denoised.tif"))
    status, seconds, log = command(target, "predict", "--ckpt_path", str(run.checkpoint), *files)
    yield verdict(
        "`n2n predict`, a TIFF of 256×384×3", status == 0, f"{seconds:.1f} s" if not status else log.strip()[-200:]
    )


def large_image(setting: Setting) -> Iterator[Row]:
    """Denoise a large TIFF with the GPU's memory and with little of it: the same pixels, in halved batches."""
    target = setting.target()
    side = 256 if setting.quick else 8192
    rng = np.random.default_rng(0)
    tile = rng.integers(0, 256, (256, 256, 3), np.uint8)
    image = np.tile(tile, (side // 256, side // 256, 1))
    torch.manual_seed(0)
    network = ModelFinal()
    whole, seconds = _timed(Denoiser(network, 3, target.device), image)
    rate = side * side / 1e6 / seconds
    yield Row(
        f"array of {side}×{side}×3, ModelFinal, float32",
        MEASURED,
        f"{seconds:.1f} s, {rate:.1f} Mpx/s{_peak(target.device)}",
    )
    part = image[:512, :512]
    on_cpu = Denoiser(network.cpu(), 3, "cpu")(part)
    apart = int(np.abs(on_cpu[:256, :256].astype(int) - whole[:256, :256]).max())
    yield verdict("its corner against the CPU", apart <= 2, f"at most {apart} of 255 levels apart")
    if target.device.type != "cuda":
        yield Row("little memory", SKIPPED, "only CUDA's memory can be capped")
        return
    del whole
    gc.collect()
    torch.cuda.empty_cache()
    # Enough for one tile and not for eight.
    total = torch.cuda.get_device_properties(target.device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 0.6e9 / total), target.device)
    capped = Denoiser(network, 3, target.device)
    halved, seconds = _timed(capped, image[:2048, :2048])
    free, _ = _timed(Denoiser(network.cpu(), 3, "cpu"), image[:512, :512])
    apart = int(np.abs(halved[:256, :256].astype(int) - free[:256, :256]).max())
    yield verdict(
        "2048×2048×3 with 0.6 GB of memory", apart <= 2, f"{seconds:.1f} s, at most {apart} levels from the CPU"
    )


def _timed(denoiser: Denoiser, image: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], float]:
    denoiser(image[:64, :64])
    begun = time.perf_counter()
    out = denoiser(image)
    return out, time.perf_counter() - begun


def _peak(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    return f", {torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB of GPU memory at most"


def memory(setting: Setting) -> Iterator[Row]:
    """Train three times in one process: no memory is left behind."""
    target = setting.target()
    pairs, epochs = setting.pairs(1200), ("--trainer.max_epochs", "1")
    left = []
    for number in range(3):
        run = fit(setting, target, f"memory{number}", "--config", "final.yaml", *pairs, *epochs)
        if run.status:
            yield Row("`n2n fit`", FAILED, run.error)
            return
        gc.collect()
        if target.device.type == "cuda":
            left.append(torch.cuda.memory_allocated(target.device) / 1e6)
        else:
            left.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
    values = ", ".join(f"{value:.0f}" for value in left) + " MB"
    if target.device.type == "cuda":
        yield verdict("allocated after each of 3 trainings in one process", left[2] <= left[0] + 10, values)
    else:
        yield Row("highest resident memory after each of 3 trainings in one process", MEASURED, values)


def processes(setting: Setting) -> Iterator[Row]:
    """Train with DDP: one device, and two where there are two."""
    target = setting.target()
    if target.pretended:
        yield Row("DDP", SKIPPED, "the pretended device is one, in one process")
        return
    options = ("--config", "final.yaml", *setting.pairs(1200), "--trainer.max_epochs", "1", "--trainer.strategy", "ddp")
    counts = [1] if target.device.type == "cuda" and torch.cuda.device_count() < 2 else [1, 2]
    for count in counts:
        # In a process of their own each, as the command starts them.
        status, seconds, log = _in_processes(setting, *options, *target.options("fit"), "--trainer.devices", str(count))
        yield verdict(
            f"`--trainer.strategy ddp --trainer.devices {count}`",
            status == 0,
            f"{seconds:.1f} s" if not status else log,
        )
    if len(counts) == 1:
        yield Row("DDP on 2 devices", SKIPPED, "there is one GPU")


def _in_processes(setting: Setting, *options: str) -> tuple[int, float, str]:
    import subprocess

    begun = time.perf_counter()
    where = (
        "--trainer.default_root_dir",
        str(setting.folder),
        "--name",
        "ddp",
        "--trainer.enable_progress_bar",
        "false",
    )
    done = subprocess.run([sys.executable, "-m", "n2n", "fit", *options, *where], capture_output=True, text=True)
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return done.returncode, time.perf_counter() - begun, last[:200]
