"""The benchmarks themselves, as small as they go: that they run, never how fast."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tifffile
import torch

from n2n.backbones import ModelFinal
from n2n.data.reading import ImageFile
from n2n.denoiser import Denoiser
from tests.benchmarks.__main__ import main
from tests.benchmarks.clock import Clock
from tests.benchmarks.prediction import cut, draw
from tests.denoiser.files import denoise_files


def test_the_command_prints_tables_of_ratios(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick", "--networks", "Model2", "--only", "training", "psnr", "prediction"])
    machine, *rest = capsys.readouterr().out.splitlines()
    assert f"torch {torch.__version__}" in machine
    assert "commit" in machine
    rows = [line.strip("| ").split(" | ") for line in rest if line.startswith("|")]
    figures = {name: cells for name, *cells in rows if re.match(r"\d", cells[0])}
    assert len(figures) >= 5 + 1 + 3
    assert {"n2n fit", "plain loop, fp32", "Lightning, DataLoader, fp32", "Model2", "TIFF", "PNG"} <= set(figures)
    for cells in figures.values():
        numbers = re.findall(r"(?<![+-])\b\d+\.?\d*", " ".join(cells[:2]))
        assert len(numbers) >= 2
        assert all(float(number) > 0 for number in numbers)


def test_the_network_alone_gets_the_tiles_that_a_file_is_denoised_in(tmp_path: Path) -> None:
    image = draw(300)
    tifffile.imwrite(tmp_path / "noisy.tif", image, photometric="rgb")
    denoiser = Denoiser(ModelFinal(widths=(4, 4)), 3, "cpu", tile=128)
    tiles = cut(denoiser, image)
    seen: list[torch.Tensor] = []
    denoiser.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    denoise_files(denoiser, [ImageFile(tmp_path / "noisy.tif", tmp_path / "denoised.tif")])
    assert len(seen) == len(tiles) == 9
    # Both in one order and one layout of memory.
    assert all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(seen, tiles, strict=True))


def test_a_wrong_option_is_answered_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--networks", "Model99"])
    assert "--networks Model99: expected some of" in capsys.readouterr().err.splitlines()[-1]


def test_a_clock_counts_neither_warm_up_nor_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([1.0, 3.0, 10.0, 14.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(seconds))
    clock = Clock(torch.device("cpu"), warm_up=1)
    clock.resume()
    clock.step(5)  # at 1
    clock.step(5)
    clock.pause()  # at 3
    clock.resume()  # at 10
    clock.step(7)
    clock.pause()  # at 14
    assert (clock.pairs, clock.seconds, clock.whole) == (12, 6.0, 13.0)
    assert clock.rate == 2.0
