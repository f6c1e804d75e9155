from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]

from n2n import Denoiser, __version__
from n2n.cli import main
from n2n.trainer.panels import last_panel
from tests.conftest import fit, write_course, write_photos
from tests.write_checkpoints import same, write_checkpoint


def test_fit_leaves_a_whole_run(checkpoint: Path) -> None:
    run = checkpoint.parent.parent
    assert {path.name for path in checkpoint.parent.iterdir()} == {"best.ckpt", "last.ckpt", "before_last.ckpt"}
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["seed_everything"] == 0
    assert config["trainer"]["precision"] in ("bf16-mixed", "32-true")
    events = EventAccumulator(str(run), size_guidance={"images": 0})
    events.Reload()
    names = {"psnr", "psnr_per_image", "psnr_noisy", "psnr_noisy_per_image", "loss", "ssim"}
    assert {f"val/{name}" for name in names} | {"train/loss", "train/lr-Adam"} <= set(events.Tags()["scalars"])
    losses = [event.value for event in events.Scalars("train/loss")]
    assert len(losses) == 30
    assert losses[-1] < losses[0]
    images = events.Images("val/noisy_denoised_clean")
    # Epochs 0, 5, ..., 25 and the last, of 15 steps each.
    assert [image.step for image in images] == [15, 90, 165, 240, 315, 390, 450]
    assert {path.name for path in run.iterdir()} >= {"metrics.csv", "run.yaml", "hparams.yaml"}
    epochs = (1, 6, 11, 16, 21, 26, 30)
    names = {f"epoch_{epoch:03}.{suffix}" for epoch in epochs for suffix in ("png", "csv")}
    assert {path.name for path in (run / "panels").iterdir()} == names
    # TensorBoard shows the same picture.
    shown = np.asarray(Image.open(io.BytesIO(images[-1].encoded_image_string)))
    assert np.array_equal(shown, np.asarray(Image.open(run / "panels" / "epoch_030.png")))
    # The PSNRs of a panel are those of its pixels, which are rounded to 8 bits there;
    # a network in bfloat16 gives steps of 1/256, which that rounds to one side.
    panel = last_panel(run, 30)
    assert len(panel) == 8
    for row in panel:
        assert row.psnr is not None
        noisy, denoised, clean = (picture / 255 for picture in row.pictures)
        for picture, psnr in zip((noisy, denoised), row.psnr, strict=True):
            assert psnr == pytest.approx(-10 * np.log10(np.square(picture - clean).mean() + 1e-8), abs=0.1)
    # Sigma 20 is 22.1 dB.
    assert events.Scalars("val/psnr_noisy")[0].value == pytest.approx(22.1, abs=0.3)


def test_tensorboard_can_sort_runs_by_their_hyperparameters(checkpoint: Path) -> None:
    events = EventAccumulator(str(checkpoint.parent.parent))
    events.Reload()
    hparams = HParamsPluginData.FromString(events.PluginTagToContent("hparams")["_hparams_/session_start_info"])
    values = {
        name: value.string_value or value.number_value for name, value in hparams.session_start_info.hparams.items()
    }
    expected: dict[str, object] = {
        "model/backbone/class_path": "n2n.backbones.ModelFinal",
        "model/backbone/init_args/widths": "[8, 8]",
    }
    expected |= {"model/optimizer/class_path": "torch.optim.Adam", "model/optimizer/init_args/lr": 1e-2}
    expected |= {"data/batch_size": 4, "data/target": "noisy", "data/source/class_path": "n2n.data.CourseFiles"}
    expected |= {"seed": 0, "epochs": 30}
    assert expected.items() <= values.items()
    # Without padding every pixel costs each weight once.
    assert values["macs_per_pixel"] == 3 * 8 * 9 + 8 * 8 * 9 + 8 * 3 * 9
    assert "thread" in str(values["device"])
    assert values["parameters"] == 3 * 8 * 9 + 8 + 8 * 8 * 9 + 8 + 8 * 3 * 9 + 3
    figures = torch.load(checkpoint, weights_only=True)["n2n"]["figures"]
    best = {name.replace("val/", "best/"): value for name, value in figures.items() if name.startswith("val/")}
    assert "best/psnr_per_image" in best
    assert {name: values[name] for name in best} == pytest.approx(best)
    # Nothing but curves has a chart.
    assert {tag.split("/")[0] for tag in events.Tags()["scalars"]} == {"train", "val"}


def test_checkpoint_holds_plain_values_only(checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    assert content["hyper_parameters"]["backbone"]["class_path"] == "n2n.backbones.ModelFinal"
    assert content["n2n"]["image_channels"] == 3


def test_fit_ends_with_a_command_that_works(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_photos(tmp_path / "noisy", 1)
    options = ("--model.backbone", "tests.networks.Residual", "--trust", "tests", "--trainer.max_epochs", "8")
    assert (
        fit(*options, "--model.optimizer.lr", "3e-3", "--data.batch_size", "4", root=write_course(tmp_path / "data"))
        == 0
    )
    command = re.search(r"n2n (predict .*)", caplog.text)
    assert command is not None
    assert main(command[1].split()) == 0
    assert (tmp_path / "denoised" / "0.png").is_file()


def test_validate_needs_the_checkpoint_alone(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", "--ckpt_path", str(checkpoint)]) == 0
    shown = capsys.readouterr().out
    score = re.search(r"val/psnr_per_image\s+([\d.]+)", shown)
    kept = torch.load(checkpoint, weights_only=True)["callbacks"]
    (best,) = [state["best_model_score"] for state in kept.values() if state.get("monitor")]
    assert score is not None
    assert float(score[1]) == pytest.approx(float(best), abs=1e-3)
    assert list(tmp_path.iterdir()) == []


def test_validate_says_that_the_checkpoint_named_the_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_course(tmp_path / "course")
    assert fit(root=root) == 0
    best = "lightning_logs/run/version_0/checkpoints/best.ckpt"
    root.rename(tmp_path / "elsewhere")
    assert main(["validate", "--ckpt_path", best, "--trainer.accelerator", "cpu"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "val_data.pkl is not there" in line
    assert line.endswith(
        "the checkpoint names these images: name yours, with --config data/captures.yaml --root FOLDER for example)"
    )
    moved = ["--data.val_source.root", str(tmp_path / "elsewhere")]
    assert (
        main(["validate", "--ckpt_path", best, "--trainer.accelerator", "cpu", *moved, "--data.batch_size", "0"]) == 2
    )
    assert "the checkpoint names" not in capsys.readouterr().err


def test_validate_measures_the_images_that_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And not those that the training was validated on."""
    root = write_course(tmp_path / "data")
    assert fit("--data.val_source", "CourseFiles", "--data.val_source.root", str(root), root=root) == 0
    command = ["validate", "--ckpt_path", "lightning_logs/run/version_0/checkpoints/best.ckpt"]
    assert main(command) == 0
    (tmp_path / "x.yaml").write_text("data: {source: {class_path: CourseFiles, init_args: {root: nowhere}}}")
    capsys.readouterr()
    for named in ("--root nowhere", "--data.source CourseFiles --data.source.root nowhere", "--config x.yaml"):
        assert main([*command, *named.split()]) == 2
        assert "nowhere" in capsys.readouterr().err
    assert main([*command, "--root", "nowhere", "--data.val_source.root", str(root)]) == 0


def test_resume_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    root = write_course(tmp_path / "data")
    assert fit("--trainer.max_epochs", "2", "--name", "whole", root=root) == 0
    assert fit("--name", "part", root=root) == 0
    part = "lightning_logs/part/version_0/checkpoints/last.ckpt"
    assert fit("--trainer.max_epochs", "2", "--name", "rest", "--ckpt_path", part, root=root) == 0
    whole, rest = (
        torch.load(f"lightning_logs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "rest")
    )
    assert all(torch.equal(whole[key], rest[key]) for key in whole)


def test_own_backbone_and_own_loss_by_path(tmp_path: Path) -> None:
    options = ["--model.backbone", "tests.networks.Residual", "--model.backbone.hidden", "4"]
    assert fit(*options, "--model.loss", "torch.nn.L1Loss", root=write_course(tmp_path / "data")) == 0
    denoiser = Denoiser.from_checkpoint("lightning_logs/run/version_0/checkpoints/best.ckpt", trust=["tests"])
    assert type(denoiser.backbone).__name__ == "Residual"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("fit --config nonsense", "final.yaml"),
        ("fit --config", "final.yaml"),
        ("fit --trainer.max_epoch 3", "did you mean --trainer.max_epochs?"),
        ("fit --data.source torch.nn.ReLU", "does not implement protocol PairSource"),
        ("fit --data.batch_size 0", "batch_size is 0"),
        ("fit --panel.every_n_epochs 0", "every_n_epochs is 0"),
        ("fit --config data/ee559 --trainer.accelerator cpu", "train_data.pkl is not there"),
        ("fit --config data/photos --trainer.accelerator cpu", "photos is not a folder"),
        ("validate", "add --ckpt_path"),
        ("validate --ckpt_path none.ckpt", "none.ckpt is not there"),
    ],
)
def test_mistakes_get_one_line(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"n2n {command.split()[0]}: error:")
    assert message in last
    assert not Path("lightning_logs").exists()


def test_backbone_that_does_not_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_course(tmp_path / "data")
    assert fit("--model.backbone.channels", "1", root=root) == 2
    assert "cannot take images of 3×32×32" in capsys.readouterr().err
    assert fit("--model.backbone", "n2n.backbones.Model1", "--model.backbone.width", "16", root=root) == 2
    assert "bound to images 16 pixels wide" in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert f"n2n {__version__}" in shown
    assert "quick.yaml" in shown


def test_a_result_worse_than_its_input_is_no_success(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_course(tmp_path / "data")
    options = ("--model.optimizer.lr", "1e-9", "--trainer.max_epochs", "1")
    assert fit(*options, root=root) == 0
    assert "Warning: the result is worse than the noisy input. Train longer" in caplog.text
    assert "Denoise with it" not in caplog.text


def test_a_constant_result_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_course(tmp_path / "data")
    options = ("--model.backbone", "tests.networks.Dead", "--trust", "tests")
    assert fit(*options, root=root) == 0
    assert "worse than the noisy input. Its output is the same for any input." in caplog.text


def test_python_m_runs_no_file_of_the_current_folder(tmp_path: Path) -> None:
    for name in ("yaml", "tqdm", "torch", "numpy"):
        (tmp_path / f"{name}.py").write_text("open('code-ran', 'w')")
    write_checkpoint(str(tmp_path / "x.ckpt"), same)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "n2n", "export", "--ckpt_path", "x.ckpt", "--format", "torch"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "code-ran").exists()
