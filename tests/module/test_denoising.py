from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import lightning as L
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from n2n import DenoisingModule, PairDataModule, backbones
from n2n.cli import main
from n2n.data import CleanImages, CourseFiles
from n2n.data.corruption import Gaussian
from n2n.metrics import BlindEstimate
from tests.conftest import fit, write_course, write_photos
from tests.processes import Command, on_two_devices, run


def test_python_is_as_good_as_the_command(tmp_path: Path) -> None:
    data = PairDataModule(CourseFiles(str(write_course(tmp_path / "data"))), batch_size=20)
    module = DenoisingModule(backbones.ModelFinal(widths=(8,)))
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False)
    trainer.fit(module, data)
    trainer.save_checkpoint("own.ckpt")
    again = DenoisingModule.load_from_checkpoint("own.ckpt", weights_only=True)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in module.state_dict().items())
    assert again.image_channels == 3


@pytest.mark.parametrize(("interval", "last"), [("epoch", 0.25), ("step", 0.5**8)])
def test_scheduler_steps_by_epoch_or_by_step(tmp_path: Path, interval: str, last: float) -> None:
    options = ["--model.scheduler", "ExponentialLR", "--model.scheduler.gamma", "0.5", "--trainer.max_epochs", "3"]
    options += ["--model.scheduler_interval", interval, "--model.optimizer.lr", "1", "--trainer.log_every_n_steps", "1"]
    # Three epochs of three steps: the last step comes after two epochs, or after eight steps.
    assert fit(*options, root=write_course(tmp_path / "data")) == 0
    events = EventAccumulator("lightning_logs/run/version_0")
    events.Reload()
    rates = [event.value for event in events.Scalars("train/lr-Adam")]
    assert rates[0] == 1
    assert rates[-1] == pytest.approx(last)


def test_training_loss_is_the_mean_squared_error_to_the_other_view(tmp_path: Path) -> None:
    root = write_course(tmp_path / "data")
    # A rate of zero leaves the network as it was, so that the epoch's loss can be computed afterwards.
    assert fit("--model.optimizer.lr", "0", "--trainer.precision", "32-true", root=root) == 0
    events = EventAccumulator("lightning_logs/run/version_0")
    events.Reload()
    module = DenoisingModule.load_from_checkpoint(
        "lightning_logs/run/version_0/checkpoints/last.ckpt", map_location="cpu", weights_only=True
    )
    first, second = (x.float() / 255 for x in torch.load(root / "train_data.pkl", weights_only=True))
    with torch.no_grad():
        loss = (module(first) - second).square().mean().item()
    assert events.Scalars("train/loss")[0].value == pytest.approx(loss, rel=1e-4)


def test_channels_that_differ_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, grey = write_course(tmp_path / "data"), write_course(tmp_path / "grey", size=(1, 32, 32))
    options = ["--data.val_source", "n2n.data.CourseFiles", "--data.val_source.root", str(grey)]
    assert fit(*options, root=root) == 2
    assert "training images have 3 channels and validation images 1" in capsys.readouterr().err


def test_generated_pairs_need_no_file(tmp_path: Path) -> None:
    sizes = {"pairs": 20, "val_pairs": 10, "crops_per_image": 10, "size": 64, "crop": 64}
    options = [part for name, value in sizes.items() for part in (f"--data.source.{name}", str(value))]
    common = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    assert main(["fit", "--config", "quick.yaml", *options, *common]) == 0
    assert (tmp_path / "lightning_logs" / "quick" / "version_0" / "checkpoints" / "best.ckpt").is_file()


def test_checkpoint_keeps_no_estimate_of_an_earlier_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    module = DenoisingModule(backbones.ModelFinal(widths=(8,)))
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    module.trainer = trainer
    earlier = {"val/psnr_blind": torch.tensor(30.0), "val/psnr": torch.tensor(25.0)}
    monkeypatch.setattr(L.Trainer, "callback_metrics", earlier)
    # Now the error is estimated below zero: there is no PSNR to say.
    nan = torch.tensor(float("nan"))
    module.blind_estimate = BlindEstimate(torch.tensor(-1.0), nan, nan, nan, torch.tensor(20.0), 8)
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    figures = checkpoint["n2n"]["figures"]
    assert figures == {"val/psnr": 25.0, "val/mse_blind": -1.0, "val/psnr_noisy_blind": 20.0}


def grey_backbone(path: str) -> tuple[int, int]:
    """Return the channels that a checkpoint says, and those of its weights."""
    content = torch.load(path, weights_only=True)
    weight: torch.Tensor = content["state_dict"]["backbone.layers.0.weight"]
    return content["hyper_parameters"]["backbone"]["init_args"]["channels"], weight.shape[1]


@pytest.mark.parametrize("start", [run, on_two_devices])
def test_averaged_weights_have_the_images_channels(tmp_path: Path, start: Callable[..., Command]) -> None:
    root = write_course(tmp_path / "grey", size=(1, 32, 32))
    command = "fit --config table1/model2.yaml --config data/ee559 --name ema --trainer.callbacks+ EMAWeightAveraging"
    command += f" --data.source.root {root} --trainer.max_epochs 1 --trainer.accelerator cpu"
    done = start(*command.split(), "--trainer.enable_progress_bar", "false")
    assert done.poll() == 0, done.err
    assert "WeightAveraging doesn't support sharding" not in done.err
    best = "lightning_logs/ema/version_0/checkpoints/best.ckpt"
    assert grey_backbone(best) == (1, 1)
    for written in ("config.yaml", "hparams.yaml"):
        assert "channels: 1" in Path("lightning_logs/ema/version_0", written).read_text()
    # Also if the class's defaults come back.
    again = ["--model.backbone", "n2n.backbones.Model2", "--ckpt_path", best, "--trainer.accelerator", "cpu"]
    assert main(["validate", *again]) == 0
    resumed = ["--config", "table1/model2.yaml", "--name", "more", "--trainer.max_epochs", "2"]
    assert main(["fit", *resumed, "--trainer.accelerator", "cpu", "--ckpt_path", best.replace("best", "last")]) == 0
    assert grey_backbone("lightning_logs/more/version_0/checkpoints/last.ckpt") == (1, 1)


def test_checkpoint_of_other_channels_is_refused(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = write_course(tmp_path / "grey", size=(1, 32, 32))
    options = ["--data.source", "n2n.data.CourseFiles", "--data.source.root", str(grey), "--trainer.accelerator", "cpu"]
    assert main(["validate", "--ckpt_path", str(checkpoint), *options]) == 2
    assert (
        "the checkpoint was trained on images of 3 channels, and those of this source have 1" in capsys.readouterr().err
    )


def test_checkpoint_describes_the_noise_of_the_pairs(tmp_path: Path) -> None:
    assert fit(root=write_course(tmp_path / "data")) == 0
    path = "lightning_logs/run/version_0/checkpoints/last.ckpt"
    noise = torch.load(path, weights_only=True)["n2n"]["noise"]
    assert len(noise["sigma"]) == 8
    assert -0.2 < noise["neighbours"][0] <= noise["neighbours"][1] < 0.2
    again = DenoisingModule.load_from_checkpoint(path, weights_only=True)
    assert again.noise is not None
    assert again.noise.plain() == noise


def test_a_training_that_goes_on_measures_the_noise_of_more_pairs(tmp_path: Path) -> None:
    """40 pairs are too few at most brightnesses, and 540 are enough."""
    root = write_course(tmp_path / "data", pairs=540)
    found = []
    for steps in ("2", "29", "30"):
        assert fit("--ckpt_path", "last", "--trainer.max_epochs", "2", "--trainer.max_steps", steps, root=root) == 0
        found.append(torch.load("lightning_logs/run/version_0/checkpoints/last.ckpt", weights_only=True)["n2n"])
    first, more, last = (one["noise"] for one in found)
    known = [sum(sigma is not None for sigma in noise["sigma"]) for noise in (first, more)]
    assert known[0] < known[1]
    assert last == more
    assert [one["training"]["noise_known"] for one in found] == [False, True, True]


def test_a_rate_that_waits_for_a_plateau_counts_epochs_with_a_validation(tmp_path: Path) -> None:
    options = (
        "--model.scheduler",
        "torch.optim.lr_scheduler.ReduceLROnPlateau",
        "--trainer.check_val_every_n_epoch",
        "2",
    )
    assert fit(*options, "--trainer.max_epochs", "5", root=write_course(tmp_path / "data")) == 0
    content = torch.load("lightning_logs/run/version_0/checkpoints/last.ckpt", weights_only=True)
    assert content["lr_schedulers"][0]["last_epoch"] == 2


def test_clean_targets_have_no_noise_to_describe(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos", 4, (96, 96))
    targets: list[Literal["noisy", "clean"]] = ["noisy", "clean"]
    for target in targets:
        data = CleanImages(str(root), patch=32, patches=40, corruption=Gaussian(25))
        module = DenoisingModule(backbones.ModelFinal(widths=(8,)))
        trainer = L.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_progress_bar=False)
        trainer.fit(module, PairDataModule(data, batch_size=20, target=target))
        trainer.save_checkpoint("own.ckpt")
        assert ("noise" in torch.load("own.ckpt", weights_only=True)["n2n"]) == (target == "noisy")
