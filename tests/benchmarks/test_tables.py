"""The benchmarks of the checkpoints that ship, on a few small generated images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.benchmarks import low_light, micrographs


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.rint(image.clip(0, 255)).astype(np.uint8)).save(path)


def rows(table: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {name: rest for name, *rest in cells}


def test_noise_of_low_light_is_as_strong_and_as_correlated_as_it_says() -> None:
    grey = np.full((low_light.SIDE, low_light.SIDE, 3), 0.4, np.float32)
    noisy, clean = low_light.low_light(grey, 0, low_light._spectrum())
    assert clean == pytest.approx(grey)
    noise = noisy - clean
    assert noise.std((0, 1)) * 255 == pytest.approx(0.6 * np.array(low_light.SIGMAS), rel=0.05)
    for distance, wanted in {1: 0.48, 2: 0.16, 3: 0.04}.items():
        found = np.mean(noise[:, distance:] * noise[:, :-distance]) / np.mean(noise**2)
        assert found == pytest.approx(wanted, abs=0.03)


def test_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("bm3d")
    pytest.importorskip("scipy")
    x = np.linspace(0, 3 * np.pi, 400)
    scene = 100 + 60 * np.sin(x[:, None]) * np.cos(x)
    write(tmp_path / "photos" / "0.png", np.repeat(scene[..., None], 3, 2))
    low_light.main(tmp_path / "photos", ["quick"])
    found = rows(capsys.readouterr().out)
    assert list(found) == ["method", "---", "noisy", "quick", "Gaussian blur"]
    assert float(found["Gaussian blur"][0]) > float(found["noisy"][0]) + 5

    rng = np.random.default_rng(0)
    for name in ("Confocal_A", "WideField_A"):
        clean = scene[:48, :48]
        write(tmp_path / "clean" / f"{name}_1.png", clean)
        write(tmp_path / "noisy" / f"{name}_1.png", rng.poisson(clean / 4) * 4.0)
    micrographs.main(tmp_path, ["micrograph"])
    found = rows(capsys.readouterr().out)
    assert list(found) == ["field", "---", "Confocal_A", "mean"]
    noisy, *denoised = map(float, found["mean"][:5])
    assert min(denoised) > noisy + 3
