from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)
from tensorboard.summary.writer.record_writer import masked_crc32c  # type: ignore[import-untyped]

from n2n.commands.runs import Run, find_runs
from n2n.errors import InputError
from n2n.trainer.run import train
from tests.conftest import write_course
from tests.events import add_best, write_events


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
    events = EventAccumulator(str(folder))
    events.Reload()
    for tag in ("train/loss", "val/psnr", "val/ssim"):
        assert run.curves[tag].epochs == tuple(range(1, 31))
        assert run.curves[tag].values == tuple(event.value for event in events.Scalars(tag))
    minutes = run.curves["val/psnr"].minutes
    assert sorted(minutes) == list(minutes)
    assert run.minutes == pytest.approx(
        (events.Scalars("train/loss")[-1].wall_time - events.FirstEventTimestamp()) / 60
    )


def test_a_run_that_was_resumed_is_one_run(tmp_path: Path) -> None:
    options = ["fit", "--config", "table1/model2.yaml", "--config", "data/ee559", "--data.batch_size", "20"]
    options += ["--data.source.root", str(write_course(tmp_path / "data")), "--trainer.accelerator", "cpu"]
    options += ["--trainer.enable_progress_bar", "false", "--trainer.max_epochs"]
    train([*options, "1"], tmp_path / "resumed")
    first = Run.read(tmp_path / "resumed")
    train([*options, "2"], tmp_path / "resumed")
    run = Run.read(tmp_path / "resumed")
    assert (first.epochs, run.epochs) == (1, 2)
    assert (first.pairs_per_second, run.pairs_per_second) == (None, None)
    assert run.finished
    for tag in ("train/loss", "val/psnr_per_image"):
        assert run.curves[tag].epochs == (1, 2)
        assert run.curves[tag].values[:1] == first.curves[tag].values
        assert run.curves[tag].minutes[0] == first.curves[tag].minutes[0] < run.curves[tag].minutes[1]
    kept = torch.load(tmp_path / "resumed" / "checkpoints" / "last.ckpt", weights_only=True)["n2n"]["figures"]
    assert run.at(2) == pytest.approx(kept)


def test_minutes_leave_out_pauses_and_later_parts_win(tmp_path: Path) -> None:
    def figures(loss: float) -> dict[str, float]:
        return {"train/loss": loss, "val/loss": loss}

    # Named against the order of time, as on machines with other clocks or names.
    write_events(tmp_path / "b.tfevents.1", [(1, 60, figures(8)), (2, 120, figures(6)), (3, 180, figures(4))])
    # The checkpoint of epoch 2 was the last; an hour later, training goes on from there, more slowly.
    part = write_events(tmp_path / "a.tfevents.2", [(3, 3720, figures(5)), (4, 3840, figures(3))], start=3600)
    (tmp_path / "config.yaml").write_text("data: {batch_size: 5}\n")
    run = Run.read(tmp_path)
    assert run.curves["train/loss"].epochs == (1, 2, 3, 4)
    assert run.curves["train/loss"].values == (8, 6, 5, 3)
    assert run.curves["train/loss"].minutes == pytest.approx((1, 2, 5, 7))
    assert run.epochs == 4
    assert run.minutes == pytest.approx(7)
    # Ten steps of five pairs an epoch: 50 in 60 s, in 60 s and in 120 s.
    assert run.pairs_per_second == pytest.approx(50 / 60)
    assert run.best() == (4, {"val/loss": 3})
    assert not run.finished
    add_best(part, 3841)
    assert Run.read(tmp_path).finished
    # It goes on for more epochs than it was to have, and is killed before the first of them ends.
    write_events(tmp_path / "0.tfevents.3", [], start=9000)
    killed = Run.read(tmp_path)
    assert not killed.finished
    assert killed.curves["train/loss"].minutes == pytest.approx((1, 2, 5, 7))
    # Then it gets there.
    write_events(tmp_path / "c.tfevents", [(5, 10060, figures(2))], start=10000)
    assert not Run.read(tmp_path).finished


def test_a_run_begun_anew_leaves_nothing_of_the_old_one(tmp_path: Path) -> None:
    write_events(tmp_path / "tfevents.1", [(i, 60 * i, {"train/loss": 9, "val/psnr": 20}) for i in range(1, 6)])
    write_events(tmp_path / "tfevents.2", [(1, 3660, {"train/loss": 1})], start=3600)
    run = Run.read(tmp_path)
    assert set(run.curves) == {"train/loss"}
    assert run.curves["train/loss"].values == (1,)
    assert run.minutes == pytest.approx(1)


def test_the_best_epoch_is_chosen_as_checkpoints_are(tmp_path: Path) -> None:
    nan = math.nan
    per_image = [{"val/psnr_per_image": x, "val/loss": 1} for x in (20, nan, 25, 25)]
    write_events(tmp_path / "clean" / "tfevents", [(i, i, x) for i, x in enumerate(per_image, 1)])
    assert Run.read(tmp_path / "clean").best() == (3, {"val/psnr_per_image": 25, "val/loss": 1})
    blind = [{"val/mse_blind": x, "val/loss": y} for x, y in ((3, 1), (2, 2), (4, 3))]
    write_events(tmp_path / "blind" / "tfevents", [(i, i, x) for i, x in enumerate(blind, 1)])
    assert Run.read(tmp_path / "blind").best()[0] == 2
    write_events(tmp_path / "none" / "tfevents", [(1, 1, {"train/loss": 2, "val/loss": nan})])
    with pytest.raises(InputError, match="was validated"):
        Run.read(tmp_path / "none").best()


def test_of_a_damaged_file_what_is_whole_is_read(tmp_path: Path) -> None:
    epochs = [(i, 60.0 * i, {"train/loss": 10.0 - i}) for i in range(1, 5)]
    file = write_events(tmp_path / "tfevents", epochs)
    whole = file.read_bytes()
    for cut in (len(whole) - 5, len(whole) - 200, 1, 0):
        file.write_bytes(whole[:cut])
        if cut < 100:
            with pytest.raises(InputError, match="no TensorBoard events"):
                Run.read(tmp_path)
        else:
            read = Run.read(tmp_path).curves["train/loss"]
            assert 1 <= len(read.epochs) < 4
            assert read.values == tuple(10.0 - i for i in read.epochs)
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + b"damaged!" + whole[middle + 8 :])
    assert Run.read(tmp_path).epochs in (1, 2)
    # A length of exabytes, with its checksum, and a record that is no event.
    length = struct.pack("<Q", 2**62)
    record = b"\xff" * 20
    size = struct.pack("<Q", len(record))
    for hostile in (
        length + struct.pack("<I", masked_crc32c(length)),
        size + struct.pack("<I", masked_crc32c(size)) + record + struct.pack("<I", masked_crc32c(record)),
    ):
        file.write_bytes(whole + hostile)
        assert Run.read(tmp_path).epochs == 4


def test_epochs_that_cannot_be_are_left_out(tmp_path: Path) -> None:
    file = write_events(tmp_path / "tfevents", [(1, 60, {"train/loss": 1})])
    for number, epoch in enumerate((math.nan, math.inf, -7.0, 1e30), 2):
        write_events(file, [(number, 70, {"train/loss": 5, "epoch": epoch})])
    assert Run.read(tmp_path).curves["train/loss"].epochs == (1,)


def test_bad_folders_get_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "events.out.tfevents.1").write_text("These are the events of my day.\n" * 100)
    (tmp_path / "file").write_text("")
    for name, message in (("none", "is not a folder"), ("file", "is not a folder"), ("empty", "no TensorBoard events")):
        with pytest.raises(InputError, match=message) as caught:
            Run.read(tmp_path / name)
        assert "\n" not in str(caught.value)
        with pytest.raises(InputError, match=message):
            find_runs([tmp_path / name])
    with pytest.raises(InputError, match="no TensorBoard events"):
        Run.read(tmp_path / "text")


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "trainer: null", "[" * 5000, "\x00", "x" * 2**21])
def test_a_damaged_configuration_gets_one_line(tmp_path: Path, content: str) -> None:
    write_events(tmp_path / "tfevents", [(1, 1, {"train/loss": 1})])
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(InputError, match=r"config\.yaml") as caught:
        Run.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_runs_below_a_folder_are_found_and_sorted(tmp_path: Path) -> None:
    for name in ("b/version_10", "b/version_2", "a"):
        write_events(tmp_path / name / "tfevents", [])
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    found = find_runs([tmp_path, tmp_path / "a"])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a", "b/version_2", "b/version_10"]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="no TensorBoard events"):
        find_runs([tmp_path / "nothing"])
