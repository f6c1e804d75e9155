from __future__ import annotations

import csv
import math
import signal
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from n2n.commands.runs import Run, find_runs
from n2n.errors import InputError
from n2n.trainer.run import parse_fit, train
from tests.conftest import fit, write_course
from tests.processes import run as run_process
from tests.run_folders import write_run


def test_a_run_has_the_figures_of_its_checkpoint(checkpoint: Path) -> None:
    folder = checkpoint.parent.parent
    run = Run.read(folder)
    kept = torch.load(checkpoint, weights_only=True)
    epoch, figures = run.best()
    assert epoch == kept["epoch"] + 1
    assert figures == pytest.approx(kept["n2n"]["figures"])
    assert run.epochs == 30
    assert run.finished
    assert run.config["data"]["batch_size"] == 4
    assert run.pairs_per_second is not None
    assert run.pairs_per_second > 0
    # Without padding every pixel costs each weight once.
    weights = 3 * 8 * 9 + 8 * 8 * 9 + 8 * 3 * 9
    assert (run.parameters, run.macs_per_pixel) == (weights + 8 + 8 + 3, weights)
    assert "thread" in run.device
    events = EventAccumulator(str(folder))
    events.Reload()
    for tag in ("train/loss", "val/psnr", "val/ssim"):
        logged = dict(enumerate((event.value for event in events.Scalars(tag)), 1))
        assert run.curve(tag) == pytest.approx(logged, rel=1e-8)
        assert len(logged) == 30
    minutes = [row["minutes"] for row in run.rows]
    assert sorted(minutes) == minutes
    times = [event.wall_time for event in events.Scalars("train/loss")]
    assert minutes[-1] - minutes[0] == pytest.approx((times[-1] - times[0]) / 60, abs=0.05)


def test_a_run_without_a_logger_writes_no_figures(tmp_path: Path) -> None:
    assert fit("--trainer.logger", "false", root=write_course(tmp_path / "data")) == 0
    assert not [*tmp_path.rglob("metrics.csv"), *tmp_path.rglob("run.yaml"), *tmp_path.rglob("panels")]


def options(root: Path) -> list[str]:
    fixed = ["fit", "--config", "table1/model2.yaml", "--config", "data/ee559", "--data.batch_size", "20"]
    fixed += ["--data.source.root", str(root), "--trainer.accelerator", "cpu"]
    return [*fixed, "--trainer.enable_progress_bar", "false", "--trainer.max_epochs"]


def test_a_run_that_was_resumed_is_one_run(tmp_path: Path) -> None:
    fixed = options(write_course(tmp_path / "data"))
    train([*fixed, "1"], tmp_path / "resumed")
    first = Run.read(tmp_path / "resumed")
    train([*fixed, "2"], tmp_path / "resumed")
    run = Run.read(tmp_path / "resumed")
    assert (first.epochs, run.epochs) == (1, 2)
    assert (first.pairs_per_second, run.pairs_per_second) == (None, None)
    assert run.finished
    assert run.rows[0] == first.rows[0]
    assert first.minutes < run.minutes
    kept = torch.load(tmp_path / "resumed" / "checkpoints" / "last.ckpt", weights_only=True)["n2n"]["figures"]
    assert {tag: value for tag, value in run.rows[1].items() if tag.startswith("val/")} == pytest.approx(kept)


def test_a_killed_run_keeps_its_curve_and_counts_no_epoch_twice(tmp_path: Path) -> None:
    fixed = options(write_course(tmp_path / "data"))
    train([*fixed, "3"], tmp_path / "whole")
    # Three steps an epoch: it is killed in the third epoch. The checkpoint of the first is the last that is left.
    kill = ["--trainer.callbacks+", "tests.callbacks.Kill", "--trainer.callbacks.step", "7"]
    done = run_process([*fixed, "3", *kill], tmp_path / "killed", target=train)
    assert done.poll() == -signal.SIGKILL
    killed = Run.read(tmp_path / "killed")
    assert (killed.epochs, killed.finished) == (2, False)
    Path("killed/checkpoints/before_last.ckpt").replace("killed/checkpoints/last.ckpt")
    train([*fixed, "3"], tmp_path / "killed")
    run, whole = Run.read(tmp_path / "killed"), Run.read(tmp_path / "whole")
    assert run.finished
    assert run.rows[0] == killed.rows[0]
    times = ("minutes", "seconds")
    for row, other in zip(run.rows, whole.rows, strict=True):
        assert {x: row[x] for x in row if x not in times} == {x: other[x] for x in other if x not in times}


def test_minutes_leave_out_pauses(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("data: {batch_size: 5}\n")
    # The third epoch is the first of a process that resumed the run.
    losses = [(1, 1, 8, None), (2, 2, 6, 60), (3, 5, 5, None), (4, 7, 3, 120), (5, 8, 2, 60)]
    write_run(
        tmp_path,
        [(i, m, {"train/loss": x, "val/loss": x} | ({"seconds": s} if s else {})) for i, m, x, s in losses],
    )
    run = Run.read(tmp_path)
    assert run.curve("train/loss") == {1: 8, 2: 6, 3: 5, 4: 3, 5: 2}
    assert (run.epochs, run.minutes) == (5, 8)
    assert not run.finished
    # Ten steps of five pairs an epoch: 50 in 60 s, in 120 s and in 60 s.
    assert run.pairs_per_second == pytest.approx(50 / 60)
    before = run.until(3)
    assert (before.epochs, before.minutes, before.curve("val/loss")) == (3, 5, {1: 8, 2: 6, 3: 5})


def test_an_epoch_that_was_validated_but_not_trained_to_its_end_does_not_count(tmp_path: Path) -> None:
    write_run(tmp_path, [(1, 1, {"train/loss": 9, "val/psnr": 20}), (2, 2, {"val/psnr": 21})])
    run = Run.read(tmp_path)
    assert (run.epochs, run.minutes) == (1, 1)
    assert run.curve("val/psnr") == {1: 20, 2: 21}


def test_the_best_epoch_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    rows = [(i, i, {"val/psnr": x} | ({"best": 1} if i in (1, 3) else {})) for i, x in enumerate((20, 30, 25, 10), 1)]
    write_run(tmp_path / "run", rows)
    assert Run.read(tmp_path / "run").best() == (3, {"val/psnr": 25})
    assert Run.read(tmp_path / "run").until(2).best() == (1, {"val/psnr": 20})
    write_run(tmp_path / "none", [(1, 1, {"train/loss": 2, "val/loss": math.nan})])
    with pytest.raises(InputError, match="no best checkpoint"):
        Run.read(tmp_path / "none").best()


@pytest.mark.parametrize(
    ("monitor", "figure"), [("val/loss", "val/loss"), ("train/loss", "train/loss"), ("val/ssim", "")]
)
def test_the_monitor_chooses_the_best_epoch(monitor: str, figure: str, tmp_path: Path) -> None:
    root = write_course(tmp_path / "data")
    # So large a rate that the figures go up and down.
    rate = ["--model.optimizer.lr", "0.05", "--trainer.max_epochs", "6", "--panel.images", "0"]
    assert fit(*rate, "--checkpoint.monitor", monitor, root=root) == 0
    run = Run.read(Path("lightning_logs/run/version_0"))
    kept = torch.load("lightning_logs/run/version_0/checkpoints/best.ckpt", weights_only=True)
    assert run.best()[0] == kept["epoch"] + 1
    values = run.curve(monitor)
    assert values[run.best()[0]] == (min(values.values()) if figure else max(values.values()))


def lines(*rows: str) -> str:
    return "\n".join(["epoch,step,minutes,train/loss", *rows, ""])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lines("1,9,1,0.5", "2,19"), "longer or shorter"),
        (lines("1,9,1,0.5,7"), "longer or shorter"),
        (lines("1,9,1,half"), "could not convert"),
        (lines("1,9,nan,0.5"), "not finite"),
        (lines("1,inf,1,0.5"), "not finite"),
        (lines("1,9,,0.5"), "no minutes"),
        (lines("2,9,1,0.5", "1,19,2,0.5"), "not rising"),
        (lines("1.5,9,1,0.5"), "not rising"),
        (lines("0,9,1,0.5"), "not rising"),
        (lines("-inf,9,1,0.5"), "infinity"),
        (lines("1e300,9,1,0.5"), "not rising"),
        ("step,minutes\n9,1\n", "no epoch"),
        ("epoch,epoch\n9,1\n", "the same name"),
        (",".join(map(str, range(2000))), "too many"),
        (lines(*(f"{i},9,1,0.5" for i in range(1, 100_002))), "more than 100,000 rows"),
        ('epoch,step,minutes\n"1', "unexpected end"),
        ("\udcff", "codec"),
        ("x" * 2**25, "33,554,432 bytes"),
        ("epoch,step,minutes\n" + "x" * 2**20, "field larger"),
        ("", "no whole epoch"),
    ],
)
def test_damaged_figures_get_one_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(content, errors="surrogateescape")
    with pytest.raises(InputError, match=message) as caught:
        Run.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_damaged_figures_stop_a_run_that_is_resumed_before_it_trains(tmp_path: Path) -> None:
    fixed = options(write_course(tmp_path / "data"))
    train([*fixed, "1"], tmp_path / "run")
    last = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "run" / "metrics.csv").write_text("epoch\nx\n")
    with pytest.raises(InputError, match=r"metrics\.csv is damaged"):
        train([*fixed, "2"], tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == last


@pytest.mark.parametrize(
    "facts", ["parameters: many", "parameters: .nan", f"parameters: {10**400}", "finished: 1", "device: [1]", "{}"]
)
def test_facts_of_another_kind_are_left_out(facts: str, tmp_path: Path) -> None:
    write_run(tmp_path, [(1, 1, {"train/loss": 1})])
    (tmp_path / "run.yaml").write_text(facts)
    run = Run.read(tmp_path)
    assert (run.finished, run.parameters) == (False, None)


def test_bad_folders_get_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name in ("none", "file", "empty"):
        with pytest.raises(InputError, match=rf"{name}/metrics\.csv (is not there|cannot be read)") as caught:
            Run.read(tmp_path / name)
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match=rf"no metrics\.csv in .*{name}"):
            find_runs([tmp_path / name])


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "[" * 5000, "\x00", "x" * 2**21])
@pytest.mark.parametrize("name", ["config.yaml", "run.yaml"])
def test_damaged_yaml_gets_one_line(name: str, content: str, tmp_path: Path) -> None:
    write_run(tmp_path, [(1, 1, {"train/loss": 1})])
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=name) as caught:
        Run.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_configuration_without_its_parts_gets_one_line(tmp_path: Path) -> None:
    write_run(tmp_path, [(1, 1, {"train/loss": 1})])
    (tmp_path / "config.yaml").write_text("trainer: null")
    with pytest.raises(InputError, match=r"config\.yaml"):
        Run.read(tmp_path)


def test_runs_below_a_folder_are_found_and_sorted(tmp_path: Path) -> None:
    for name in ("b/version_10", "b/version_2", "a"):
        write_run(tmp_path / name, [])
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    found = find_runs([tmp_path, tmp_path / "a"])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a", "b/version_2", "b/version_10"]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match=r"no metrics\.csv"):
        find_runs([tmp_path / "nothing"])


def test_the_shipped_configurations_can_be_used() -> None:
    """Of the reference runs, of Table I, and the best of the search."""
    configs = sorted((Path(__file__).parents[2] / "lightning_logs").glob("*/**/*.yaml"))
    configs = [path for path in configs if path.name in ("config.yaml", "best.yaml")]
    assert len(configs) == 17
    for path in configs:
        saved, parsed = yaml.safe_load(path.read_text(encoding="utf-8")), parse_fit(["--config", str(path)])
        assert parsed["model"]["backbone"]["init_args"].items() >= saved["model"]["backbone"]["init_args"].items()


def test_the_shipped_runs_have_the_figures_of_their_events_and_checkpoints() -> None:
    root = Path(__file__).parents[2] / "lightning_logs"
    runs = find_runs([root])
    assert len(runs) == 16
    for folder in runs:
        run = Run.read(folder)
        kept = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
        epoch, figures = run.best()
        assert (epoch, run.finished) == (kept["epoch"] + 1, True)
        assert figures["val/psnr_per_image"] == pytest.approx(kept["n2n"]["figures"]["val/psnr_per_image"])
        events = EventAccumulator(str(folder))
        events.Reload()
        for tag in ("train/loss", "val/psnr"):
            logged = {event.step: event.value for event in events.Scalars(tag)}
            assert list(run.curve(tag).values()) == pytest.approx(list(logged.values()), rel=1e-8)
    with (root / "table1" / "table.csv").open() as file:
        for row in csv.DictReader(file):
            run = Run.read(root / "table1" / row["folder"])
            assert run.minutes == pytest.approx(float(row["minutes"]), rel=1e-6)
            assert run.pairs_per_second == pytest.approx(float(row["pairs/s"]), rel=1e-6)
            assert yaml.safe_load((run.folder / "run.yaml").read_text())["parameters"] == float(row["parameters"])
