from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import lightning as L
import pytest
from tqdm.auto import tqdm

from n2n import DenoisingModule, backbones
from n2n.cli import main
from n2n.data.datamodule import PairDataModule
from n2n.data.sources.course import CourseFiles
from n2n.trainer.progress import _WARM_UP, EpochBar, Pace, clock, rough_duration
from n2n.trainer.run_folder import read_metrics
from n2n.trainer.speed import NoProfiler
from tests.conftest import fit, write_course, write_photos
from tests.trainer.test_resume import stop_at

SHOW = ("--trainer.enable_progress_bar", "true")


class EagerBar(tqdm):  # type: ignore[type-arg]
    """A bar that leaves out no drawing, however short an epoch is."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(mininterval=0, miniters=1, **kwargs)


def test_bar_is_drawn_a_hundred_times_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = EpochBar()
    update = EpochBar.on_train_batch_end

    def count(self: EpochBar, *args: object) -> None:
        update(self, *args)  # type: ignore[arg-type]
        drawn.append(self._bar.n if self._bar else 0)

    monkeypatch.setattr(EpochBar, "on_train_batch_end", count)
    trainer = L.Trainer(
        max_epochs=1,
        limit_val_batches=0,
        callbacks=[bar],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        accelerator="cpu",
        profiler=NoProfiler(),
    )
    write_course(tmp_path / "data", pairs=1000)
    data = PairDataModule(CourseFiles(str(tmp_path / "data")), batch_size=2)
    trainer.fit(DenoisingModule(backbones.Model2(hidden=1)), data)
    assert bar.refresh_rate == 5
    assert sorted(set(drawn)) == list(range(0, 501, 5))


def test_a_line_for_each_epoch_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--trainer.max_epochs", "2", "--data.batch_size", "2", *SHOW)
    assert fit(*options, root=write_course(tmp_path / "data")) == 0
    shown = capsys.readouterr().err
    # No terminal, so no bar.
    assert "|" not in shown
    assert "The training will take less than a minute." in shown
    lines = re.findall(r"^Epoch (\d)/2, \d:\d\d, loss ([\d.]+), PSNR ([\d.]+) dB$", shown, re.MULTILINE)
    rows = read_metrics(Path("lightning_logs/run/version_0"))
    expected = [(f"{row['epoch']:.0f}", f"{row['train/loss']:.4f}", f"{row['val/psnr_per_image']:.2f}") for row in rows]
    assert lines == expected


def test_an_epoch_that_goes_on_in_its_middle_is_timed_and_has_a_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setattr("n2n.trainer.progress.tqdm", EagerBar)
    options = ("--trainer.max_epochs", "1", "--data.batch_size", "2", *SHOW)
    root = write_course(tmp_path / "data")
    assert fit(*options, *stop_at(3), root=root) == 143
    capsys.readouterr()
    assert fit(*options, "--ckpt_path", "last", root=root) == 0
    shown = re.split(r"[\r\n]+", capsys.readouterr().err)
    assert [line for line in shown if re.match(r"Epoch 1/1, 0:\d\d, loss", line)]
    assert [line for line in shown if re.match(r"Epoch 1/1 \|.*\| 4/30", line)]


def test_the_bar_fits_a_narrow_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a notebook, where the standard error is no terminal.
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda _: (80, 24))
    monkeypatch.setattr("n2n.trainer.progress.tqdm", EagerBar)
    options = ("--trainer.max_epochs", "2", "--data.batch_size", "2", *SHOW)
    assert fit(*options, root=write_course(tmp_path / "data")) == 0
    drawn = [line for line in re.split(r"[\r\n]", capsys.readouterr().err) if "|" in line]
    assert max(map(len, drawn)) <= 80
    # The first epoch has a loss; the second also the PSNR of the first.
    assert re.search(r"^Epoch 1/2 \|.*\| \d+/30, .*loss [\d.]+$", "\n".join(drawn), re.MULTILINE)
    assert re.search(
        r"^Epoch 2/2 \|.*\| \d+/30, \d:\d\d left, loss [\d.]+, PSNR [\d.]+ dB$", "\n".join(drawn), re.MULTILINE
    )


def test_the_size_of_the_network_is_said_without_a_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert fit(root=write_course(tmp_path / "data")) == 0
    assert "Model2: 1,763 parameters, 1,839 multiplications per pixel." in caplog.text
    assert "Trainable params" not in caplog.text
    assert "1 epoch in 0 min" in caplog.text
    assert "vailable: False" not in caplog.text


def test_the_last_line_denoises_the_user_s_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("first ones", "b"):
        write_photos(tmp_path / name, 4, (40, 40))
    own = ["--data.source", "SingleImages", "--root", "first ones", "--model.loss", "Neighbor2Neighbor"]
    own += ["--data.source.patch", "16", "--data.source.patches", "4", "--trainer.accelerator", "cpu"]
    assert main(["fit", "--config", "table1/model2", "--epochs", "1", *own]) == 0
    assert "--input 'first ones' --output denoised/" in caplog.text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(59, "less than a minute"), (60, "about 1 minute"), (700, "about 12 minutes"), (7300, "about 2 hours")],
)
def test_durations(seconds: float, said: str) -> None:
    assert rough_duration(seconds) == said
    assert clock(3661) == "1:01:01"


def test_an_epoch_without_a_validation_shows_no_psnr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--trainer.max_epochs", "5", "--trainer.check_val_every_n_epoch", "2", *SHOW)
    assert fit(*options, root=write_course(tmp_path / "data")) == 0
    lines = re.findall(r"^Epoch (\d)/5, .*$", shown := capsys.readouterr().err, re.MULTILINE)
    assert lines == list("12345")
    assert re.findall(r"^Epoch (\d)/5, .*, PSNR", shown, re.MULTILINE) == ["2", "4"]


def test_time_left_counts_the_validations_that_there_are() -> None:
    pace = Pace()
    for _ in range(_WARM_UP + 1):
        pace.step()
    pace._seconds, pace._validations = 0.0, [10.0]
    left = []
    for every in (1, 5):
        trainer = SimpleNamespace(estimated_stepping_batches=1000, global_step=0, accumulate_grad_batches=1)
        trainer.num_training_batches, trainer.callbacks, trainer.check_val_every_n_epoch = 100, [], every
        left.append(pace.left(trainer))  # type: ignore[arg-type]
    assert left == [100, 20]
