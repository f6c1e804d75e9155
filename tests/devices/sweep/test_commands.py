"""The real commands on the device: fit, validate, SIGTERM and resume, predict."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor

from n2n.cli import main
from n2n.data.images.base import DTYPES
from tests.devices.sweep.conftest import noisy_images
from tests.devices.target import Target, all_is_swept, options
from tests.images import read_image

CONFIGS = sorted(path.name for path in (Path(__file__).parents[3] / "configs").glob("*.yaml"))
FEW_CONFIGS = ["best.yaml", "final.yaml"]
QUIET = ("--trainer.enable_progress_bar", "false")
FEW = (
    *(*QUIET, "--trainer.max_epochs", "1", "--data.batch_size", "4", "--data.val_batch_size", "4"),
    *("--trainer.limit_train_batches", "3", "--trainer.limit_val_batches", "2"),
)
STOP = "tests.trainer.test_resume.Signal"


@pytest.fixture(autouse=True)
def _one_cache(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("N2N_CACHE", str(files / "cache"))


def run(target: Target, command: str, *given: str) -> None:
    assert main([command, *given, *target.options(command)]) == 0


def course(files: Path) -> tuple[str, ...]:
    return ("--config", "data/ee559", "--data.source.root", str(files / "course"))


def last(name: str, which: str = "last") -> dict[str, Tensor]:
    """Return the weights in a run's checkpoint, averaged and plain."""
    path = Path("lightning_logs") / name / "version_0" / "checkpoints" / f"{which}.ckpt"
    content: dict[str, Any] = torch.load(path, weights_only=True)
    averages = content.get("current_model_state", {})
    return {**content["state_dict"], **{f"current {name}": value for name, value in averages.items()}}


@pytest.mark.parametrize("config", CONFIGS if all_is_swept() else FEW_CONFIGS)
def test_config(config: str, target: Target, files: Path) -> None:
    """Every config at the top trains, on the course's files."""
    run(target, "fit", "--config", config, *course(files), *FEW, "--name", "run")


@pytest.mark.skipif(not all_is_swept(), reason="its parts are in the other tests")
def test_quick(target: Target, files: Path) -> None:
    """The README's first command, then its others."""
    small = {"pairs": 30, "val_pairs": 12, "size": 128, "crop": 64, "cell": 4}
    source = [word for name, value in small.items() for word in (f"--data.source.init_args.{name}", str(value))]
    run(target, "fit", "--config", "quick.yaml", *source, *FEW)
    best = "lightning_logs/quick/version_0/checkpoints/best.ckpt"
    run(target, "validate", "--ckpt_path", best, *QUIET)
    predicted_as_on_the_cpu(target, best)


def test_captures_of_16_bits(target: Target, files: Path) -> None:
    source = ("--config", "data/captures.yaml", "--data.source.init_args.root", str(files / "captures_uint16"))
    patches = ("--data.source.init_args.patch", "12", "--data.source.init_args.patches", "30")
    run(target, "fit", *source, *patches, *FEW, "--name", "captures")
    predicted_as_on_the_cpu(target, "lightning_logs/captures/version_0/checkpoints/best.ckpt")


def predicted_as_on_the_cpu(target: Target, checkpoint: str) -> None:
    """Denoise files of every kind on the device and on the CPU: they agree but for rounding."""
    noisy, denoised, wanted = Path("noisy"), Path("denoised"), Path("wanted")
    noisy.mkdir()
    Image.fromarray(noisy_images("uint8", 1, 70)[0]).save(noisy / "8.png")
    for dtype in DTYPES:
        np.save(noisy / f"{dtype}.npy", noisy_images(dtype, 1, 70)[0])
        if dtype not in ("float16", "float64"):
            tifffile.imwrite(noisy / f"{dtype}.tif", noisy_images(dtype, 3, 70))
    files = ("--ckpt_path", checkpoint, "--input", "noisy", "--output")
    run(target, "predict", *files, str(denoised))
    assert main(["predict", *files, str(wanted), *options("predict", "cpu")]) == 0
    for file in sorted(noisy.iterdir()):
        one, other = read_image(denoised / file.name), read_image(wanted / file.name)
        assert one.dtype == other.dtype
        limit = 2e-3 if one.dtype.kind == "f" else 1 if target.exact else 2
        assert np.abs(one.astype(float) - other.astype(float)).max() <= limit, file.name


INTERRUPTED: dict[str, tuple[str, ...]] = {
    "Adam": (),
    "AdamW": ("--model.optimizer", "torch.optim.AdamW"),
    "SGD": ("--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "0.1"),
    "Muon": ("--model.optimizer", "n2n.optimizers.Muon"),
    "schedule": ("--model.scheduler", "n2n.schedules.OneCycle", "--model.scheduler_interval", "step"),
    "EMA": ("--trainer.callbacks+", "EMAWeightAveraging"),
    "clipping": ("--trainer.gradient_clip_val", "0.1"),
    "accumulation": ("--trainer.accumulate_grad_batches", "2"),
    "bf16-mixed": ("--trainer.precision", "bf16-mixed"),
    "16-mixed": ("--trainer.precision", "16-mixed"),
    "bf16-true": ("--trainer.precision", "bf16-true"),
    "augmented": ("--data.augmentations", "[n2n.data.augmentation.PixelExchange]"),
    "dropout": ("--model.backbone", "tests.networks.Dropping", "--trust", "tests"),
}
# Two at once: each has a state of its own.
INTERRUPTED["schedule, EMA"] = INTERRUPTED["schedule"] + INTERRUPTED["EMA"]
INTERRUPTED["16-mixed, dropout"] = INTERRUPTED["16-mixed"] + INTERRUPTED["dropout"]
FEW_INTERRUPTED = ["schedule, EMA", "16-mixed, dropout"]


@pytest.mark.parametrize("name", INTERRUPTED if all_is_swept() else FEW_INTERRUPTED)
def test_resumed_after_sigterm(name: str, target: Target, files: Path) -> None:
    """A training that SIGTERM interrupts in the middle of an epoch goes on to the same weights."""
    short = (*FEW, "--trainer.max_epochs", "2", "--trainer.limit_train_batches", "4", "--panel.images", "0")
    training = ("--config", "table1/model2.yaml", *course(files), *short, *INTERRUPTED[name])
    run(target, "fit", *training, "--name", "whole")
    stop = ("--trainer.callbacks+", STOP, "--trainer.callbacks.step", "2")
    signalled = ("--trainer.callbacks.number", str(int(signal.SIGTERM)))
    status = main(["fit", *training, *stop, *signalled, "--name", "cut", *target.options("fit")])
    assert status == 128 + signal.SIGTERM
    run(target, "fit", *training, "--name", "cut", "--ckpt_path", "last")
    whole, cut = last("whole"), last("cut")
    assert whole.keys() == cut.keys()
    for key, weights in whole.items():
        if target.exact:
            assert torch.equal(weights, cut[key]), key
        else:
            torch.testing.assert_close(weights, cut[key], rtol=1e-3, atol=1e-3)


def test_average_of_grey_images(target: Target, files: Path) -> None:
    """The backbone's channels are fitted to the images before a callback copies it."""
    source = ("--config", "data/stack.yaml", "--data.source.init_args.root", str(files / "stack_uint8"))
    patches = ("--data.source.init_args.patch", "12", "--data.source.init_args.patches", "30")
    run(target, "fit", *source, *patches, *FEW, "--trainer.callbacks+", "EMAWeightAveraging")
