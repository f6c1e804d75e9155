from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from n2n.cli import main
from n2n.data import Captures, CleanImages, Folders, SingleImages, Stack
from n2n.data.corruption import Gaussian
from n2n.data.scenes.frames import Frame
from n2n.data.sources.scene_source import SceneSource
from n2n.errors import InputError

SMALL: dict[str, Any] = {"patch": 16, "patches": 200, "flips": False, "val_fraction": 0.34}


def hyperstack(axes: str, *sizes: int) -> NDArray[np.uint16]:
    """Return a stack whose values name their place: 10,000·T + 1,000·Z + 100·C, and noise below 100."""
    letters = dict(zip(axes, sizes, strict=True))
    shape = [letters.get(letter, 1) for letter in "TZC"]
    t, z, c = np.meshgrid(*map(np.arange, shape), indexing="ij")
    noise = np.random.default_rng(0).integers(0, 100, (*shape, letters["Y"], letters["X"]))
    whole = (10_000 * t + 1_000 * z + 100 * c)[..., None, None] + noise
    kept = whole.squeeze(tuple(i for i, letter in enumerate("TZC") if letter not in axes))
    order = [("".join(letter for letter in "TZCYX" if letter in axes)).index(letter) for letter in axes]
    return kept.transpose(order).astype(np.uint16)


def write(name: str, axes: str, *sizes: int) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    metadata = {"axes": axes}
    tifffile.imwrite(name, hyperstack(axes, *sizes), photometric="minisblack", ome=".ome." in name, metadata=metadata)


def digits(values: torch.Tensor) -> torch.Tensor:
    """Return T, Z and C of values of constant places: N×C×H×W -> 3×N×C."""
    place = values.to(torch.int64)[:, :, 0, 0]
    return torch.stack([place // 10_000, place // 1_000 % 10, place // 100 % 10])


@pytest.mark.parametrize("axes", ["TZCYX", "TCZYX", "ZTCYX", "CZTYX"])
@pytest.mark.parametrize("channels", ["together", "apart"])
def test_a_hyperstack_pairs_what_it_should(axes: str, channels: Any) -> None:
    sizes = {"T": 4, "Z": 3, "C": 2, "Y": 20, "X": 30}
    write("x.ome.tif", axes, *(sizes[axis] for axis in axes))
    source = Stack("x.ome.tif", channels=channels, check=False, **SMALL)
    store = source.train_pairs()
    batch = store.batch(torch.arange(200), 0)
    assert batch.second is not None
    (t1, z1, c1), (t2, z2, c2) = digits(batch.first), digits(batch.second)
    assert (t1 != t2).all()
    assert (z1 == z2).all()
    assert (c1 == c2).all()
    assert set(t1.flatten().tolist()) == {0, 1, 2, 3}
    if channels == "together":
        assert (c1 == torch.arange(2)).all()
    else:
        assert set(c1.flatten().tolist()) == {0, 1}
    line = next(line for line in store.remarks if "captures lie along" in line)
    assert line.startswith("axes of x.ome.tif: captures lie along T (4), ")
    # Planes of Z are scenes of their own, so some are held out.
    assert f"{2 if channels == 'together' else 4} scenes to train on" in store.remarks


def test_a_series_pairs_neighbours_in_time_alone() -> None:
    write("x.tif", "TZYX", 6, 2, 40, 30)
    batch = Stack("x.tif", series=True, check=False, **SMALL).train_pairs().batch(torch.arange(200), 0)
    assert batch.second is not None
    (t1, z1, _), (t2, z2, _) = digits(batch.first), digits(batch.second)
    assert ((t1 - t2).abs() == 1).all()
    assert (z1 == z2).all()


def test_each_scene_of_a_stack_has_its_own_page_of_the_clean_file() -> None:
    write("x.tif", "TZYX", 6, 3, 20, 30)
    write("clean.tif", "ZYX", 3, 20, 30)
    scenes, _ = Stack("x.tif", clean="clean.tif", **SMALL).find()
    assert [scene.clean for scene in scenes] == [Frame(Path("clean.tif"), page) for page in range(3)]


def test_slices_and_stains_are_no_captures_of_each_other() -> None:
    write("z.tif", "ZCYX", 5, 2, 20, 30)
    with pytest.raises(InputError, match=r"z\.tif \(Z 5\): no captures along T.*captures_axis"):
        Stack("z.tif", **SMALL).find()
    # Someone who says so may.
    scenes, lines = Stack("z.tif", captures_axis="Z", **SMALL).find()
    assert [len(scene.captures) for scene in scenes] == [5]
    assert "captures lie along Z (5)" in lines[1]
    assert "warning: the 2 channels of z.tif are learnt together" in lines[2]
    scenes, _ = Stack("z.tif", captures_axis="C", **SMALL).find()
    assert [(scene.name, len(scene.captures)) for scene in scenes][:2] == [("z[Z=0]", 2), ("z[Z=1]", 2)]
    scenes, _ = Stack("z.tif", axes="TCYX", **SMALL).find()
    assert [len(scene.captures) for scene in scenes] == [5]
    # Positions of the stage are not either, nor is any other axis with a name.
    for letter in "PRH":
        with pytest.raises(InputError, match=rf"z\.tif \({letter} 5\): no captures along T"):
            Stack("z.tif", axes=f"{letter}CYX", **SMALL).find()
    for letter in "QI":
        scenes, _ = Stack("z.tif", axes=f"{letter}CYX", **SMALL).find()
        assert [len(scene.captures) for scene in scenes] == [5]


def test_slices_that_were_saved_as_colours_are_named() -> None:
    with pytest.warns(DeprecationWarning, match="photometric"):
        tifffile.imwrite("x.tif", np.zeros((4, 20, 30), np.uint8))
    with pytest.raises(InputError, match=r"one page only: x\.tif; its 4 planes are read as red.*--axes ZYX"):
        Stack("x.tif").find()


def test_an_array_of_several_axes_without_names_is_refused() -> None:
    np.save("x.npy", hyperstack("TZYX", 3, 4, 20, 30))
    with pytest.raises(InputError, match=r"x\.npy \(Q 3 × Q 4\): no captures along T"):
        Stack("x.npy", **SMALL).find()
    assert len(Stack("x.npy", axes="TZYX", **SMALL).find()[0]) == 4


@pytest.mark.parametrize("channels", ["together", "apart"])
def test_pages_of_files_are_paired_one_by_one(channels: Any) -> None:
    for folder in ("a", "b", "d"):
        write(f"{folder}/x.ome.tif", "ZCYX", 3, 2, 20, 30)
        write(f"{folder}/y.ome.tif", "ZCYX", 4, 2, 20, 30)
    for i in (1, 2):
        write(f"c/x_{i}.ome.tif", "ZCYX", 3, 2, 20, 30)
        write(f"c/y_{i}.ome.tif", "ZCYX", 4, 2, 20, 30)
    sources: list[SceneSource] = [
        Folders(["a", "b"], clean="d", channels=channels, check=False, **SMALL),
        Captures("c", "{scene}_{capture}.ome.tif", clean="d", channels=channels, check=False, **SMALL),
    ]
    for source in sources:
        scenes, lines = source.find()
        assert len(scenes) == (7 if channels == "together" else 14)
        assert all(len({frame.page for frame in scene.captures}) == 1 for scene in scenes)
        assert all(len({frame.path for frame in scene.captures}) == 2 for scene in scenes)
        assert all(scene.clean == Frame(Path(f"d/{scene.name[0]}.ome.tif"), scene.captures[0].page) for scene in scenes)
        kinds = "Z 3" if channels == "together" else "Z 3 × C 2"
        assert f"{kinds} are scenes of their own" in lines[1]


def test_files_whose_axes_do_not_match_are_named() -> None:
    write("a/x.tif", "ZYX", 5, 20, 30)
    write("b/x.tif", "ZYX", 6, 20, 30)
    write("c/x.tif", "ZYX", 5, 20, 30)
    write("d/x.tif", "TYX", 5, 20, 30)
    scenes, lines = Folders(["a", "b", "c", "d"], **SMALL).find()
    assert [len(scene.captures) for scene in scenes] == [2] * 5
    assert (
        "warning: left out 2 files with other axes than the other captures of the scene: x.tif (Z 6), not x.tif (Z 5), "
        "x.tif (T 5), not x.tif (Z 5)" in lines
    )


def test_each_plane_of_single_images_is_a_scene() -> None:
    write("in/x.ome.tif", "TZCYX", 2, 3, 2, 20, 30)
    write("clean/x.ome.tif", "TZCYX", 2, 3, 2, 20, 30)
    scenes, lines = SingleImages("in", clean="clean", **SMALL).find()
    assert [scene.clean and scene.clean.page for scene in scenes] == list(range(6))
    assert lines[1] == "axes of x.ome.tif: T 2 × Z 3 are scenes of their own"
    assert "warning: the 2 channels of x.ome.tif are learnt together" in lines[2]
    assert len(CleanImages("in", Gaussian(25), channels="apart", **SMALL).find()[0]) == 12


def test_five_channels_are_learnt_together_and_denoised(caplog: pytest.LogCaptureFixture) -> None:
    write("in/x.ome.tif", "TCYX", 4, 5, 60, 40)
    options = ["--config", "table1/model2.yaml", "--config", "data/stack.yaml", "--data.source.init_args.root", "in"]
    options += ["--data.source.init_args.patch", "16", "--data.source.init_args.patches", "50"]
    options += ["--data.source.init_args.check", "false", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
    assert main(["fit", *options]) == 0
    assert "the 5 channels of x.ome.tif are learnt together" in caplog.text
    checkpoint = next(Path("lightning_logs").glob("**/best.ckpt"))
    assert main(["predict", "--ckpt_path", str(checkpoint), "--input", "in", "--output", "out", "--device", "cpu"]) == 0
    with tifffile.TiffFile("out/x.ome.tif") as tiff:
        assert (tiff.series[0].axes, tiff.series[0].shape) == ("TCYX", (4, 5, 60, 40))
