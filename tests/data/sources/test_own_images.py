"""Training on the user's own images, by the command, as a user would."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from n2n.cli import main
from n2n.data.sources.dead_leaves import draw, texture_bank
from n2n.trainer.panels import last_panel

RNG = np.random.default_rng(0)
BEST = "lightning_logs/run/version_0/checkpoints/best.ckpt"
TEXTURES = texture_bank(0, 4, 128)


def scene(i: int, side: int = 96) -> NDArray[np.float64]:
    """Draw a grey scene in [0, 1], H×W."""
    return draw(side, np.random.default_rng(i), TEXTURES)[..., 1] / 255


def fit(source: str, *options: str) -> int:
    options = (
        *("--name", "run", "--model.backbone", "n2n.backbones.ModelFinal", "--model.backbone.widths", "[16,16]"),
        *("--model.backbone.negative_slope", "1", "--model.optimizer.lr", "3e-3"),
        *("--data.source", f"n2n.data.{source}", "--data.batch_size", "10"),
        *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", *options),
    )
    return main(["fit", *options])


def small(patches: int = 200, epochs: int = 3, val_fraction: float = 0.25) -> list[str]:
    values = {"patch": 32, "patches": patches, "val_fraction": val_fraction}
    return [
        *(x for name, value in values.items() for x in (f"--data.source.{name}", str(value))),
        *("--trainer.max_epochs", str(epochs)),
    ]


def figures(path: str = BEST) -> dict[str, float]:
    kept: dict[str, float] = torch.load(path, weights_only=True)["n2n"]["figures"]
    return kept


def blind_psnr(kept: dict[str, float]) -> float:
    return float(-10 * np.log10(kept["val/mse_blind"]))


def write_captures(dtype: type[np.uint8] | type[np.uint16] = np.uint8, high: int = 255, suffix: str = "png") -> None:
    for i in range(8):
        for folder in ("a", "b"):
            Path(folder).mkdir(exist_ok=True)
            noisy = 0.2 + 0.6 * scene(i) + RNG.normal(0, 0.06, (96, 96))
            image = (noisy.clip(0, 1) * high).round().astype(dtype)
            if suffix == "tif":
                tifffile.imwrite(f"{folder}/{i}.tif", image)
            else:
                Image.fromarray(image).save(f"{folder}/{i}.{suffix}")
        Path("clean").mkdir(exist_ok=True)
        clean = ((0.2 + 0.6 * scene(i)) * high).round().astype(dtype)
        tifffile.imwrite(f"clean/{i}.tif", clean)


def test_pairs_alone_tell_how_good_the_result_is(caplog: pytest.LogCaptureFixture) -> None:
    write_captures()
    assert fit("Folders", "--data.source.roots", "[a,b]", *small()) == 0
    blind = figures()
    assert "val/psnr" not in blind
    assert blind["val/psnr_blind"] == pytest.approx(blind_psnr(blind))
    # Two held-out scenes are too few for an interval.
    assert "val/psnr_blind_low" not in blind
    assert "from 2 scenes; an interval needs at least 5" in caplog.text
    assert "estimated without clean images: " in caplog.text
    # The best checkpoint is the one whose estimated error is least.
    events = EventAccumulator("lightning_logs/run/version_0")
    events.Reload()
    assert blind["val/mse_blind"] == pytest.approx(min(e.value for e in events.Scalars("val/mse_blind")))
    found = last_panel(Path("lightning_logs/run/version_0"), 3)
    assert found
    assert [(len(row.pictures), row.psnr) for row in found] == [(2, None)] * len(found)
    assert found[0].pictures[0].shape == (96, 96, 3)
    # The same run with the clean images beside it: the estimate is the truth, and there is a gain.
    assert (
        fit("Folders", "--data.source.roots", "[a,b]", "--data.source.clean", "clean", *small(), "--name", "known") == 0
    )
    known = figures("lightning_logs/known/version_0/checkpoints/best.ckpt")
    assert blind_psnr(known) == pytest.approx(known["val/psnr"], abs=0.3)
    assert known["val/psnr_noisy_blind"] == pytest.approx(known["val/psnr_noisy"], abs=0.3)
    assert known["val/psnr"] > known["val/psnr_noisy"] + 1


def test_captures_of_different_scenes_stop_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    write_captures()
    for i in range(8):
        Path(f"b/{i}.png").rename(f"b/{(i + 1) % 8}_.png")
    for i in range(8):
        Path(f"b/{i}_.png").rename(f"b/{i}.png")
    options = ("--data.source.roots", "[a,b]", *small(20, 1))
    # The second time from the cache.
    for _ in range(2):
        assert fit("Folders", *options) == 2
        (line,) = (line for line in capsys.readouterr().err.splitlines() if "different scenes" in line)
        assert "--data.source.check false" in line
    assert not Path("lightning_logs").exists()
    assert fit("Folders", *options, "--data.source.init_args.check", "false") == 0


def test_range_of_deep_images_is_kept_and_used_again() -> None:
    write_captures(np.uint16, 1000, "tif")
    assert fit("Folders", "--data.source.roots", "[a,b]", *small(100, 1)) == 0
    kept = torch.load(BEST, weights_only=True)["n2n"]
    assert (kept["range"], kept["dtype"], kept["image_channels"]) == ([0.0, 1023.0], "uint16", 1)
    # The backbone's default is 3 channels; the images have one.
    config = yaml.safe_load(Path("lightning_logs/run/version_0/config.yaml").read_text())
    assert config["model"]["backbone"]["init_args"]["channels"] == 1
    assert main(["validate", "--ckpt_path", BEST]) == 0


def test_float_images_are_left_as_they_were_by_validation() -> None:
    for i in range(4):
        for folder in ("a", "b"):
            Path(folder).mkdir(exist_ok=True)
            np.save(f"{folder}/{i}.npy", (scene(i) * 50 - 7 + RNG.normal(0, 3, (96, 96))).astype(np.float32))
    assert fit("Folders", "--data.source.roots", "[a,b]", *small(40, 3), "--model.optimizer.lr", "0") == 0
    events = EventAccumulator("lightning_logs/run/version_0")
    events.Reload()
    losses = [event.value for event in events.Scalars("val/loss")]
    assert losses == [losses[0]] * 3
    low, high = torch.load(BEST, weights_only=True)["n2n"]["range"]
    assert low < -7
    assert high > 20


def test_single_images_alone_train_a_denoiser() -> None:
    for i in range(6):
        noisy = (scene(i) * 0.6 + 0.2 + RNG.normal(0, 0.1, (96, 96))).clip(0, 1)
        for folder, image in (("noisy", noisy), ("clean", scene(i) * 0.6 + 0.2)):
            Path(folder).mkdir(exist_ok=True)
            Image.fromarray((image * 255).round().astype(np.uint8)).save(f"{folder}/{i}.png")
    assert fit("SingleImages", "--data.source.root", "noisy", *small()) == 0
    assert set(figures()) == {"val/loss"}
    options = ["--ckpt_path", BEST, "--data.source.clean", "clean"]
    assert main(["validate", *options]) == 0
    assert (
        fit("SingleImages", "--data.source.root", "noisy", "--data.source.clean", "clean", *small(), "--name", "x") == 0
    )
    known = figures("lightning_logs/x/version_0/checkpoints/best.ckpt")
    assert known["val/psnr"] > known["val/psnr_noisy"] + 1


def test_clean_images_are_made_noisy_on_the_fly(capsys: pytest.CaptureFixture[str]) -> None:
    Path("clean").mkdir()
    for i in range(6):
        Image.fromarray(draw(96, np.random.default_rng(i), TEXTURES)).save(f"clean/{i}.png")
    noise = ("--data.source.corruption", "n2n.data.corruption.Gaussian", "--data.source.corruption.sigma", "25")
    options = ("--data.source.root", "clean", *noise, *small())
    for target in ("noisy", "clean"):
        assert fit("CleanImages", *options, "--data.target", target, "--name", target) == 0
    noisy, clean = (figures(f"lightning_logs/{t}/version_0/checkpoints/best.ckpt") for t in ("noisy", "clean"))
    # Sigma 25 is 20.17 dB.
    assert noisy["val/psnr_noisy_blind"] == pytest.approx(20.17, abs=0.1)
    assert noisy["val/psnr"] > 22
    assert clean["val/psnr"] == pytest.approx(noisy["val/psnr"], abs=1)
    assert blind_psnr(noisy) == pytest.approx(noisy["val/psnr"], abs=0.3)


def test_clean_targets_need_clean_images(capsys: pytest.CaptureFixture[str]) -> None:
    write_captures()
    assert fit("Folders", "--data.source.roots", "[a,b]", *small(20, 1), "--data.target", "clean") == 2
    assert "target is clean, and this source of pairs has no clean images" in capsys.readouterr().err


def test_resumed_run_draws_the_same_patches() -> None:
    write_captures()
    options = ("--data.source.roots", "[a,b]", *small(60, 2))
    assert fit("Folders", *options, "--name", "whole") == 0
    assert fit("Folders", *options, "--name", "part", "--trainer.max_epochs", "1") == 0
    part = "lightning_logs/part/version_0/checkpoints/last.ckpt"
    assert fit("Folders", *options, "--name", "rest", "--ckpt_path", part) == 0
    whole, rest = (
        torch.load(f"lightning_logs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "rest")
    )
    assert all(torch.equal(whole[key], rest[key]) for key in whole)


def test_stack_of_one_scene_trains(caplog: pytest.LogCaptureFixture) -> None:
    frames = [(scene(1) * 150 + 50 + RNG.normal(0, 15, (96, 96))).clip(0, 255).astype(np.uint8) for _ in range(4)]
    tifffile.imwrite("stack.tif", np.stack(frames), photometric="minisblack")
    assert fit("Stack", "--data.source.root", "stack.tif", *small(40, 1, 0.4)) == 0
    assert "one scene only: its last 38 rows are held out" in caplog.text
    assert "val/psnr_blind" in figures()


def test_noise_without_zero_mean_needs_another_loss() -> None:
    Path("clean").mkdir()
    for i in range(4):
        Image.fromarray(draw(96, np.random.default_rng(i), TEXTURES)).save(f"clean/{i}.png")
    noise = ("--data.source.corruption", "n2n.data.corruption.Impulse", "--data.source.corruption.p", "0.2")
    options = ("--data.source.root", "clean", *noise, *small(20, 2))
    with pytest.warns(UserWarning, match=r"use --model.loss n2n.losses.AnnealedL0"):
        assert fit("CleanImages", *options) == 0
    # No estimate without clean images from such noise.
    assert not any("blind" in name for name in figures())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the noise of this source has no zero mean")
        assert fit("CleanImages", *options, "--model.loss", "n2n.losses.AnnealedL0", "--name", "x") == 0
        # Clean targets have no noise.
        assert fit("CleanImages", *options, "--data.target", "clean", "--name", "y") == 0


def test_other_range_than_the_checkpoints_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write_captures(np.uint16, 1000, "tif")
    assert fit("Folders", "--data.source.roots", "[a,b]", *small(20, 1)) == 0
    for i in range(8):
        for folder in ("a", "b"):
            tifffile.imwrite(f"{folder}/{i}.tif", tifffile.imread(f"{folder}/{i}.tif") * 3)
    assert main(["validate", "--ckpt_path", BEST]) == 2
    message = "was trained on values of 0 to 1023, and those of this source are read as 0 to 4095: set its value_range"
    assert message in capsys.readouterr().err
    assert main(["validate", "--ckpt_path", BEST, "--data.source.value_range", "[0, 1023]"]) == 0


def test_clean_images_that_match_nothing_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write_captures()
    Path("other").mkdir()
    Image.fromarray(np.zeros((96, 96), np.uint8)).save("other/none.png")
    for source, root in (("Folders", ("--data.source.roots", "[a,b]")), ("SingleImages", ("--data.source.root", "a"))):
        assert fit(source, *root, "--data.source.clean", "other", *small(20, 1)) == 2
        assert "no image in other belongs to a scene" in capsys.readouterr().err


def test_clean_images_inside_the_folder_are_not_trained_on(caplog: pytest.LogCaptureFixture) -> None:
    write_captures()
    Path("all").mkdir()
    for folder in ("a", "clean"):
        Path(folder).rename(Path("all", folder))
    for i in range(4):
        Path(f"all/clean/{i}.tif").rename(f"all/clean/left{i}.tif")
    options = ("--data.source.root", "all/a", "--data.source.clean", "all/clean", *small(20, 1))
    assert fit("SingleImages", *options) == 0
    assert "clean images found for 4 of 8 scenes" in caplog.text
    assert {"val/psnr", "val/ssim"} <= set(figures())
    caplog.clear()
    options = ("--data.source.root", "all", "--data.source.clean", "all/clean", *small(20, 1))
    assert fit("SingleImages", *options) == 2
    assert "8 images" not in caplog.text


def test_name_counts_beside_a_saved_configuration() -> None:
    write_captures()
    assert fit("Folders", "--data.source.roots", "[a,b]", *small(20, 1)) == 0
    saved = "lightning_logs/run/version_0/config.yaml"
    assert main(["fit", "--config", saved, "--name", "again"]) == 0
    assert Path("lightning_logs/again/version_0/checkpoints/best.ckpt").is_file()


def test_losses_are_best_when_small() -> None:
    write_captures()
    assert fit("Folders", "--data.source.roots", "[a,b]", *small(60, 3), "--checkpoint.monitor", "val/loss") == 0
    events = EventAccumulator("lightning_logs/run/version_0")
    events.Reload()
    assert figures()["val/loss"] == pytest.approx(min(event.value for event in events.Scalars("val/loss")))


def test_enough_scenes_make_a_number() -> None:
    for i in range(12):
        for folder in ("a", "b"):
            Path(folder).mkdir(exist_ok=True)
            noisy = 0.2 + 0.6 * scene(0) + RNG.normal(0, 0.06, (96, 96))
            Image.fromarray((noisy.clip(0, 1) * 255).round().astype(np.uint8)).save(f"{folder}/{i}.png")
    assert fit("Folders", "--data.source.roots", "[a,b]", *small(60, 1, 0.5)) == 0
    kept = figures()
    assert kept["val/psnr_blind_low"] < kept["val/psnr_blind"] < kept["val/psnr_blind_high"]
    events = EventAccumulator("lightning_logs/run/version_0")
    events.Reload()
    assert events.Scalars("val/psnr_blind")[0].value == pytest.approx(kept["val/psnr_blind"])


def test_clean_images_of_other_scenes_are_noticed(caplog: pytest.LogCaptureFixture) -> None:
    write_captures()
    clean = [Path(f"clean/{i}.tif").read_bytes() for i in range(8)]
    for i in range(8):
        Path(f"clean/{i}.tif").write_bytes(clean[(i + 1) % 8])
    assert fit("Folders", "--data.source.roots", "[a,b]", "--data.source.clean", "clean", *small()) == 0
    found = figures()
    said = (
        f"Warning: the noisy images have {found['val/psnr_noisy']:.2f} dB measured against the clean images, and "
        f"{found['val/psnr_noisy_blind']:.2f} dB estimated from pairs: the clean images may be of other scenes"
    )
    assert said in caplog.text
