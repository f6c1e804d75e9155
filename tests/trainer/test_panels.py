from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from n2n.errors import InputError
from n2n.trainer.callbacks import panel_row
from n2n.trainer.panels import PanelRow, last_panel, write_panel
from tests.conftest import fit, write_course
from tests.run_folders import add_panel

RNG = np.random.default_rng(0)


def row(height: int, width: int, columns: int, psnr: tuple[float, float] | None = None) -> PanelRow:
    return PanelRow(tuple(RNG.integers(0, 256, (height, width, 3), np.uint8) for _ in range(columns)), psnr)


@pytest.mark.parametrize("columns", [2, 3])
def test_every_pixel_is_read_back(columns: int, tmp_path: Path) -> None:
    rows = [row(8, 8, columns, (20.123, 31.5)), row(40, 100, columns), row(256, 200, columns, (1, -2))]
    rows += [replace(row(256, 3, columns), note="brightness x4, centre 256x3 of 5000x3"), row(1, 256, columns)]
    shown = write_panel(tmp_path, 7, rows)
    found = last_panel(tmp_path, 7)
    for one, other in zip(found, rows, strict=True):
        assert one.note == other.note
        assert one.psnr == (other.psnr and pytest.approx(other.psnr, abs=0.005))
        assert all(np.array_equal(a, b) for a, b in zip(one.pictures, other.pictures, strict=True))
    assert np.array_equal(shown, np.asarray(Image.open(tmp_path / "panels" / "epoch_007.png")))
    # The first picture is enlarged so that its pixels can be seen, below its caption.
    assert np.array_equal(shown[36 : 36 + 256, 8 : 8 + 256], rows[0].pictures[0].repeat(32, 0).repeat(32, 1))
    assert (shown[:36, 8:264] < 128).any()


@pytest.mark.parametrize(
    ("shape", "size", "note"),
    [
        ((1, 40, 5000), (120, 800), "centre 40x256 of 40x5000"),
        ((3, 5000, 30), (336, 800), "centre 256x30 of 5000x30"),
        ((3, 32, 32), (300, 800), ""),
        ((1, 4096, 4096), (336, 800), "centre 256x256 of 4096x4096"),
        ((2, 100, 130), (180, 800), "channel 1 of 2"),
        ((5, 64, 64), (336, 800), "channel 1 of 5"),
        ((1, 1, 300), (81, 800), "centre 1x256 of 1x300"),
    ],
)
def test_images_of_any_shape_give_a_panel_of_a_sensible_size(
    shape: tuple[int, int, int], size: tuple[int, int], note: str, tmp_path: Path
) -> None:
    image = torch.rand(shape)
    one = panel_row([image, image, image], (20, 30))
    assert one.note == note
    assert write_panel(tmp_path, 1, [one]).shape == (*size, 3)
    assert last_panel(tmp_path, 1)[0].note == note


def test_dark_images_are_shown_brighter_alike_in_all_columns() -> None:
    clean = torch.rand(1, 64, 64) * 0.2
    clean[0, 0, 0] = 1.0
    noisy, denoised = clean + 0.01, clean + 0.005
    noisy[0, 1] = torch.nan
    shown = panel_row([noisy, denoised, clean], None)
    assert shown.note == "brightness x4"
    for picture, image in zip(shown.pictures, (noisy, denoised, clean), strict=True):
        expected = (image[0].nan_to_num() * 4).clamp(0, 1) * 255
        assert np.abs(picture[..., 0] - expected.numpy()).max() <= 0.5 + 1e-3
    for image in (torch.zeros(3, 8, 8), torch.full((3, 8, 8), torch.nan), -torch.rand(3, 8, 8), torch.rand(3, 8, 8)):
        assert panel_row([image, image], None).note == ""
    # A file of 16 bits that uses a few of them.
    assert panel_row([torch.full((1, 8, 8), 1e-6)] * 2, None).note == "brightness x1000"


def test_notes_of_a_file_are_one_short_line(tmp_path: Path) -> None:
    write_panel(tmp_path, 1, [replace(row(8, 8, 2), note="\x1b[31m\n" + "x" * 500)])
    (found,) = last_panel(tmp_path, 1)
    assert found.note.isprintable()
    assert len(found.note) == 100


def test_white_pictures_are_no_gaps(tmp_path: Path) -> None:
    images = torch.rand(3, 3, 32, 32)
    images[1] = 1.0
    add_panel(tmp_path, images, images / 2, images, psnr=None)
    found = last_panel(tmp_path, 2)
    assert [row.psnr for row in found] == [None] * 3
    assert (found[1].pictures[0] == 255).all()


def test_the_last_panel_is_that_of_the_last_epoch_that_counts(tmp_path: Path) -> None:
    assert last_panel(tmp_path, 100) == []
    for epoch in (1, 96, 1001):
        write_panel(tmp_path, epoch, [row(8, 8, 2)] * (epoch % 10))
    for name in ("epoch_1500.png", "epoch_x.csv", "epoch_-5.csv", f"epoch_{'9' * 200}.csv"):
        (tmp_path / "panels" / name).write_text("")
    assert [len(last_panel(tmp_path, epochs)) for epochs in (0, 5, 96, 1000, 1001, 2000)] == [0, 1, 6, 6, 1, 1]


def test_images_are_shown_as_files_show_them() -> None:
    image = torch.rand(3, 300, 20) * 3 - 1
    (shown, _) = panel_row([image, image], None).pictures
    assert shown.shape == (256, 20, 3)
    assert np.array_equal(shown, (image[:, 22:278].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
    two = torch.rand(2, 8, 8)
    assert np.array_equal(panel_row([two, two], None).pictures[0][..., 2], (two[0] * 255).round().byte().numpy())


@pytest.mark.parametrize(
    "line",
    [
        *("2,33,32,1,2,", "3,32,32,1,2,", "1,32,32,1,2,", "0,32,32,1,2,", "-2,32,32,1,2,", "2,0,32,1,2,"),
        *("2,32,-32,1,2,", "2,257,32,1,2,", "2,32,1000000000,1,2,", "2,32,x,1,2,", "2,32,32,one,2,", "2,32,32,1,,"),
        *("2,32,32,1,2,\n2,32,32,1,2,", "2,8,32,1,2,\n3,8,32,1,2,"),
    ],
)
def test_tables_that_do_not_fit_their_panel_get_one_line(line: str, tmp_path: Path) -> None:
    write_panel(tmp_path, 1, [row(32, 32, 2, (1, 2))])
    path = tmp_path / "panels" / "epoch_001.csv"
    header = path.read_text().splitlines()[0]
    path.write_text(f"{header}\n2,32,32,1,2,\n")
    assert len(last_panel(tmp_path, 1)) == 1
    path.write_text(f"{header}\n{line}\n")
    with pytest.raises(InputError, match="does not describe the panel") as caught:
        last_panel(tmp_path, 1)
    assert "\n" not in str(caught.value)


def test_panels_that_are_damaged_or_too_large_get_one_line(tmp_path: Path) -> None:
    write_panel(tmp_path, 1, [row(32, 32, 2)])
    path = tmp_path / "panels" / "epoch_001.png"
    whole = path.read_bytes()
    for content in (whole[:100], b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            last_panel(tmp_path, 1)
    Image.new("1", (9000, 9000)).save(path, "PNG")
    with pytest.raises(InputError, match="9000×9000 pixels, more than any panel"):
        last_panel(tmp_path, 1)
    path.unlink()
    with pytest.raises(InputError, match="is not there"):
        last_panel(tmp_path, 1)
    path.write_bytes(whole)
    path.with_suffix(".csv").write_text("columns,height\n2,32\n")
    with pytest.raises(InputError, match="does not describe"):
        last_panel(tmp_path, 1)


@pytest.mark.parametrize("end", ["--trainer.max_epochs 3", "--trainer.max_steps 18 --trainer.max_epochs -1"])
def test_the_first_and_the_last_epoch_have_a_panel(end: str, tmp_path: Path) -> None:
    # Six batches of ten pairs an epoch.
    assert fit("--data.batch_size", "10", *end.split(), root=write_course(tmp_path / "data")) == 0
    panels = Path("lightning_logs/run/version_0/panels").glob("*.png")
    assert sorted(path.name for path in panels) == ["epoch_001.png", "epoch_003.png"]


def test_epochs_without_a_validation_delay_a_panel(tmp_path: Path) -> None:
    options = ("--trainer.check_val_every_n_epoch", "2", "--panel.every_n_epochs", "4", "--trainer.max_epochs", "8")
    assert fit(*options, root=write_course(tmp_path / "data")) == 0
    panels = Path("lightning_logs/run/version_0/panels").glob("*.png")
    assert sorted(path.name for path in panels) == ["epoch_002.png", "epoch_006.png", "epoch_008.png"]
