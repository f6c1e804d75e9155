"""Image files predicted by Lightning's Trainer: from the command line in several processes, and from Python."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from n2n import Denoiser
from n2n.backbones import ModelFinal
from n2n.cli import main
from n2n.data.image_files import ImageFiles
from n2n.errors import InputError
from n2n.module import DenoisingModule
from n2n.trainer.image_writer import WriteImages
from n2n.trainer.prediction_cli import PredictionCLI
from tests.conftest import write_photos
from tests.images import read_image
from tests.networks import Slow
from tests.processes import Command
from tests.write_checkpoints import mean, write_checkpoint

# Lightning starts the second process.
TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]


def start(*options: str) -> Command:
    return Command("predict", "--ckpt_path", "mean.ckpt", *options)


def said(lines: str) -> list[str]:
    """Return the lines of a prediction but for the progress."""
    return [line for line in lines.splitlines() if "n2n predict:" in line or line.startswith("Den")]


def contents(folder: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def photos(count: int = 20) -> None:
    write_checkpoint("mean.ckpt", mean)
    rng = np.random.default_rng(0)
    for i in range(count):
        write_photos(Path(f"in/{i}"), 1, tuple(int(side) for side in rng.integers(20, 90, 2)))  # type: ignore[arg-type]


def test_two_processes_give_what_one_gives(capsys: pytest.CaptureFixture[str]) -> None:
    photos()
    Path("in/7/bad.png").write_text("no image")
    assert main(["predict", "--ckpt_path", "mean.ckpt", "--input", "in", "--output", "one", "--device", "cpu"]) == 2
    alone = capsys.readouterr().err.splitlines()
    two = start("--input", "in", "--output", "two", *TWO)
    assert two.wait() == 2
    lines = said(two.err)
    assert lines[-2] == alone[-2]
    assert lines[-2].startswith("n2n predict: error: in/7/bad.png is not an image that n2n reads")
    assert [line for line in lines if "Denoised" in line] == ["Denoised 20 of 21 images to two"]
    assert len(contents("one")) == 20
    assert contents("one") == contents("two")
    again = start("--input", "in", "--output", "two", *TWO)
    assert again.wait() == 2
    (line,) = said(again.err)
    assert "exist already" in line


def test_processes_that_torchrun_started() -> None:
    photos(3)
    Path("in/1/bad.png").write_text("no image")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "n2n", "predict"]
    options = ["--ckpt_path", "mean.ckpt", "--input", "in", "--output", "out", *TWO]
    done = subprocess.run([sys.executable, *torchrun, *options], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert said(done.stderr)[-1] == "Denoised 3 of 4 images to out"
    assert len(contents("out")) == 3


@pytest.mark.parametrize("everyone", [True, False], ids=["terminal", "first process"])
def test_stopping_two_processes_leaves_no_half_file(everyone: bool) -> None:
    write_checkpoint("mean.ckpt", Slow(), 1)
    for i in range(2):
        Path("in").mkdir(exist_ok=True)
        np.save(f"in/{i}.npy", np.zeros((4000, 4000), np.float32))
    process = start("--input", "in", "--output", "out", "--tile", "64", "--trust", "tests", *TWO)
    process.wait_until(lambda: len(list(Path().glob("out/.n2n-*/*.npy"))) == 2)
    if everyone:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send(signal.SIGTERM)
    assert process.wait_for_all() == (130 if everyone else 143)
    assert "Stopped: denoised 0 of 1 image to out" in process.err
    assert list(Path("out").iterdir()) == []


def test_a_config_says_all_that_options_say(capsys: pytest.CaptureFixture[str]) -> None:
    photos(1)
    options = ["--input", "in", "--range", "-5", "255", "--tile", "32", "--precision", "bf16", "--device", "cpu"]
    with pytest.raises(SystemExit, match="0"):
        main(["predict", "--ckpt_path", "mean.ckpt", *options, "--output", "a", "--print_config"])
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["model"]["range"] == [-5, 255]
    assert yaml.safe_load(text)["trainer"]["precision"] == "bf16-mixed"
    Path("predict.yaml").write_text(text)
    assert main(["predict", "--config", "predict.yaml"]) == 0
    assert main(["predict", "--config", "predict.yaml", "--output", "b", "--range", "0", "255"]) == 0
    assert contents("a").keys() == contents("b").keys() == {"0/0.png"}
    denoiser = Denoiser.from_checkpoint("mean.ckpt", "cpu", "bf16", 32, range=(-5, 255))
    assert np.array_equal(read_image(Path("a/0/0.png"))[0], denoiser(read_image(Path("in/0/0.png"))[0]))


def trained(checkpoint: Path) -> tuple[DenoisingModule, Denoiser]:
    torch.manual_seed(0)
    return DenoisingModule(ModelFinal(widths=[8, 8])), Denoiser.from_checkpoint(checkpoint, "cpu")


def trainer(*callbacks: Callback, **options: Any) -> L.Trainer:
    return L.Trainer(accelerator="cpu", logger=False, callbacks=list(callbacks), enable_progress_bar=False, **options)


def test_files_from_python(checkpoint: Path) -> None:
    write_photos(Path("in"), 3)
    module, denoiser = trained(checkpoint)
    files = ImageFiles("in", "out")
    predictions = trainer(WriteImages()).predict(module, datamodule=files, ckpt_path=checkpoint)
    assert predictions is not None
    assert [prediction.file.target for prediction in predictions] == [Path(f"out/{i}.png") for i in range(3)]  # type: ignore[union-attr]
    assert all(file.done for file in files.files)
    for i in range(3):
        noisy = read_image(Path(f"in/{i}.png"))[0]
        assert np.array_equal(read_image(Path(f"out/{i}.png"))[0], denoiser(noisy))
    # It can go on training.
    assert all(parameter.requires_grad for parameter in module.parameters())
    shutil.rmtree("out")
    with pytest.raises(InputError, match="callbacks="):
        trainer().predict(module, datamodule=ImageFiles("in", "out"), ckpt_path=checkpoint)
    assert not Path("out").exists()


def test_tensors_from_python(checkpoint: Path) -> None:
    module, denoiser = trained(checkpoint)
    images = torch.rand(5, 3, 24, 40)
    found = trainer().predict(module, DataLoader(images, batch_size=2), ckpt_path=checkpoint)  # type: ignore[arg-type]
    assert found is not None
    assert torch.allclose(torch.cat(found), denoiser.denoise(images), atol=1e-6)  # type: ignore[arg-type]


def test_a_precision_that_files_cannot_have(checkpoint: Path) -> None:
    write_photos(Path("in"), 1)
    module, _ = trained(checkpoint)
    with pytest.raises(InputError, match="precision is 64"):
        trainer(WriteImages(), precision="64-true").predict(module, datamodule=ImageFiles("in", "out"))
    assert not Path("out").exists()


def test_the_bar_counts_whole_images_and_ends_at_their_number() -> None:
    """The parts of an image advance it, and add up to a little more or less than 1."""
    drawn, writer = io.StringIO(), WriteImages()
    writer.start_bar(2, shown=True, file=drawn)
    assert "0/2 images" in drawn.getvalue()
    for part, text in ((0.6, "0/2 images"), (0.3999999, "1/2 images"), (0.7, "1/2 images"), (0.4, "2/2 images")):
        writer.advance(part)
        assert writer.bar.unit == text
    assert writer.bar.n == pytest.approx(2, abs=1e-9)


def test_processes_wait_for_the_slowest(tmp_path: Path) -> None:
    photos(2)
    files = ["--model.ckpt_path", "mean.ckpt", "--data.input", "in", "--data.output", "out"]
    strategies = [PredictionCLI([*files, *options], print).trainer.strategy for options in ([], TWO)]
    assert not isinstance(strategies[0], DDPStrategy)
    assert isinstance(strategies[1], DDPStrategy)
    assert strategies[1]._timeout == timedelta(days=30)
