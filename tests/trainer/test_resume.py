from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from filelock import FileLock
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from n2n.checkpoints.on_disk import claim_version, last_run
from n2n.cli import main
from n2n.commands.runs import Run
from n2n.commands.search.configuration import FitConfig
from n2n.trainer.logger import write_facts
from n2n.trainer.run_folder import read_facts
from tests.conftest import write_course
from tests.processes import Command, barrier

OPTIONS = [
    *("--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--trainer.max_epochs", "3"),
    *("--data.batch_size", "10", "--trainer.enable_progress_bar", "false"),
]
SWAPS = "[n2n.data.augmentation.FlipsAndRotations,n2n.data.augmentation.PixelExchange]"
KINDS = {
    "plain": ["--config", "table1/model3.yaml"],
    "schedule": [
        *("--config", "table1/model2.yaml", "--model.scheduler", "n2n.schedules.OneCycle"),
        *("--model.scheduler_interval", "step", "--data.augmentations", SWAPS),
        *("--model.optimizer", "n2n.optimizers.Muon"),
    ],
    "average": ["--config", "table1/model2.yaml", "--trainer.callbacks+", "EMAWeightAveraging"],
    "dropout": ["--config", "table1/model2.yaml", "--model.backbone", "tests.networks.Dropping", "--trust", "tests"],
}


class Signal(Callback):
    """Sends a signal to this very process after some step."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.step, self.number = step, number

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


class Spoil(Callback):
    """Lets the network forget all it has learnt, in each step."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for weights in pl_module.parameters():
            weights.data.zero_()


@pytest.fixture(autouse=True)
def _in_a_terminal() -> Iterator[None]:
    """Take SIGHUP, which what nohup started ignores."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_course(tmp_path / "data")


def fit(name: str, *options: str) -> int:
    data = ["--config", "data/ee559", "--data.source.root", "data", "--name", name]
    return main(["fit", *options, *data, *OPTIONS])


def weights(name: str, version: int = 0) -> dict[str, Tensor]:
    path = f"lightning_logs/{name}/version_{version}/checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    averages = content.get("current_model_state", {})
    return {**content["state_dict"], **{f"current {key}": value for key, value in averages.items()}}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def stop_at(step: int, number: int = signal.SIGTERM) -> list[str]:
    return [
        *("--trainer.callbacks+", "tests.trainer.test_resume.Signal", "--trainer.callbacks.step", str(step)),
        *("--trainer.callbacks.number", str(int(number))),
    ]


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_training_that_was_stopped_ends_as_if_it_had_not_been(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    # 60 pairs in batches of 10: the second epoch is steps 7 to 12.
    assert fit("whole", *KINDS[kind]) == 0
    assert fit("halves", *KINDS[kind], *stop_at(8)) == 143
    error = capsys.readouterr().err
    assert (
        "stopped in epoch 2 after 2 of 6 steps, saved in lightning_logs/halves/version_0/checkpoints/last.ckpt" in error
    )
    assert "n2n fit --config lightning_logs/halves/version_0/config.yaml --ckpt_path last" in error
    assert fit("halves", *KINDS[kind], "--ckpt_path", "last") == 0
    assert same(weights("whole"), weights("halves"))
    for tag in ("train/loss", "val/psnr_per_image"):
        whole, halves = (Run.read(Path(f"lightning_logs/{name}/version_0")).curve(tag) for name in ("whole", "halves"))
        assert halves == whole


def test_ctrl_c_saves_too_and_a_signal_at_the_end_of_an_epoch_stops_after_its_validation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fit("whole", *KINDS["schedule"]) == 0
    assert fit("a", *KINDS["schedule"], *stop_at(2, signal.SIGINT)) == 130
    assert "epoch 1 after 2 of 6 steps" in capsys.readouterr().err
    # As does a closed terminal.
    assert fit("a", *KINDS["schedule"], "--ckpt_path", "last", *stop_at(4, signal.SIGHUP)) == 129
    assert "epoch 1 after 4 of 6 steps" in capsys.readouterr().err
    assert fit("a", *KINDS["schedule"], "--ckpt_path", "last", *stop_at(12)) == 143
    assert "stopped after epoch 2, saved" in capsys.readouterr().err
    assert fit("a", *KINDS["schedule"], "--ckpt_path", "last") == 0
    assert same(weights("whole"), weights("a"))


class Early(Callback):
    """Sends a signal after the first batch of the second epoch."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == (1, 0):
            os.kill(os.getpid(), signal.SIGTERM)


def test_gradients_that_are_added_up_are_used_before_a_training_stops(capsys: pytest.CaptureFixture[str]) -> None:
    """An epoch of 6 batches has two steps, after the fourth batch and after the last."""
    added = (*KINDS["plain"], "--trainer.accumulate_grad_batches", "4")
    assert fit("whole", *added) == 0
    assert fit("halves", *added, "--trainer.callbacks+", "tests.trainer.test_resume.Early") == 143
    assert "stopped in epoch 2 after 4 of 6 steps" in capsys.readouterr().err
    assert fit("halves", *added, "--ckpt_path", "last") == 0
    assert same(weights("whole"), weights("halves"))


def test_a_signal_in_the_last_step_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """What comes after the training would go on otherwise: ``n2n search`` with its next trial."""
    assert fit("last", *KINDS["plain"], *stop_at(18, signal.SIGINT)) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "n2n fit: stopped"
    # The training is complete all the same.
    assert read_facts(Path("lightning_logs/last/version_0"))["finished"]


class Twice(Callback):
    """Sends two signals in a step."""

    def on_before_optimizer_step(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == 8:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)


def test_the_minutes_of_an_interrupted_epoch_count() -> None:
    assert fit("slow", *KINDS["plain"], *stop_at(3)) == 143
    folder = Path("lightning_logs/slow/version_0")
    before = read_facts(folder)["minutes"]
    assert before > 0
    write_facts(folder, minutes=before + 60)
    assert fit("slow", *KINDS["plain"], "--ckpt_path", "last") == 0
    assert before + 60 < Run.read(folder).rows[0]["minutes"] < Run.read(folder).minutes < before + 62


def test_a_second_ctrl_c_ends_at_once_and_says_what_is_saved(capsys: pytest.CaptureFixture[str]) -> None:
    twice = ("--trainer.callbacks+", "tests.trainer.test_resume.Twice")
    assert fit("twice", *KINDS["plain"], *twice) == 130
    line = capsys.readouterr().err.splitlines()[-1]
    assert "stopped at once (the steps since the last epoch are lost), saved in lightning_logs/twice/version_0/" in line
    assert torch.load("lightning_logs/twice/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"] == 6
    assert main([*line.partition("to go on: n2n ")[2].split(), "--trainer.callbacks", "[]"]) == 0
    assert fit("whole", *KINDS["plain"]) == 0
    assert same(weights("whole"), weights("twice"))


def test_a_killed_training_goes_on(tmp_path: Path) -> None:
    assert fit("whole", *KINDS["schedule"]) == 0
    data = ["--config", "data/ee559", "--data.source.root", "data", "--name", "killed"]
    command = Command("fit", *KINDS["schedule"], *data, *OPTIONS, *stop_at(9, signal.SIGKILL))
    assert command.wait() == -signal.SIGKILL
    assert fit("killed", *KINDS["schedule"], "--ckpt_path", "last") == 0
    assert same(weights("whole"), weights("killed"))


def test_a_run_that_another_process_trains_does_not_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("busy", *KINDS["plain"], *stop_at(8)) == 143
    folder = Path("lightning_logs/busy/version_0")
    last = (folder / "checkpoints/last.ckpt").read_bytes()
    with FileLock(folder / ".lock"):
        assert fit("busy", *KINDS["plain"], "--ckpt_path", "last") == 2
        assert f"another process trains in {folder}" in capsys.readouterr().err.splitlines()[-1]
        assert (folder / "checkpoints/last.ckpt").read_bytes() == last
    assert fit("busy", *KINDS["plain"], "--ckpt_path", "last") == 0


def test_the_run_whose_configuration_is_given_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs of one name were stopped. Each says how to go on with it."""
    root = ("--data.source.root", str(Path("data").resolve()))
    assert fit("name", *KINDS["plain"], *root, *stop_at(8)) == 143
    first = capsys.readouterr().err.partition("to go on: ")[2]
    assert fit("name", *KINDS["plain"], "--seed_everything", "1", *stop_at(4)) == 143
    configs = [Path(f"lightning_logs/name/version_{version}/config.yaml") for version in (0, 1)]
    before = [file.read_text() for file in configs]
    assert "--config lightning_logs/name/version_0/config.yaml " in first
    assert main([*first.split()[1:], "--trainer.max_steps", "10", "--trainer.callbacks", "[]"]) == 0
    assert [torch.load(file.parent / "checkpoints" / "last.ckpt")["global_step"] for file in configs] == [10, 4]
    assert configs[1].read_text() == before[1]
    # Also from another folder; but another name is another run.
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    command = ["fit", "--config", str(Path("..", configs[0])), "--ckpt_path", "last", "--trainer.callbacks", "[]"]
    command += [*root, "--trainer.max_steps"]
    assert main([*command, "11"]) == 0
    assert not Path("lightning_logs").exists()
    assert torch.load(Path("..", configs[0].parent, "checkpoints", "last.ckpt"))["global_step"] == 11
    assert main([*command, "2", "--name", "new"]) == 0
    assert torch.load("lightning_logs/new/version_0/checkpoints/last.ckpt")["global_step"] == 2


def test_a_run_that_was_moved_knows_its_best_checkpoint(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder has another name now, which may hold "..", and the rate of its second part is far too high."""
    root = ("--data.source.root", str(Path("data").resolve()))
    Path("here").mkdir()
    monkeypatch.chdir("here")
    first = ["fit", *KINDS["plain"], "--config", "data/ee559", *root, "--name", "x", *OPTIONS]
    assert main([*first, "--trainer.default_root_dir", "../there", *stop_at(14)]) == 143
    assert "saved in ../there/lightning_logs/x/version_0/checkpoints/last.ckpt" in capsys.readouterr().err
    Path("../there").rename("../moved")
    config = "../moved/lightning_logs/x/version_0/config.yaml"
    go_on = ["fit", "--config", config, *root, "--trainer.default_root_dir", "../moved", "--ckpt_path", "last"]
    # The first part has the best epoch, because the second one spoils the network.
    go_on += ["--trainer.callbacks", '[{"class_path": "tests.trainer.test_resume.Spoil"}]']
    assert main([*go_on, "--trainer.max_epochs", "4"]) == 0
    folder = Path(config).parent / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["before_last.ckpt", "best.ckpt", "last.ckpt"]
    best = Run.read(folder.parent).best()
    kept = torch.load(folder / "best.ckpt", weights_only=True)
    assert (kept["epoch"] + 1, kept["n2n"]["figures"]) == (best[0], pytest.approx(best[1]))
    figures = [row["val/psnr_per_image"] for row in Run.read(folder.parent).rows]
    assert figures[best[0] - 1] == max(figures)
    assert best[0] == 2


def test_last_without_a_run_starts_one(caplog: pytest.LogCaptureFixture) -> None:
    assert fit("new", *KINDS["plain"], "--ckpt_path", "last") == 0
    assert "Nothing is saved in lightning_logs/new yet: the training starts anew." in caplog.text
    assert last_run(Path("lightning_logs/new")) == Path("lightning_logs/new/version_0")


def test_a_configuration_may_name_the_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    def go_on(named: str, *options: str, config: str = "table1/model2.yaml") -> int:
        Path("own.yaml").write_text(f"ckpt_path: {named}")
        fit("own", "--config", config, "--config", "own.yaml", "--trainer.max_steps", "1", *options)
        return len(list(Path("lightning_logs/own").iterdir()))

    assert go_on("last") == 1
    assert "the training starts anew" in caplog.text
    assert go_on("last", "--trainer.max_steps", "2") == 1
    first = Path("lightning_logs/own/version_0/checkpoints/last.ckpt")
    assert torch.load(first, weights_only=True)["global_step"] == 2
    # Beside a checkpoint, no configuration needs to name its network.
    assert go_on(str(first), "--trainer.max_steps", "3", config="data/ee559") == 2
    made = torch.load("lightning_logs/own/version_1/checkpoints/last.ckpt", weights_only=True)
    assert made["global_step"] == 3
    assert made["hyper_parameters"]["backbone"]["class_path"] == "n2n.backbones.Model2"
    # The command line counts more, also if nothing is saved yet.
    fit("new", *KINDS["plain"], "--config", "own.yaml", "--trainer.max_steps", "1", "--ckpt_path", "last")
    assert torch.load("lightning_logs/new/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"] == 1


def test_names_of_checkpoints_in_configurations_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    for text, path in (("quick", "reference/quick/checkpoints/best.ckpt"), ("gone.ckpt", "gone.ckpt")):
        Path("own.yaml").write_text(f"ckpt_path: {text}")
        assert fit("own", *KINDS["plain"], "--config", "own.yaml") == 2
        assert f"{path} " in capsys.readouterr().err


def test_names_that_look_like_numbers_are_kept() -> None:
    Path("data").rename("1e5")
    command = ["fit", *KINDS["plain"], "--name", "2.5e3", *OPTIONS, "--data.batch_size", "30"]
    assert main([*command, "--config", "data/ee559", "--root", "1e5", "--trainer.max_epochs", "1"]) == 0
    run = Path("lightning_logs/2.5e3/version_0")
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["name"], config["data"]["source"]["init_args"]["root"]) == ("2.5e3", "1e5")
    # So does a search, with what it gives to its trials.
    searched = FitConfig(["--config", str(run / "config.yaml")], [])
    assert yaml.safe_load(searched.dump())["data"]["source"] == config["data"]["source"]
    assert FitConfig(["--config", searched.dump()], []).content == searched.content
    go_on = ["--config", str(run / "config.yaml"), "--ckpt_path", "last", "--trainer.max_epochs", "2"]
    assert main(["fit", *go_on]) == 0
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 4


def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_can_be_used(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fit("whole", *KINDS["plain"]) == 0
    assert fit("halves", *KINDS["plain"], *stop_at(15)) == 143
    folder = Path("lightning_logs/halves/version_0/checkpoints")
    content = bytearray((folder / "last.ckpt").read_bytes())
    content[len(content) // 2] ^= 4
    (folder / "last.ckpt").write_bytes(content)
    capsys.readouterr()
    assert fit("halves", *KINDS["plain"], "--ckpt_path", "last") == 2
    error = capsys.readouterr().err
    assert f"{folder}/last.ckpt is damaged" in error
    assert f"--ckpt_path {folder}/before_last.ckpt" in error
    assert fit("halves", *KINDS["plain"], "--ckpt_path", str(folder / "before_last.ckpt")) == 0
    assert same(weights("whole"), weights("halves", 1))


def test_the_one_before_the_last_takes_the_place_of_a_missing_one(caplog: pytest.LogCaptureFixture) -> None:
    assert fit("whole", *KINDS["plain"]) == 0
    assert fit("cut", *KINDS["plain"], "--trainer.max_epochs", "2") == 0
    checkpoints = Path("lightning_logs/cut/version_0/checkpoints")
    (checkpoints / "last.ckpt").unlink()
    assert fit("cut", *KINDS["plain"], "--ckpt_path", "last") == 0
    assert f"{checkpoints / 'last.ckpt'} is missing: continuing from" in caplog.text
    assert same(weights("whole"), weights("cut"))


def test_the_same_seed_gives_the_same_weights() -> None:
    for name in ("one", "two"):
        assert fit(name, *KINDS["dropout"]) == 0
    assert same(weights("one"), weights("two"))
    assert "seed_everything: 0" in Path("lightning_logs/one/version_0/config.yaml").read_text()
    assert fit("other", *KINDS["dropout"], "--seed_everything", "1") == 0
    assert not same(weights("one"), weights("other"))


def claim(start: Barrier, many: int) -> None:
    start.wait()
    print(*(claim_version(Path("runs")) for _ in range(many)))


def test_processes_never_get_one_version() -> None:
    start = barrier(3)
    processes = [Command(start, 50, target=claim) for _ in range(3)]
    assert [process.wait() for process in processes] == [0] * 3
    numbers = [int(number) for process in processes for number in process.out.split()]
    assert sorted(numbers) == list(range(150))
    assert claim_version(Path("runs")) == 150


def test_epochs_of_some_of_the_batches_are_complete_when_resumed() -> None:
    """The next epoch skips no batches that ``limit_train_batches`` left out of the one before."""
    data = ["--config", "table1/model2.yaml", "--config", "data/ee559", "--data.source.root", "data"]
    options = ["fit", *data, *OPTIONS, "--trainer.limit_train_batches", "4", "--trainer.max_epochs"]
    assert main([*options, "2", "--name", "whole"]) == 0
    assert main([*options, "1", "--name", "part"]) == 0
    assert main([*options, "2", "--name", "part", "--ckpt_path", "last"]) == 0
    assert same(weights("whole"), weights("part"))


@pytest.mark.parametrize("steps", ["4", "9"])
def test_an_epoch_that_a_limit_has_cut_goes_on_with_the_rest_of_its_pairs(steps: str) -> None:
    assert fit("whole", *KINDS["dropout"]) == 0
    assert fit("cut", *KINDS["dropout"], "--trainer.max_steps", steps) == 0
    assert fit("cut", *KINDS["dropout"], "--ckpt_path", "last") == 0
    assert same(weights("whole"), weights("cut"))
    whole, cut = (Run.read(Path(f"lightning_logs/{name}/version_0")).curve("train/loss") for name in ("whole", "cut"))
    assert cut == whole


def test_best_checkpoints_in_a_folder_of_their_own_change_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = ("--checkpoint.dirpath", "elsewhere/best")
    assert fit("whole", *KINDS["plain"]) == 0
    assert fit("apart", *KINDS["plain"], *elsewhere, *stop_at(8)) == 143
    assert "saved in lightning_logs/apart/version_0/checkpoints/last.ckpt" in capsys.readouterr().err
    assert fit("apart", *KINDS["plain"], *elsewhere, "--ckpt_path", "last") == 0
    assert same(weights("whole"), weights("apart"))
    assert Run.read(Path("lightning_logs/apart/version_0")).baselines
    assert sorted(str(path) for path in Path("elsewhere").rglob("*")) == ["elsewhere/best", "elsewhere/best/best.ckpt"]


def test_a_complete_training_says_that_nothing_was_trained(caplog: pytest.LogCaptureFixture) -> None:
    line = "Nothing was trained: after 3 epochs the training was complete. To go on, give a larger --epochs."
    assert fit("whole", *KINDS["plain"], *stop_at(8)) == 143
    assert fit("whole", *KINDS["plain"], "--ckpt_path", "last") == 0
    assert line not in caplog.text
    trained = weights("whole")
    assert fit("whole", *KINDS["plain"], "--ckpt_path", "last") == 0
    assert line in caplog.text
    assert same(weights("whole"), trained)


@pytest.mark.parametrize(
    ("options", "name", "before", "now"),
    [
        ("--model.optimizer.lr 1e-5", "model.optimizer.lr", "0.001", "1e-05"),
        ("--model.optimizer AdamW", "model.optimizer", "n2n.optimizers.Muon", "torch.optim.AdamW"),
        ("--model.scheduler.rise 0.9", "model.scheduler.rise", "0.2", "0.9"),
        ("--model.scheduler null", "model.scheduler", "n2n.schedules.OneCycle", "None"),
        ("--model.scheduler_interval epoch", "model.scheduler_interval", "step", "epoch"),
    ],
)
def test_another_optimiser_or_schedule_is_refused(
    options: str, name: str, before: str, now: str, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = ["--trainer.max_steps", "1"]
    assert fit("run", *KINDS["schedule"], *begin) == 0
    config = Path("lightning_logs/run/version_0/config.yaml")
    saved = config.read_text()
    go_on = ["--config", str(config), "--ckpt_path", "last", "--trainer.max_steps", "2"]
    assert main(["fit", *go_on, *options.split()]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"and --{name} is {now} where the checkpoint has {before}" in line
    assert "--model.start_from in place of --ckpt_path" in line
    assert config.read_text() == saved
    assert main(["fit", *go_on]) == 0


def test_a_resumed_optimiser_is_fused_as_a_new_one_would_be() -> None:
    clipped = ["--trainer.gradient_clip_val", "1"]
    for name, first, second, fused in (("a", clipped, [], True), ("b", [], clipped, None)):
        plain = ["--config", "table1/model2.yaml"]
        assert fit(name, *plain, *first, "--trainer.max_steps", "1") == 0
        assert fit(name, *plain, *second, "--trainer.max_steps", "2", "--ckpt_path", "last") == 0
        kept = torch.load(f"lightning_logs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)
        assert kept["global_step"] == 2
        assert kept["optimizer_states"][0]["param_groups"][0]["fused"] is fused
