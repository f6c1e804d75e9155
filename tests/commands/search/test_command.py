from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from n2n.cli import main
from n2n.commands.search.trial import Reporter
from tests.commands.search.conftest import GRID, LR, OPTIMIZER, read_trials, write_search
from tests.conftest import write_course


def checkpoint(trial: str) -> dict[str, Any]:
    path = Path("lightning_logs/s", trial, "checkpoints", "best.ckpt")
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def test_grid_has_each_point_once_and_its_best_trains(capsys: pytest.CaptureFixture[str]) -> None:
    command = write_search(epochs=2, **GRID)
    assert main(command) == 0
    trials = read_trials()
    assert {(t[OPTIMIZER], t[LR]) for t in trials} == {
        (f"torch.optim.{name}", rate) for name in ("Adam", "SGD") for rate in ("0.001", "0.01")
    }
    assert [t["number"] for t in trials] == ["0", "1", "2", "3"]
    for trial in trials:
        kept = checkpoint(f"trial_{int(trial['number']):04d}")
        assert float(trial["value"]) == kept["n2n"]["figures"]["val/psnr_per_image"]
        assert int(trial["best epoch"]) == kept["epoch"] + 1
        assert kept["hyper_parameters"]["optimizer"]["class_path"] == trial[OPTIMIZER]
        assert kept["hyper_parameters"]["optimizer"]["init_args"]["lr"] == float(trial[LR])
    folder = Path("lightning_logs/s")
    for name in ("trials", "importances", "slice_lr", "slice_optimizer"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (folder / f"{name}.svg").read_text()
    shown = capsys.readouterr().out
    assert "n2n fit --config lightning_logs/s/best.yaml" in shown
    assert "importances.png" in (folder / "search.md").read_text()

    # Again: it is done.
    assert main(command) == 0
    assert read_trials() == trials
    assert "trial 0:" not in capsys.readouterr().out

    best = max(trials, key=lambda t: float(t["value"]))
    assert main(["fit", "--config", "lightning_logs/s/best.yaml"]) == 0
    run = Path("lightning_logs/s/best/version_0")
    figures = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["n2n"]["figures"]
    assert figures["val/psnr_per_image"] == float(best["value"])
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["enable_progress_bar"] is None


@pytest.mark.usefixtures("no_plots")
def test_hopeless_trials_are_pruned() -> None:
    pruner = {"class_path": "MedianPruner", "init_args": {"n_startup_trials": 1}}
    assert main(write_search(epochs=3, sampler="grid", pruner=pruner, space={LR: [1e-3, 1e-9]})) == 0
    first, second = read_trials()
    assert (first["state"], first["epochs"]) == ("complete", "3")
    assert (second["state"], second["epochs"]) == ("pruned", "1")


@pytest.mark.usefixtures("no_plots")
def test_tpe_goes_on_from_where_it_was_with_more_trials(capsys: pytest.CaptureFixture[str]) -> None:
    space = {
        LR: {"low": 1e-4, "high": 1e-1, "log": True},
        "data.batch_size": {"low": 10, "high": 20, "step": 5},
        "model.backbone": [
            {"class_path": "n2n.backbones.Model2", "init_args": {"hidden": 4}},
            "n2n.backbones.Model2v1",
        ],
        "model.scheduler": [None, {"class_path": "n2n.schedules.OneCycle"}],
    }
    command = write_search(trials=2, monitor="val/loss", space=space, pruner="hyperband")
    assert main([*command, "--storage", "sqlite:///here/study.db"]) == 0
    before = read_trials()
    assert main([*command, "--storage", "sqlite:///here/study.db", "--trials", "3"]) == 0
    after = read_trials()
    assert after[:2] == before
    assert len(after) == 3
    assert len({trial[LR] for trial in after}) == 3
    best = min(after, key=lambda t: float(t["value"]))
    config = yaml.safe_load(Path("lightning_logs/s/best.yaml").read_text())
    assert config["model"]["optimizer"]["init_args"]["lr"] == float(best[LR])
    assert config["checkpoint"]["monitor"] == "val/loss"
    assert "val/loss minimized" in capsys.readouterr().out


@pytest.mark.usefixtures("no_plots")
def test_a_search_that_was_interrupted_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = write_search(epochs=2, sampler="grid", space={LR: [1e-3, 1e-2]})
    handler = signal.getsignal(signal.SIGINT)
    report, calls = Reporter.on_train_epoch_end, []

    def interrupt(self: Reporter, *args: Any) -> None:
        calls.append(self.trial.number)
        if len(calls) == 4:
            raise KeyboardInterrupt
        report(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "on_train_epoch_end", interrupt)
        assert main(command) == 130
    assert signal.getsignal(signal.SIGINT) == handler
    assert capsys.readouterr().err.strip().endswith("the same command continues from here.")
    assert [t["state"] for t in read_trials()] == ["complete", "waiting"]
    before = read_trials()[1]
    assert Path("lightning_logs/s/best.yaml").exists()
    assert main(command) == 0
    trials = read_trials()
    assert [(t["number"], t["state"], t["epochs"]) for t in trials] == [(str(i), "complete", "2") for i in range(2)]
    assert trials[1][LR] == before[LR]


@pytest.mark.usefixtures("no_plots")
def test_failed_trials_have_a_reason_and_the_search_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    # The second has no such batch size, and the third no finite loss.
    space = {"data.batch_size": [10, 0], LR: [1e-3, 1e30]}
    assert main(write_search(epochs=2, sampler="grid", space=space)) == 0
    trials = read_trials()
    assert [t["state"] for t in trials] == ["complete", "fail", "fail", "fail"]
    assert "the training diverged: the loss of step 2 of epoch 1" in trials[1]["reason"]
    assert "batch_size is 0" in trials[2]["reason"]
    assert "batch_size is 0" in (Path("lightning_logs/s/search.md")).read_text()


@pytest.mark.usefixtures("no_plots")
def test_a_search_of_failures_alone_is_given_up_and_may_begin_anew(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(write_search(sampler="grid", space={LR: [1e29, 1e30]})) == 2
    assert "the first 2 trials all failed, the last with: the training diverged" in capsys.readouterr().err
    assert main(write_search(sampler="grid", space={LR: [1e-3, 1e-2]})) == 0
    assert [t["state"] for t in read_trials()] == ["complete"] * 2


@pytest.mark.usefixtures("no_plots")
def test_images_that_are_not_there_end_a_search_before_its_first_trial(capsys: pytest.CaptureFixture[str]) -> None:
    command = write_search(sampler="grid", space={LR: [1e-3, 1e-2]})
    assert main([*command, "--data.source.init_args.root", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("n2n search: error: nowhere/val_data.pkl is not there")
    assert not Path("lightning_logs").exists()


@pytest.mark.usefixtures("no_plots")
@pytest.mark.usefixtures("no_plots")
def test_without_clean_images_trials_are_compared_by_an_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    scene = np.linspace(20, 200, 64) + np.linspace(0, 30, 64)[:, None]
    for name in ("a", "b"):
        Path(name).mkdir()
        for i in range(6):
            Image.fromarray((np.roll(scene, 9 * i, 1) + rng.normal(0, 8, scene.shape)).astype(np.uint8)).save(
                f"{name}/{i}.png"
            )
    options = ["--config", "data/folders.yaml", "--root", "a", "--root", "b", "--data.batch_size", "5"]
    options += ["--model.backbone.widths", "[4,4]"]
    Path("better.yaml").write_text("search: {direction: maximize}\n")
    command = [
        "search",
        "--config",
        "search/tpe.yaml",
        "--config",
        "better.yaml",
        *options,
        "--epochs",
        "1",
        "--trials",
        "2",
    ]
    assert main([*command, "--trainer.limit_train_batches", "2", "--trainer.accelerator", "cpu"]) == 0
    assert (
        "There are no clean images to validate with: trials are compared by val/mse_blind." in capsys.readouterr().out
    )
    best = min(read_trials("search/tpe"), key=lambda trial: float(trial["value"]))
    first = f"---|\n| {best['number']} | {float(best['value']):.6g} |"
    assert first in Path("lightning_logs/search/tpe/search.md").read_text()
    trials = read_trials("search/tpe")
    assert [trial["state"] for trial in trials] == ["complete"] * 2
    kept = torch.load("lightning_logs/search/tpe/trial_0001/checkpoints/best.ckpt", weights_only=True)
    assert kept["n2n"]["figures"]["val/mse_blind"] == pytest.approx(float(trials[1]["value"]), rel=1e-5)


@pytest.mark.usefixtures("no_plots")
def test_a_study_of_something_else_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    command = write_search(sampler="random", trials=1, space={LR: [1e-3, 1e-2]})
    write_course(Path("other"))
    assert main(command) == 0
    for options, named in (
        (["--trainer.max_epochs", "2"], "trainer.max_epochs was 1 and is 2 now"),
        (["--data.source.init_args.root", "other"], "data.source.init_args.root was data and is other now"),
    ):
        assert main([*command, *options]) == 2
        assert named in capsys.readouterr().err
    # What only the machine decides may differ.
    assert main([*command, "--trainer.precision", "32-true"]) == 0
    write_search(sampler="random", trials=1, space={LR: [1e-3, 1e-1]})
    assert main(command) == 2
    changed = "was {'choices': [0.001, 0.01]} and is {'choices': [0.001, 0.1]} now"
    assert f"search.space.{LR} {changed}" in capsys.readouterr().err
    Path("lightning_logs/s/study.db").unlink()
    assert main(command) == 2
    assert "lightning_logs/s has trials" in capsys.readouterr().err
