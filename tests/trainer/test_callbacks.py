from __future__ import annotations

from pathlib import Path

import pytest
import torch

from n2n.commands.runs import Run
from n2n.trainer.callbacks import BestCheckpoint
from tests.conftest import fit, write_course

OWN = ("--config", "own.yaml", "--model.backbone", "n2n.backbones.Model2", "--model.start_from", "null")


def test_own_yaml_keeps_the_last_step(tmp_path: Path) -> None:
    """Also with a validation within the epoch, and a rate so high that the first one is the best."""
    within = ("--trainer.val_check_interval", "0.5", "--trainer.max_epochs", "1", "--model.optimizer.lr", "0.3")
    assert fit(*OWN, *within, "--data.batch_size", "10", root=write_course(tmp_path / "data")) == 0
    kept = [torch.load(path, weights_only=True)["global_step"] for path in Path("lightning_logs").rglob("best.ckpt")]
    assert kept == [6]


@pytest.mark.parametrize(("monitor", "step"), [("val/psnr_per_image", 3), ("step", 6)])
def test_the_row_of_an_epoch_has_the_figures_of_its_best_checkpoint(monitor: str, step: int, tmp_path: Path) -> None:
    """The first of two validations is the better one."""
    within = ("--trainer.val_check_interval", "0.5", "--model.optimizer.lr", "1e-3", "--data.batch_size", "10")
    assert fit(*within, "--checkpoint.monitor", monitor, root=write_course(tmp_path / "data")) == 0
    folder = Path("lightning_logs/run/version_0")
    kept = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)
    assert kept["global_step"] == step
    epoch, figures = Run.read(folder).best()
    assert epoch == 1
    assert figures == pytest.approx(kept["n2n"]["figures"])


def test_several_of_the_best_checkpoints_are_kept_by_the_default_figure(tmp_path: Path) -> None:
    options = ("--checkpoint.save_top_k", "2", "--trainer.max_epochs", "4", "--model.optimizer.lr", "0.01")
    assert fit(*options, root=write_course(tmp_path / "data")) == 0
    folder = Path("lightning_logs/run/version_0")
    kept = [torch.load(path, weights_only=True)["epoch"] + 1 for path in folder.glob("checkpoints/best*.ckpt")]
    reached = Run.read(folder).curve("val/psnr_per_image")
    assert sorted(kept) == sorted(sorted(reached, key=reached.__getitem__)[-2:])


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("step", "max"), ("val/loss", "min"), ("val/mse_blind", "min"), ("val/psnr", "max"), ("val/ssim", "max")],
)
def test_a_monitor_brings_its_mode(monitor: str, mode: str) -> None:
    assert BestCheckpoint(monitor).mode == mode


@pytest.mark.parametrize(
    "path", ["checkpoints/../../precious", "/precious.ckpt", "..", "local::best.ckpt", "a\\b\\..\\best.ckpt", ""]
)
def test_the_files_that_a_state_names_are_looked_for_in_the_folder_of_the_run(path: str, tmp_path: Path) -> None:
    for name in ("best.ckpt", "precious.ckpt", "other.ckpt"):
        (tmp_path / name).touch()
    callback = BestCheckpoint("val/psnr", dirpath=str(tmp_path))
    state = callback.state_dict() | {"best_model_score": torch.tensor(1.0), "dirpath": "/elsewhere"}
    state |= {"best_model_path": "/old/best.ckpt", "kth_best_model_path": path, "last_model_path": path}
    callback.load_state_dict(state | {"best_k_models": {path: torch.tensor(1.0)}})
    assert callback.best_model_path == str(tmp_path / "best.ckpt")
    named = [callback.kth_best_model_path, callback.last_model_path, *callback.best_k_models]
    assert all(not one or (Path(one).parent == tmp_path and one.endswith(".ckpt")) for one in named)
    assert not any(".." in one or "::" in one for one in named)
    # The best checkpoint of the state is not there: the choice starts anew.
    anew = BestCheckpoint("val/psnr", dirpath=str(tmp_path))
    anew.load_state_dict(state | {"best_model_path": "/old/gone.ckpt"})
    assert (anew.best_model_path, anew.best_model_score) == ("", None)
