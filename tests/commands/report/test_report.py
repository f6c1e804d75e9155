from __future__ import annotations

import csv
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from n2n.cli import main
from n2n.commands.plots import file_names, labels
from n2n.commands.report.curves import curves_figure
from n2n.commands.report.strips import run_strip
from n2n.commands.runs import Run
from n2n.errors import InputError
from n2n.trainer.panels import last_panel
from n2n.trainer.run import train
from tests.conftest import write_course
from tests.run_folders import add_panel, write_run

# Of a panel's pictures in a strip of 32×32 images: each pixel is a square of 8×8, and what is around them.
FACTOR, GAP, HEAD = 8, 12, 34


def cell(strip: NDArray[np.uint8], column: int, top: int = HEAD + GAP) -> NDArray[np.uint8]:
    """Cut the picture of a column out of a strip's first row, 32×32×3, and see that its pixels are squares."""
    left = GAP + column * (32 * FACTOR + GAP)
    shown = strip[top : top + 32 * FACTOR, left : left + 32 * FACTOR]
    small = shown[::FACTOR, ::FACTOR]
    assert np.array_equal(small.repeat(FACTOR, 0).repeat(FACTOR, 1), shown)
    return small


def texts(svg: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text())


def small_run(folder: Path, noisy: torch.Tensor | None = None, psnr: float = 30.0) -> Path:
    """Write a run of two epochs, with a panel of 32×32 images, N×3×32×32."""
    figures = {"train/loss": 0.02, "val/loss": 0.01, "val/psnr": psnr, "val/psnr_noisy": 20.0}
    write_run(folder, [(i, i, figures) for i in (1, 2)])
    if noisy is not None:
        add_panel(folder, noisy, noisy / 2, noisy / 4, psnr=(20.0, psnr))
    return folder


@pytest.fixture(scope="session")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train twice in one folder, on the images of ``checkpoint``."""
    folder = tmp_path_factory.mktemp("resumed")
    options = ["fit", "--config", "table1/model2.yaml", "--config", "data/ee559", "--data.batch_size", "20"]
    options += ["--data.source.root", str(write_course(folder / "data")), "--trainer.accelerator", "cpu"]
    options += ["--trainer.enable_progress_bar", "false", "--panel.images", "8"]
    for epochs in "12":
        train([*options, "--trainer.max_epochs", epochs], folder / "model2")
    return folder / "model2"


def test_report_of_two_runs(
    checkpoint: Path, resumed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("first").symlink_to(checkpoint.parent.parent)
    Path("model2").symlink_to(resumed)
    assert main(["report", "first", "model2", "--output", "figures", "--images", "3"]) == 0
    shown = capsys.readouterr()
    names = [
        "curves.csv",
        *(f"{x}.{y}" for x in ("curves", "strip_first", "strip_model2", "strip") for y in ("png", "svg")),
        "report.html",
    ]
    assert shown.out.split() == [f"figures/{name}" for name in names]
    assert sorted(path.name for path in Path("figures").iterdir()) == sorted(names)
    assert "warning" not in shown.err

    runs = {name: Run.read(Path(name)) for name in ("first", "model2")}
    with Path("figures/curves.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["run"] for line in table] == ["first"] * 30 + ["model2"] * 2
    for line in table:
        run, epoch = runs[line["run"]], int(line["epoch"])
        figures = {tag: value for tag, value in run.rows[epoch - 1].items() if "/" in tag}
        assert {"train/loss", "val/psnr"} <= figures.keys()
        assert {tag: float(line[tag]) for tag in figures} == pytest.approx(figures, rel=1e-8)
        assert float(line["minutes"]) == pytest.approx(run.rows[epoch - 1]["minutes"], abs=6e-4)

    said = texts(Path("figures/curves.svg"))
    assert {"first", "model2", "noisy input", "PSNR (dB)", "epoch", "Training loss"} <= set(said)
    assert said.count("epoch") == 4
    for name, run in runs.items():
        found = last_panel(run.folder, run.epochs)
        assert len(found) == 8
        expected = [f"{x:.2f} dB" for row in found[:3] for x in row.psnr or ()]
        assert texts(Path(f"figures/strip_{name}.svg")) == ["noisy", "denoised", "clean", *expected]
    # The strip of all: one denoised column for each run, and in each row the higher PSNR in bold.
    assert texts(Path("figures/strip.svg"))[:4] == ["noisy", "first", "model2", "clean"]
    svg = Path("figures/strip.svg").read_text()
    assert svg.count("<image") == 3 * 4
    assert svg.count('<text style="font-weight: 700') == 3
    # Every pixel of the first noisy and clean image of the data is there.
    noisy, clean = torch.load(resumed.parent / "data" / "val_data.pkl", weights_only=True)
    strip = np.asarray(Image.open("figures/strip.png").convert("RGB"))
    assert np.array_equal(cell(strip, 0), noisy[0].permute(1, 2, 0).numpy())
    assert np.array_equal(cell(strip, 3), clean[0].permute(1, 2, 0).numpy())


def test_report_again_replaces_its_files_by_the_same(tmp_path: Path) -> None:
    small_run(tmp_path / "run", torch.rand(2, 3, 32, 32))
    assert main(["report", "run"]) == 0
    before = {path.name: path.read_bytes() for path in Path("report").iterdir()}
    Path("report/strip_run.png").write_bytes(b"")
    assert main(["report", "run"]) == 0
    assert {path.name: path.read_bytes() for path in Path("report").iterdir()} == before
    assert len(before) == 6


def test_psnrs_without_clean_images_have_a_band(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def figures(psnr: float) -> dict[str, float]:
        bounds = {"val/psnr_blind_low": psnr - 1, "val/psnr_blind_high": psnr + 2}
        return {"train/loss": 1, "val/loss": 1, "val/psnr_blind": psnr, "val/psnr_noisy_blind": 20} | bounds

    write_run(tmp_path / "run", [(1, 1, figures(25)), (2, 2, figures(27))])
    add_panel(tmp_path / "run", torch.rand(2, 1, 40, 100), torch.rand(2, 1, 40, 100), psnr=None)
    assert main(["report", "run"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert texts(Path("report/strip_run.svg")) == ["noisy", "denoised"]
    assert "95 % interval" in texts(Path("report/curves.svg"))

    axes = curves_figure([Run.read(Path("run"))], ["run"]).axes[-1]
    assert axes.get_title() == "PSNR over all pixels (estimated)"
    (band,) = axes.collections
    corners = {tuple(corner) for corner in np.asarray(band.get_paths()[0].vertices).tolist()}
    assert {(1.0, 24.0), (2.0, 26.0), (1.0, 27.0), (2.0, 29.0)} <= corners
    curve, noisy = axes.lines
    assert list(np.asarray(curve.get_ydata())) == [25, 27]
    assert list(np.asarray(noisy.get_ydata())) == [20, 20]
    assert noisy.get_linestyle() == ":"


def test_many_runs_have_lines_of_their_own(tmp_path: Path) -> None:
    runs = [Run.read(small_run(tmp_path / f"run{i}", psnr=25 + i)) for i in range(12)]
    figure = curves_figure(runs, labels([run.folder for run in runs]))
    lines = [line for line in figure.axes[-1].lines if line.get_linestyle() != ":"]
    assert len({(line.get_color(), str(line.get_linestyle())) for line in lines}) == 12
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"run{i}" for i in range(12)] + ["noisy input"]
    # All were validated on the same noisy images.
    assert len(figure.axes[-1].lines) == 13


def test_a_first_epoch_far_off_does_not_flatten_the_others(tmp_path: Path) -> None:
    losses = [1.0, 0.02, 0.015, 0.0145, math.nan, 0.014]
    write_run(tmp_path, [(i, i, {"train/loss": x}) for i, x in enumerate(losses, 1)])
    (axes,) = curves_figure([Run.read(tmp_path)], ["run"]).axes
    assert axes.get_ylim() == pytest.approx((0.0134, 0.0206))
    assert "first epoch off the scale" in axes.get_title()
    # But a run that has no other epoch is shown.
    write_run(tmp_path / "short", [(1, 1, {"train/loss": 0.9})])
    (axes,) = curves_figure([Run.read(tmp_path), Run.read(tmp_path / "short")], ["run", "short"]).axes
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[1] > 0.9


def test_runs_on_different_images_have_no_common_strip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = torch.rand(2, 3, 32, 32)
    small_run(tmp_path / "runs" / "a", images)
    small_run(tmp_path / "runs" / "b", torch.rand(2, 3, 32, 32))
    assert main(["report", "runs"]) == 0
    assert "validated on different images" in capsys.readouterr().err
    assert not Path("report/strip.png").exists()
    # One image in common, and a third run without any panel.
    small_run(tmp_path / "others" / "a", images)
    small_run(tmp_path / "others" / "b", torch.stack([torch.rand(3, 32, 32), images[0]]), psnr=31)
    small_run(tmp_path / "others" / "c")
    assert main(["report", "others"]) == 0
    assert "c has no panel of images" in capsys.readouterr().err
    assert texts(Path("report/strip.svg")) == ["noisy", "a", "b", "clean", "20.00 dB", "30.00 dB", "31.00 dB"]
    strip = np.asarray(Image.open("report/strip.png").convert("RGB"))
    assert np.array_equal(cell(strip, 0), (images[0] * 255).round().byte().permute(1, 2, 0).numpy())


def test_a_damaged_panel_is_named_and_the_curves_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_run(tmp_path / "run", torch.rand(2, 3, 32, 32))
    Path("run/panels/epoch_002.png").write_text("no picture")
    assert main(["report", "run"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "the panel run/panels/epoch_002.png cannot be read" in line
    assert not list(Path("report").glob("strip*"))
    assert Path("report/curves.png").is_file()


def test_a_strip_that_is_too_tall_to_draw_gets_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_run(tmp_path / "run", torch.rand(250, 3, 32, 32))
    assert main(["report", "run", "--images", "250"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "ask for fewer --images" in line


def test_hostile_names_are_shown_and_written(tmp_path: Path) -> None:
    names = ["$x^$_{", "_hidden", "\n<b>&", "a" * 200 + "1", "a" * 200 + "2", "ø" * 120]
    images = torch.rand(1, 3, 32, 32)
    for name in names:
        small_run(tmp_path / "runs" / name, images)
    assert main(["report", "runs", "--output", "out"]) == 0
    said = " ".join(texts(Path("out/curves.svg")))
    assert all(part in said for part in ("$x^$_{", "_hidden", "?&lt;b&gt;&amp;"))
    assert len(list(Path("out").glob("strip_*.png"))) == len(names)
    assert all(len(path.name.encode()) < 128 for path in Path("out").iterdir())


def test_labels_are_short_and_differ() -> None:
    def of(*paths: str) -> list[str]:
        return labels([Path(path) for path in paths])

    assert of("logs/a/version_0", "logs/b/version_0") == ["a/version_0", "b/version_0"]
    assert of("logs/a/version_0", "logs/b/version_1") == ["a/version_0", "b/version_1"]
    assert of("logs/a/version_0", "logs/a/version_1") == ["version_0", "version_1"]
    assert of("logs/a/version_3") == ["a/version_3"]
    assert of("exp/table1/model2", "reference/quick") == ["exp/table1/model2", "reference/quick"]
    assert of("exp/run/version_0", "exp/model2") == ["run/version_0", "model2"]
    assert of("a", "a") == ["a", "a 2"]
    assert of("x/a", "x/a/b") == ["a", "a/b"]
    assert file_names(["a/b", "A-b", "a-b"]) == ["a-b", "A-b-2", "a-b-3"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "required: RUN"),
        ("none", "no metrics.csv in none"),
        ("empty", "no metrics.csv in empty"),
        ("text", "text/metrics.csv is damaged"),
        ("begun", "begun has no whole epoch yet"),
        ("started", "started has no whole epoch yet: wait until the first one has ended"),
        ("run --images 0", "--images is 0"),
        ("run --output file", "file/curves.csv cannot be written"),
        ("run --outputs x", "did you mean --output?"),
    ],
)
def test_mistakes_get_one_line(command: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    Path("text").mkdir()
    Path("text/metrics.csv").write_text("no figures\n1\n")
    Path("file").write_text("")
    write_run(Path("begun"), [])
    Path("started").mkdir()
    Path("started/run.yaml").write_text("finished: false\n")
    small_run(Path("run"))
    assert main(["report", *command.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("n2n report: error:")
    assert message in line
    assert not Path("report").exists()


def test_one_bad_run_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_run(tmp_path / "runs" / "good")
    small_run(tmp_path / "runs" / "bad")
    Path("runs/bad/config.yaml").write_text("[")
    assert main(["report", "runs"]) == 0
    assert "runs/bad/config.yaml cannot be read" in capsys.readouterr().err
    assert {line.split(",")[0] for line in Path("report/curves.csv").read_text().splitlines()} == {"run", "good"}


def test_without_matplotlib_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_run(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    from n2n.commands.report.command import write_report

    with pytest.raises(InputError, match="pip install matplotlib"):
        write_report([tmp_path / "run"], tmp_path / "report")


def test_report_of_nothing_gets_one_line(tmp_path: Path) -> None:
    from n2n.commands.report.command import write_report

    with pytest.raises(InputError, match="no folder is given"):
        write_report([], tmp_path / "report")


def test_a_strip_has_at_most_the_rows_that_there_are(tmp_path: Path) -> None:
    small_run(tmp_path / "run", torch.rand(2, 3, 32, 32))
    found = last_panel(tmp_path / "run", 2)
    assert len(run_strip(found, 10).axes) == 6
    assert len(run_strip(found, 1).axes) == 3


def test_report_needs_neither_torch_nor_lightning(tmp_path: Path) -> None:
    small_run(tmp_path / "run", torch.rand(2, 3, 32, 32))
    code = "import sys; from n2n.cli import main; main(['report', 'run']); print({'torch', 'lightning'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
