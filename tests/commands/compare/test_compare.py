from __future__ import annotations

import csv
import gc
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import weakref
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from tqdm import tqdm

from n2n.backbones import Model2
from n2n.cli import main
from n2n.commands.compare.command import _train
from n2n.commands.compare.job import Job, differences
from n2n.commands.compare.plan import Variation, plan
from n2n.commands.compare.plot import plot
from n2n.commands.compare.table import Row, markdown
from n2n.commands.runs import Run
from n2n.module import DenoisingModule
from tests.conftest import write_course
from tests.data.sources.test_own_images import write_captures
from tests.processes import Command, run
from tests.run_folders import write_run


def compare(*configs: str, options: tuple[str, ...] = (), root: str = "data") -> int:
    return main(["compare", *arguments(*configs, options=options, root=root)])


def arguments(*configs: str, options: tuple[str, ...] = (), root: str = "data") -> list[str]:
    common = ("--config", "data/ee559", "--data.source.root", root, "--data.batch_size", "20")
    return [*configs, *common, "--trainer.accelerator", "cpu", *options]


def rows(name: str = "compare") -> list[dict[str, str]]:
    with Path(f"lightning_logs/{name}/table.csv").open() as file:
        return list(csv.DictReader(file))


def weights(run: str) -> dict[str, torch.Tensor]:
    content = torch.load(f"lightning_logs/{run}/checkpoints/last.ckpt", weights_only=True)
    state: dict[str, torch.Tensor] = content["state_dict"]
    return state


def test_each_network_has_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    write_course(Path("data"))
    assert compare("table1/model[12].yaml", options=("--epochs", "2")) == 0
    table = rows()
    assert [row["network"] for row in table] == ["model1", "model2"]
    for row in table:
        checkpoint = torch.load(f"lightning_logs/compare/{row['folder']}/checkpoints/best.ckpt", weights_only=True)
        figures = checkpoint["n2n"]["figures"]
        assert float(row["denoised, per image"]) == pytest.approx(figures["val/psnr_per_image"])
        assert float(row["denoised, global"]) == pytest.approx(figures["val/psnr"])
        gain = figures["val/psnr_per_image"] - figures["val/psnr_noisy_per_image"]
        assert float(row["gain"]) == pytest.approx(gain, abs=1e-5)
        assert (row["epochs"], row["seed"]) == ("2", "0")
        assert int(row["best epoch"]) == checkpoint["epoch"] + 1
        assert float(row["minutes"]) > 0
    assert [float(row["parameters"]) for row in table] == [32 * 128 + 128 + 128 * 32 + 32, 2 * 3 * 32 * 9 + 32 + 3]
    # Model1 takes 2 × 128 for each value of a pixel; model2's convolutions have 34×34 and 32×32 positions that count.
    assert [float(row["MACs/px"]) for row in table] == pytest.approx([3 * 2 * 128, 864 * (34**2 / 32**2 + 1)], rel=1e-4)
    assert [row["paper, per image"] for row in table] == ["23.78", "24.92"]
    text = Path("lightning_logs/compare/table.md").read_text()
    assert text in capsys.readouterr().out
    assert re.search(r"^\| model2 \| 1,763 \| 1,839 \| 2 \|", text, re.MULTILINE)
    assert f"| {float(table[1]['denoised, per image']):.2f} |" in text
    assert "One seed each" in text
    assert Image.open("lightning_logs/compare/psnr.png").size > (500, 200)
    assert "minutes of training" in Path("lightning_logs/compare/psnr.svg").read_text()


def test_what_is_done_is_not_trained_again_and_goes_on_for_more_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    write_course(Path("data"))
    assert compare("table1/model2.yaml", options=("--epochs", "1", "--name", "part")) == 0
    last = Path("lightning_logs/part/model2/checkpoints/last.ckpt")
    before, table = last.stat().st_mtime_ns, rows("part")
    with monkeypatch.context() as patch:
        patch.setattr("tqdm.tqdm.__init__", partialmethod(tqdm.__init__, disable=True))
        assert compare("table1/model2.yaml", options=("--epochs", "1", "--name", "part")) == 0
    assert (last.stat().st_mtime_ns, rows("part")) == (before, table)
    assert compare("table1/model2.yaml", options=("--epochs", "2", "--name", "part")) == 0
    assert rows("part")[0]["epochs"] == "2"
    assert compare("table1/model2.yaml", options=("--epochs", "2", "--name", "whole")) == 0
    part, whole = weights("part/model2"), weights("whole/model2")
    assert all(torch.equal(part[key], whole[key]) for key in whole)
    # Fewer are a look back.
    assert compare("table1/model2.yaml", options=("--epochs", "1", "--name", "part")) == 0
    for column in ("epochs", "best epoch", "denoised, per image", "minutes"):
        assert rows("part")[0][column] == table[0][column]
    assert compare("table1/model2.yaml", options=("--epochs", "3", "--name", "part", "--show")) == 0
    assert rows("part")[0]["epochs"] == "2"
    text = Path("lightning_logs/part/table.md").read_text()
    assert "model2: 2 epochs so far." in text
    assert "--show" not in text
    # Whoever repeats the run from its configuration starts anew.
    assert yaml.safe_load(Path("lightning_logs/part/model2/config.yaml").read_text())["ckpt_path"] is None


def killed_in_the_third_epoch_of_model2(args: list[str]) -> int:
    """Run the command in a process that is killed."""
    step = DenoisingModule.training_step

    def kill(module: DenoisingModule, *batch: Any) -> Any:
        if isinstance(module.backbone, Model2) and module.current_epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(module, *batch)

    DenoisingModule.training_step = kill  # type: ignore[method-assign, assignment]
    return main(args)


def test_killed_comparison_goes_on_where_it_was() -> None:
    write_course(Path("data"))
    args = arguments("table1/model1.yaml", "table1/model2.yaml", options=("--epochs", "4", "--name", "killed"))
    done = run(["compare", *args], target=killed_in_the_third_epoch_of_model2)
    assert done.poll() == -signal.SIGKILL, done.err
    first, last = (Path(f"lightning_logs/killed/{name}/checkpoints/last.ckpt") for name in ("model1", "model2"))
    written = first.stat().st_mtime_ns
    assert torch.load(last, weights_only=True)["epoch"] == 1
    assert main(["compare", *args]) == 0
    assert first.stat().st_mtime_ns == written
    assert [row["epochs"] for row in rows("killed")] == ["4", "4"]
    assert compare("table1/model2.yaml", options=("--epochs", "4", "--name", "whole")) == 0
    killed, whole = weights("killed/model2"), weights("whole/model2")
    assert all(torch.equal(killed[key], whole[key]) for key in whole)


def test_two_processes_do_not_train_in_one_folder(capsys: pytest.CaptureFixture[str]) -> None:
    write_course(Path("data"))
    folder = Path("lightning_logs/busy/model2")
    assert compare("table1/model2.yaml", options=("--epochs", "1", "--name", "busy")) == 0
    last, config = (folder / "checkpoints/last.ckpt").read_bytes(), (folder / "config.yaml").read_bytes()
    code = "import sys, filelock; x = filelock.FileLock(sys.argv[1]); x.acquire(); print('held', flush=True); input()"
    command = [sys.executable, "-c", code, str(folder / ".lock")]
    options = ("--epochs", "2", "--name", "busy")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        capsys.readouterr()
        assert compare("table1/model1.yaml", "table1/model2.yaml", options=options) == 1
        assert f"model2 failed: another process trains in {folder}" in capsys.readouterr().err
        # The others are trained.
        assert [row["epochs"] for row in rows("busy")] == ["2", "1"]
        assert "model2: failed: another process trains" in Path("lightning_logs/busy/table.md").read_text()
        assert ((folder / "checkpoints/last.ckpt").read_bytes(), (folder / "config.yaml").read_bytes()) == (
            last,
            config,
        )
        other.communicate("\n")
    assert compare("table1/model1.yaml", "table1/model2.yaml", options=options) == 0
    assert [row["epochs"] for row in rows("busy")] == ["2", "2"]


def test_seeds_are_averaged_and_values_varied() -> None:
    source = ("--data.source", "n2n.data.DeadLeaves", "--data.source.pairs", "60", "--data.source.val_pairs", "20")
    options = ("--vary", "data.target=noisy,clean", "--seeds", "0", "1", "2", "--epochs", "2")
    assert main(["compare", "table1/model2.yaml", *source, *options, "--trainer.accelerator", "cpu"]) == 0
    table = rows()
    assert [(row["network"], row["seed"]) for row in table] == [
        (f"model2 target={target}", str(seed)) for target in ("noisy", "clean") for seed in range(3)
    ]
    scores = [float(row["denoised, per image"]) for row in table]
    assert len(set(scores)) == 6
    text = Path("lightning_logs/compare/table.md").read_text()
    for part in (scores[:3], scores[3:]):
        assert f"| {statistics.mean(part):.2f} ± {statistics.stdev(part):.2f} |" in text
    assert "over 3 seeds" in text
    config = yaml.safe_load(Path(f"lightning_logs/compare/{table[5]['folder']}/config.yaml").read_text())
    assert (config["data"]["target"], config["seed_everything"]) == ("clean", 2)


def test_averaged_weights_can_be_compared() -> None:
    write_course(Path("data"))
    Path("averaged.yaml").write_text(
        "name: averaged\ntrainer: {callbacks: [lightning.pytorch.callbacks.EMAWeightAveraging]}\n"
        "model: {backbone: n2n.backbones.Model2}"
    )
    assert compare("averaged.yaml", "table1/model2.yaml", options=("--epochs", "1")) == 0
    assert [row["epochs"] for row in rows()] == ["1", "1"]
    averaged, last = (weights(f"compare/{name}") for name in ("averaged", "model2"))
    assert averaged.keys() == last.keys()
    assert any(not torch.equal(averaged[key], last[key]) for key in last)


@pytest.mark.usefixtures("half_a_second_a_step")
def test_budget_of_minutes_counts_over_interruptions(capsys: pytest.CaptureFixture[str]) -> None:
    write_course(Path("data"))
    # An epoch has three steps.
    assert compare("table1/model2.yaml", options=("--minutes", "0.1")) == 0
    (first,) = rows()
    assert compare("table1/model2.yaml", options=("--minutes", "0.1")) == 0
    assert rows() == [first]
    assert compare("table1/model2.yaml", options=("--minutes", "0.2")) == 0
    longer = int(rows()[0]["epochs"])
    assert (int(first["epochs"]), longer) == (4, 8)
    # Less time is a look back, to what had ended by then.
    assert compare("table1/model2.yaml", options=("--minutes", "0.1")) == 0
    assert 0 < int(rows()[0]["epochs"]) < longer
    # Time that was not counted cannot be counted on.
    assert compare("table1/model2.yaml", options=("--epochs", "1", "--name", "epochs")) == 0
    assert compare("table1/model2.yaml", options=("--minutes", "9", "--name", "epochs")) == 2
    assert "trained without --minutes" in capsys.readouterr().err


def test_another_configuration_in_a_run_s_place_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write_course(Path("data"))
    schedule = ("--model.scheduler", "n2n.schedules.OneCycle")
    assert compare("table1/model2.yaml", options=("--epochs", "1", *schedule)) == 0
    for options, message in (
        (("--epochs", "1", *schedule, "--model.optimizer.lr", "0.5"), "init_args.lr was 0.001 and is now 0.5"),
        (("--epochs", "2", *schedule), "trainer.max_epochs was 1 and is now 2"),
        (("--epochs", "1", "--model.scheduler", "null"), "model.scheduler was"),
        (("--epochs", "1", *schedule, "--trainer.callbacks", "LearningRateFinder"), "trainer.callbacks was"),
        # Each device gets batches of its own.
        (("--epochs", "1", *schedule, "--trainer.devices", "2"), "trainer.devices was 1 and is now 2"),
        (("--epochs", "1", *schedule, "--trainer.num_nodes", "2"), "trainer.num_nodes was 1 and is now 2"),
    ):
        assert compare("table1/model2.yaml", options=options) == 2
        assert message in capsys.readouterr().err
    # Where it computes is no matter.
    assert compare("table1/model2.yaml", options=("--epochs", "1", *schedule, "--trainer.precision", "32-true")) == 0


def test_as_many_devices_are_the_same_however_they_are_given() -> None:
    def config(devices: object) -> dict[str, Any]:
        return {"trainer": {"devices": devices}, "model": {"scheduler": None, "loss": None}}

    alike: list[tuple[object, object]] = [([0], [1]), ([3], "1"), ("0,", 1), ("0, 2", [1, 2]), ("2", 2)]
    for one, other in alike:
        assert list(differences(config(one), config(other))) == []
    different: list[tuple[object, object]] = [([0], [0, 1]), ("1", "2"), ("1,", "1,2"), ("auto", 2), (-1, 1)]
    for one, other in different:
        assert len(list(differences(config(one), config(other)))) == 1


def test_class_that_varies_keeps_the_options_given_for_all() -> None:
    lr, classes = "model.optimizer.init_args.lr=1e-1,1e-2", "model.optimizer=torch.optim.Adam,torch.optim.SGD"
    Path("slow.yaml").write_text("model: {optimizer: {class_path: torch.optim.Adagrad, init_args: {lr: 7.0}}}")
    options = ["--model.optimizer.lr", "0.5", "-c", "slow.yaml", "--model.optimizer.init_args.weight_decay=0.125"]

    def found(*varied: str) -> set[tuple[str, float, float]]:
        jobs = plan(["table1/model2"], [Variation.parse(text) for text in varied], [], options, "name")
        optimizers = [job.config["model"]["optimizer"] for job in jobs]
        return {(x["class_path"], x["init_args"]["lr"], x["init_args"]["weight_decay"]) for x in optimizers}

    names = ("torch.optim.Adam", "torch.optim.SGD")
    assert found(classes) == {(name, 0.5, 0.125) for name in names}
    # Named before the class that it is an argument of, and more exactly than the option is.
    assert found(lr, classes) == {(name, rate, 0.125) for name in names for rate in (0.1, 0.01)}


def test_labels_and_folders_tell_the_runs_apart() -> None:
    def planned(*varied: str) -> list[Job]:
        return plan(["table1/model2"], [Variation.parse(text) for text in varied], [], [], "name")

    def labels(*varied: str) -> list[str]:
        return [job.label for job in planned(*varied)]

    assert labels("model.loss=torch.nn.MSELoss,torch.nn.L1Loss") == ["model2 loss=MSELoss", "model2 loss=L1Loss"]
    # Two classes of one name are told apart by their packages; names of files are no classes.
    backbones = "n2n.backbones.Model2,n2n.backbones.paper.Model2"
    assert labels(f"model.backbone={backbones}") == [f"model2 backbone={name}" for name in backbones.split(",")]
    assert labels("data.source.cache_dir=a.pkl") == ["model2 cache_dir=a.pkl"]
    folder, source = "data.source.cache_dir=a", "data.source.seed=1"
    assert labels(folder, source, "seed_everything=2") == ["model2 cache_dir=a seed=1 seed_everything=2"]
    optimizer = "model.optimizer.init_args.betas=[0.9,0.9]"
    both = labels(
        optimizer, "data.source.init_args.seed=1", "data.val_source=n2n.data.DeadLeaves", "data.val_source.seed=1"
    )
    assert both[0].endswith("data.source.init_args.seed=1 val_source=DeadLeaves data.val_source.seed=1")
    # Names that no file system takes.
    long, other = (job.folder.name for job in planned(f"data.source.cache_dir={'a' * 300}b,{'a' * 300}c"))
    assert long != other
    assert max(len(long), len(other)) <= 200
    assert planned(f"data.source.cache_dir={'a' * 300}b")[0].folder.name == long


def test_interrupted_continuation_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    write_course(Path("data"))
    assert compare("table1/model2.yaml", options=("--epochs", "1")) == 0
    handler = signal.getsignal(signal.SIGINT)

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("n2n.module.DenoisingModule.training_step", interrupt)
        try:
            assert compare("table1/model2.yaml", options=("--epochs", "2")) == 130
        finally:
            signal.signal(signal.SIGINT, handler)
    assert "model2: 1 epoch so far." in Path("lightning_logs/compare/table.md").read_text()
    # Nor does it need the best checkpoint.
    Path("lightning_logs/compare/model2/checkpoints/best.ckpt").unlink()
    assert compare("table1/model2.yaml", options=("--epochs", "2")) == 0
    assert rows()[0]["epochs"] == "2"
    assert "so far" not in Path("lightning_logs/compare/table.md").read_text()


def test_time_left_is_not_estimated_from_what_was_trained_before(monkeypatch: pytest.MonkeyPatch) -> None:
    write_course(Path("data"))
    assert compare("table1/model2.yaml", options=("--epochs", "1")) == 0
    bars: list[tqdm[Any]] = []

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"disable": False})
            bars.append(self)

    monkeypatch.setattr("tqdm.tqdm", Bar)
    # Of two epochs one is trained already.
    assert compare("table1/model2.yaml", options=("--epochs", "2")) == 0
    assert [bars[-1].initial, bars[-1].n] == pytest.approx([0.5, 1])
    # Of two networks the first is trained already.
    assert compare("table1/model2.yaml", "table1/model2v1.yaml", options=("--epochs", "2")) == 0
    assert [bars[-1].initial, bars[-1].n] == pytest.approx([1, 2])


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ("", False),
        ("--model.scheduler n2n.schedules.OneCycle", True),
        ("--model.loss n2n.losses.AnnealedL0", True),
        ("--data.source n2n.data.SingleImages --data.source.root images", False),
        ("--model.loss n2n.losses.Neighbor2Neighbor", True),
    ],
)
def test_what_is_made_for_its_length_does_not_go_on(options: str, refused: bool) -> None:
    one, two = (
        plan(["table1/model2"], [], [], [*options.split(), "--trainer.max_epochs", epochs], "name")[0].config
        for epochs in "12"
    )
    assert list(differences(one, two)) == ["trainer.max_epochs was 1 and is now 2"] * refused


def test_what_a_training_held_is_freed_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects that refer to each other, as a Trainer, its module and its data do."""
    held: list[weakref.ref[Any]] = []

    def train(*_: object) -> None:
        assert all(one() is None for one in held), "the last one is still there"
        trainer = torch.nn.Module()
        trainer.model = torch.nn.Module()
        trainer.model.__dict__["trainer"] = trainer
        held.append(weakref.ref(trainer))

    monkeypatch.setattr("n2n.trainer.run.train", train)
    jobs: list[Any] = [
        SimpleNamespace(progress=lambda: (None, False), label=str(i), seed=None, args=(), folder=None) for i in range(2)
    ]
    failures: dict[Job, str] = {}
    gc.disable()
    try:
        _train(jobs, failures)
    finally:
        gc.enable()
    assert len(held) == 2
    assert failures == {}


def test_pairs_of_batches_and_steps_that_are_not_full_count_once() -> None:
    write_course(Path("data"))
    # 60 pairs are three batches, of 25, 25 and 10, which are two steps. The budget ends within the third epoch.
    steps = ("--trainer.accumulate_grad_batches", "2", "--trainer.max_steps", "5", "--epochs", "3")
    assert compare("table1/model2.yaml", options=(*steps, "--data.batch_size", "25")) == 0
    run = Run.read(Path("lightning_logs/compare/model2"))
    assert run.pairs_per_second == pytest.approx(60 / run.rows[1]["seconds"], rel=1e-6)
    assert float(rows()[0]["pairs/s"]) == run.pairs_per_second
    # Two batches an epoch.
    limit = (*steps[:2], "--trainer.limit_train_batches", "2", "--epochs", "2", "--name", "limited")
    assert compare("table1/model2.yaml", options=(*limit, "--data.batch_size", "25")) == 0
    run = Run.read(Path("lightning_logs/limited/model2"))
    assert run.pairs_per_second == pytest.approx(50 / run.rows[1]["seconds"], rel=1e-6)


def test_runs_without_figures_say_so() -> None:
    write_course(Path("data"))
    options = ("--epochs", "1", "--model.optimizer", "torch.optim.SGD", "--vary", "model.optimizer.lr=1e20,0.1")
    assert compare("table1/model2.yaml", options=options) == 1
    assert [row["network"] for row in rows()] == ["model2 lr=0.1"]
    text = Path("lightning_logs/compare/table.md").read_text()
    assert "the training diverged" in text
    unvalidated = ("--epochs", "1", "--vary", "trainer.limit_val_batches=0,1.0", "--name", "none")
    assert compare("table1/model2.yaml", options=unvalidated) == 0
    text = Path("lightning_logs/none/table.md").read_text()
    assert "model2 limit_val_batches=0: 1 epoch without a figure: not validated, or not a number." in text


def test_a_table_is_not_replaced_by_one_of_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    write_course(Path("data"))
    assert compare("table1/model2.yaml", options=("--epochs", "1")) == 0
    table = Path("lightning_logs/compare/table.md").read_text()
    assert compare("table1/model2.yaml", options=("--epochs", "1", "--model.optimizer.lr", "0.5", "--show")) == 2
    assert "has no run of this comparison (model2: left out: " in capsys.readouterr().err
    assert Path("lightning_logs/compare/table.md").read_text() == table
    assert compare("table1/model2.yaml", options=("--epochs", "1", "--name", "none", "--show")) == 2
    assert not Path("lightning_logs/none").exists()


def test_the_table_says_of_which_epoch_its_figures_are() -> None:
    write_course(Path("data"))
    options = ("--epochs", "1", "--vary", "checkpoint.monitor=null,step")
    assert compare("table1/model2.yaml", options=options) == 0
    text = Path("lightning_logs/compare/table.md").read_text()
    assert "PSNR in dB at the best epoch of each run" in text
    assert "checkpoint.monitor: step keep the last one instead." in text
    assert (
        compare("table1/model1.yaml", options=("--epochs", "1", "--checkpoint.monitor", "epoch", "--name", "last")) == 0
    )
    assert "PSNR in dB at the last epoch of each run. Per image" in Path("lightning_logs/last/table.md").read_text()


def test_figures_that_are_no_numbers_have_no_spread() -> None:
    job = plan(["table1/model2"], [], [], [], "name")[0]
    runs = []
    for mse in (-1e-6, 1e-3):
        folder = Path(f"runs/{mse}")
        write_run(folder, [(1, 1, {"train/loss": 1, "val/mse_blind": mse, "best": 1})])
        runs.append((job, Run.read(folder)))
    text = markdown([Row("a|b", runs)], "n2n compare")
    assert text.splitlines()[2].startswith(r"| a\|b | 1 | 1 | 1.0 | nan |")
    assert plot([Row("_$a$_{", runs)], Path("psnr"))
    assert "_$a$_{" in Path("psnr.svg").read_text()


def test_network_that_fails_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    write_course(Path("data"))
    Path("narrow.yaml").write_text("model: {backbone: {class_path: n2n.backbones.Model1, init_args: {width: 16}}}")
    assert compare("narrow.yaml", "table1/model2.yaml", options=("--epochs", "1")) == 1
    out = capsys.readouterr()
    assert "narrow failed: Model1 is bound to images 16 pixels wide and got 32" in out.err
    assert "narrow: failed: Model1 is bound" in out.out
    assert [row["network"] for row in rows()] == ["model2"]
    Path("narrower.yaml").write_text(Path("narrow.yaml").read_text())
    assert compare("narrow.yaml", "narrower.yaml", "table1/model2.yaml", options=("--epochs", "1")) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("n2n compare: error: Model1 is bound")


def test_failure_on_several_devices_is_the_end() -> None:
    write_course(Path("data"), pairs=8)
    vary = ("--vary", "model.optimizer.lr=0.1,1e30,0.2", "--model.optimizer", "torch.optim.SGD", "--epochs", "1")
    devices = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    command = Command("compare", *arguments("table1/model2.yaml", options=(*vary, *devices, "--data.batch_size", "2")))
    assert command.wait_for_all() == 1
    assert command.err.count("On several devices nothing is trained after that: leave model2 lr=1e30 out") == 1
    assert [row["network"] for row in rows()] == ["model2 lr=0.1"]
    text = Path("lightning_logs/compare/table.md").read_text()
    assert "model2 lr=1e30: failed: the training diverged" in text
    assert "model2 lr=0.2: not trained yet" in text


def test_interrupted_comparison_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    write_course(Path("data"))
    handler = signal.getsignal(signal.SIGINT)
    options = ("--epochs", "1", "--vary", "model.backbone=n2n.backbones.Model2,tests.networks.Interrupting")
    try:
        assert compare("final.yaml", options=options) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    shown = capsys.readouterr()
    assert "The same command goes on" in shown.err
    assert [row["network"] for row in rows()] == ["final backbone=Model2"]
    assert "final backbone=Interrupting: not trained yet." in shown.out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "no configuration is given"),
        ("nonsense.yaml", "there is no config 'nonsense.yaml'"),
        ("final.yaml final.yaml", "two configurations are called final"),
        ("final.yaml --vary data.targt=noisy", "did you mean --data.target?"),
        ("final.yaml --vary data.target", "data.target=noisy,clean"),
        ("final.yaml --vary data.target=", "data.target=noisy,clean"),
        ("final.yaml --vary data.target=[", "data.target=noisy,clean"),
        ("final.yaml --vary data.target=dirty", "dirty"),
        ("final.yaml --epochs 0", "--epochs is 0"),
        ("final.yaml --minutes nan", "--minutes is nan"),
        ("final.yaml --epochs 1 --minutes 1", "give one of them"),
        (
            "final.yaml own.yaml --minutes 1",
            "the scheduler OneCycle depends on the length of the training: give --epochs",
        ),
        ("final.yaml --model.loss AnnealedL0 --minutes 1", "the loss AnnealedL0 depends on the length of the training"),
        ("final.yaml --epochs a", "--epochs is a: expected a whole number"),
        ("final.yaml --seeds x", "--seeds is x: expected a whole number"),
        ("final.yaml --trainer.max_epoch 1", "did you mean --trainer.max_epochs?"),
        ("final.yaml --seads 1", "did you mean --seeds?"),
        ("final.yaml --ckpt_path last.ckpt", "goes on by itself"),
        ("final.yaml --trainer.logger false", "needs the metrics.csv and the best checkpoint"),
        ("final.yaml --trainer.logger CSVLogger --trainer.logger.save_dir logs", "needs the metrics.csv"),
        ("final.yaml --trainer.enable_checkpointing false", "needs the metrics.csv and the best checkpoint"),
        (f"final.yaml --name {'n' * 300}", "expected what can be the name of a folder"),
        ("final.yaml --name=", "expected what can be the name of a folder"),
        ("final.yaml --seed_everything true", "another seed each time"),
        ("final.yaml --seeds 0 0", "--seeds has 0 twice"),
        ("final.yaml --seeds -1", "--seeds has -1"),
        ("final.yaml --epochs 1000000", "less than a million"),
        ("final.yaml --trainer.max_time 5:00", "days:hours:minutes:seconds"),
        ("final.yaml --vary data.target=noisy,noisy", "has the value noisy twice"),
        ("final.yaml --vary data.target=noisy --vary data.target=clean", "--vary data.target is given twice"),
        ("final.yaml --vary data.source.cache_dir=2024-01-01", "data.target=noisy,clean"),
        ("final.yaml --vary data.source.cache_dir=a/b,a_b", "would share the folder"),
        ("final.yaml quick.yaml --model.optimizer.lr x", "lr"),
    ],
)
def test_mistakes_get_one_line(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *command.split()]) == 2
    shown = capsys.readouterr().err.strip()
    assert len(shown.splitlines()) == 1
    assert shown.startswith("n2n compare: error:")
    assert message in shown
    assert list(Path().iterdir()) == []


def test_a_configuration_that_is_no_text_gets_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("binary.yaml").write_bytes(b"\xff\xfe\x00")
    for command in (["compare", "binary.yaml"], ["fit", "--config", "binary.yaml"]):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "expected a YAML file in UTF-8" in line


def test_without_clean_images_the_estimates_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    write_captures()
    source = ("--data.source", "n2n.data.Folders", "--data.source.roots", "[a,b]", "--data.source.patches", "100")
    options = (*source, "--data.batch_size", "10", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu")
    assert main(["compare", "table1/model2.yaml", *options]) == 0
    (row,) = rows()
    figures = torch.load("lightning_logs/compare/model2/checkpoints/best.ckpt", weights_only=True)["n2n"]["figures"]
    denoised = -10 * math.log10(figures["val/mse_blind"] + 1e-8)
    assert float(row["denoised, estimated"]) == pytest.approx(denoised, abs=1e-4)
    assert float(row["gain"]) == pytest.approx(denoised - figures["val/psnr_noisy_blind"], abs=1e-4)
    assert row["denoised, per image"] == ""
    assert "per image" not in Path("lightning_logs/compare/table.md").read_text()
    assert "estimated" in Path("lightning_logs/compare/psnr.svg").read_text()
