from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from n2n.errors import InputError
from n2n.trainer.callbacks import _picture
from n2n.trainer.panels import Panel, PanelRow, last_panel, write_panel
from tests.run_folders import add_panel

RNG = np.random.default_rng(0)


def row(height: int, width: int, columns: int, psnr: tuple[float, float] | None = None) -> PanelRow:
    return PanelRow(tuple(RNG.integers(0, 256, (height, width, 3), np.uint8) for _ in range(columns)), psnr)


@pytest.mark.parametrize("columns", [2, 3])
def test_every_pixel_is_read_back(columns: int, tmp_path: Path) -> None:
    rows = (row(8, 8, columns, (20.123, 31.5)), row(40, 100, columns, (10, 12)), row(256, 200, columns, (1, -2)))
    write_panel(tmp_path, Panel(7, rows))
    found = last_panel(tmp_path, 7)
    assert found is not None
    assert (found.epoch, found.columns) == (7, ("noisy", "denoised", "clean")[:columns])
    for one, other in zip(found.rows, rows, strict=True):
        assert one.psnr == pytest.approx(other.psnr, abs=0.005)
        assert all(np.array_equal(a, b) for a, b in zip(one.pictures, other.pictures, strict=True))


def test_white_pictures_are_no_gaps(tmp_path: Path) -> None:
    images = torch.rand(3, 3, 32, 32)
    images[1] = 1.0
    add_panel(tmp_path, images, images / 2, images, psnr=None)
    found = last_panel(tmp_path, 2)
    assert found is not None
    assert [row.psnr for row in found.rows] == [None] * 3
    assert (found.rows[1].pictures[0] == 255).all()


def test_the_last_panel_is_that_of_the_last_epoch_that_counts(tmp_path: Path) -> None:
    assert last_panel(tmp_path, 100) is None
    for epoch in (1, 96, 1001):
        write_panel(tmp_path, Panel(epoch, (row(8, 8, 2),)))
    assert [found.epoch for epochs in (5, 96, 1000, 2000) if (found := last_panel(tmp_path, epochs))] == [
        1,
        96,
        96,
        1001,
    ]
    # Other files are no panels.
    for name in ("epoch_1500.png", "epoch_x.csv", "epoch_-5.csv", f"epoch_{'9' * 200}.csv"):
        (tmp_path / "panels" / name).write_text("")
    found = last_panel(tmp_path, 2000)
    assert found is not None
    assert found.epoch == 1001


def test_images_are_shown_as_files_show_them() -> None:
    image = torch.rand(3, 300, 20) * 3 - 1
    shown = _picture(image)
    assert shown.shape == (256, 20, 3)
    assert np.array_equal(shown, (image[:, 22:278].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
    two = torch.rand(2, 8, 8)
    assert np.array_equal(_picture(two), _picture(two[:1]))


HOSTILE: dict[str, dict[str, int | str]] = {
    "outside": {"left": 500},
    "negative": {"left": -4},
    "empty": {"width": 0},
    "no factor": {"enlarged": 0},
    "another factor": {"enlarged": 3},
    "huge picture": {"left": 0, "top": 0, "width": 264, "height": 264, "enlarged": 1},
    "no number": {"top": "x"},
    "another column": {"column": "clean"},
    "another size": {"width": 64},
    "overlapping": {"width": 264, "height": 150, "left": 0, "top": 0, "enlarged": 2},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_tables_that_do_not_fit_their_panel_get_one_line(name: str, tmp_path: Path) -> None:
    write_panel(tmp_path, Panel(1, (row(32, 32, 2, (1, 2)),)))
    path = tmp_path / "panels" / "epoch_001.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    changed = rows if name == "overlapping" else rows[:1]
    for one in changed:
        one |= {key: str(value) for key, value in HOSTILE[name].items()}
    with path.open("w") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    with pytest.raises(InputError, match="does not describe the pictures") as caught:
        last_panel(tmp_path, 1)
    assert "\n" not in str(caught.value)


def test_panels_that_are_damaged_or_too_large_get_one_line(tmp_path: Path) -> None:
    write_panel(tmp_path, Panel(1, (row(32, 32, 2),)))
    path = tmp_path / "panels" / "epoch_001.png"
    whole = path.read_bytes()
    for content, message in ((whole[:100], "cannot be read"), (b"", "cannot be read")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            last_panel(tmp_path, 1)
    Image.new("1", (8192, 8192)).save(path, "PNG")
    with pytest.raises(InputError, match="8192×8192 pixels, more than any panel"):
        last_panel(tmp_path, 1)
    path.unlink()
    with pytest.raises(InputError, match="is not there"):
        last_panel(tmp_path, 1)
    path.with_suffix(".csv").write_text("image,column\n1,noisy\n")
    path.write_bytes(whole)
    with pytest.raises(InputError, match="does not describe"):
        last_panel(tmp_path, 1)
