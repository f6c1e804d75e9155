"""Sources of the user's own images, all through files as a user has them."""

from __future__ import annotations

import itertools
import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from n2n.data import Captures, Folders, Stack
from n2n.data.sources.dead_leaves import draw, texture_bank
from n2n.data.stores.patches import PatchStore
from n2n.data.stores.scenes import SceneStore
from n2n.errors import InputError
from tests.images import SHARED

MICROSCOPY = SHARED / "testsets" / "microscopy"
RNG = np.random.default_rng(0)
SMALL: dict[str, Any] = {"patch": 8, "patches": 40}


def write(path: Path | str, size: tuple[int, ...] = (20, 24), dtype: str = "uint8", top: int = 255) -> np.ndarray:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = RNG.integers(0, top + 1, size).astype(dtype)
    if path.suffix == ".npy":
        np.save(path, image)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, image)
    else:
        Image.fromarray(image).save(path)
    return image


def train(source: Any) -> PatchStore:
    store = source.train_pairs()
    assert isinstance(store, PatchStore)
    return store


def val(source: Any) -> SceneStore:
    store = source.val_pairs()
    assert isinstance(store, SceneStore)
    return store


def text(source: Any) -> str:
    return "\n".join(train(source).remarks)


def test_folders_match_by_name_whatever_the_suffix() -> None:
    a, b = write("a/x.png"), write("b/x.ome.tif")
    for name in ("y", "deep/z"):
        write(f"a/{name}.png", (17, 30))
        write(f"b/{name}.png", (17, 30))
    write("a/only.png")
    source = Folders(["a", "b"], val_fraction=0.4, **SMALL)
    assert "3 scenes with 6 captures" in text(source)
    assert "left out 1 file without a match in another folder: only" in text(source)
    assert train(source).shape == (1, 8, 8)
    scenes = {scene.name: scene for scene in (*train(source).scenes, *val(source).scenes)}
    assert set(scenes) == {"x", "y", "deep/z"}
    x = scenes["x"]
    kept = [train(source).pixels[start : start + 480].reshape(20, 24) for start in x.starts]
    assert np.array_equal(kept[0], a)
    assert np.array_equal(kept[1], b)


def test_names_match_whatever_way_a_system_stores_accents() -> None:
    """macOS may store a letter and its accent apart."""
    for name in ("Zellkörper", "é"):
        write(f"a/{name}.png")
        for folder in ("b", "clean"):
            write(f"{folder}/{unicodedata.normalize('NFD', name)}.png")
    write("c/Zelle ü_1.png")
    write(f"c/{unicodedata.normalize('NFD', 'Zelle ü')}_2.png")
    source = Folders(["a", "b"], clean="clean", val_fraction=0.5, **SMALL)
    assert "2 scenes with 4 captures" in text(source)
    assert val(source).has_clean
    assert [(scene.name, len(scene.captures)) for scene in Captures("c", **SMALL).find()[0]] == [("Zelle ü", 2)]


def test_pattern_sorts_captures_by_scene(tmp_path: Path) -> None:
    for name in ("cell_a_1", "cell_a_2", "cell_a_3", "nerve_1", "nerve_2", "alone_1", "README"):
        write(f"in/{name}.png")
    source = Captures("in", **SMALL)
    assert {s.name: len(s.captures) for s in source.find()[0]} == {"cell_a": 3, "nerve": 2}
    assert "left out 1 file outside the pattern '{scene}_{capture}': README.png" in text(source)
    assert "left out 1 scene with one capture only: alone_1.png" in text(source)
    for name in ("s1/001", "s1/002", "s2/001", "s2/002"):
        write(f"deep/{name}.png")
    assert [s.name for s in Captures("deep", "{scene}/{capture}.png").find()[0]] == ["s1", "s2"]
    assert [s.name for s in Captures("deep", "{}/{capture}{scene}").find()[0]] == ["01", "02"]


def test_clean_images_are_validated_against_and_not_trained_on() -> None:
    clean = {}
    for name in ("x", "y"):
        for capture in (1, 2):
            write(f"noisy/{name}_{capture}.png")
        clean[name] = write(f"clean/{name}.png")
    source = Captures("noisy", clean="clean", val_fraction=0.5, **SMALL)
    batch = val(source).batch(torch.tensor([0]), 0)
    assert batch.clean is not None
    (held,) = val(source).scenes
    assert np.array_equal(batch.clean[0, 0].numpy(), clean[held.name])
    assert val(source).has_clean
    assert not train(source).has_clean
    assert train(source).batch(torch.arange(4), 0).clean is None
    # Scenes without a clean image are not validated on if others have one.
    Path("clean", f"{held.name}.png").unlink()
    rest = val(Captures("noisy", clean="clean", val_fraction=1, **SMALL)).scenes
    assert {scene.name for scene in rest} == clean.keys() - {held.name}


def test_an_image_of_the_size_of_a_patch_is_used() -> None:
    for folder in "ab":
        write(f"{folder}/x.png", (8, 24))
        write(f"{folder}/y.png", (7, 24))
    source = Folders(["a", "b"], val_fraction=0, **SMALL)
    assert [scene.name for scene in train(source).scenes] == ["x"]
    assert "left out 1 scene without room for a patch of 8 px" in text(source)


def test_scenes_whose_captures_differ_are_left_out() -> None:
    rng, textures = np.random.default_rng(0), texture_bank(0, 4, 128)
    for number in range(8):
        scene = draw(96, np.random.default_rng(number), textures)
        for folder in "ab":
            shown = draw(96, np.random.default_rng(99), textures) if (folder, number) == ("b", 3) else scene
            Path(folder).mkdir(exist_ok=True)
            noisy = np.clip(shown + rng.normal(0, 10, shown.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(f"{folder}/{number}.png")
    source = Folders(["a", "b"], val_fraction=0.2, **SMALL)
    assert "warning: left out 1 scene whose captures show different scenes: 3; check the names of the files" in text(
        source
    )
    assert sorted(scene.name for scene in [*train(source).scenes, *val(source).scenes]) == list("0124567")
    # The other scenes alone say whether the noise is as it should be.
    assert "drift" not in text(source)
    assert "correlated" not in text(source)
    anyway = Folders(["a", "b"], val_fraction=0.2, check=False, **SMALL)
    assert len([*train(anyway).scenes, *val(anyway).scenes]) == 8
    assert "left out" not in text(anyway)


def test_brackets_in_names_are_no_pages() -> None:
    for folder, letter, number in itertools.product("12", "ab", range(10)):
        write(f"{folder}/{letter}[{number}].png", (8, 24))
    source = Folders(["1", "2"], val_fraction=0.1, **SMALL)
    assert (len(train(source).scenes), len(val(source).scenes)) == (18, 2)
    # Pages of one file stay together.
    for folder, letter in itertools.product("34", "abc"):
        write(f"{folder}/{letter}.npy", (5, 8, 24))
    source = Folders(["3", "4"], val_fraction=0.1, **SMALL)
    assert (len(train(source).scenes), len(val(source).scenes)) == (10, 5)
    assert len({scene.name.partition("[")[0] for scene in val(source).scenes}) == 1


def test_stack_pairs_its_pages() -> None:
    pages = write("stack.tif", (6, 40, 20), "uint16", 3000)
    source = Stack("stack.tif", val_fraction=0.2, **SMALL)
    assert "1 stack with 1 scene and 6 captures" in text(source)
    assert "axes of stack.tif: captures lie along Q (6)" in text(source)
    assert "one scene only: its last 8 rows are held out" in text(source)
    # 12 bits hold 3000.
    assert train(source).range == (0.0, 4095.0)
    assert train(source).dtype == "uint16"
    assert val(source).batch(torch.tensor([0]), 0).first.to(torch.int32)[0, 0].tolist() == pages[0, 32:].tolist()
    np.save("series.npy", pages.astype(np.float32))
    series = Stack("series.npy", series=True, **SMALL)
    assert train(series).window == 1
    assert train(series).range == (0.0, float(pages.max()))
    write("stacks/a.npy", (3, 30, 30), "uint8")
    write("stacks/b.npy", (2, 20, 30), "uint8")
    write("stacks/one.png")
    both = Stack("stacks", **SMALL)
    assert {s.name: len(s.captures) for s in both.find()[0]} == {"a": 3, "b": 2}
    assert "left out 1 file with one page only: one.png" in text(both)


def test_faults_are_named() -> None:
    for name in ("same", "good", "size", "broken", "deep", "nan"):
        image = write(f"a/{name}.png")
        write(f"b/{name}.png")
        if name == "same":
            Image.fromarray(image).save("b/same.png")
    write("b/size.png", (20, 25))
    Path("b/broken.png").write_bytes(b"no image")
    write("b/deep.tif", dtype="uint16", top=60000)
    Path("b/deep.png").unlink()
    lines = text(Folders(["a", "b"], val_fraction=0, **SMALL))
    assert (
        "identical captures, which teach a network to keep the noise, are left out: b/same.png is a/same.png" in lines
    )
    assert (
        "left out 1 scene whose images have different sizes (register and crop them): size (20×24×1 uint8, 20×25×1 uint8)"
        in lines
    )
    assert "left out 1 file that cannot be read: b/broken.png is not an image" in lines
    assert "left out 1 image unlike the others, which are 1-channel uint8: deep.tif (20×24×1 uint16)" in lines
    assert "2 scenes to train on" in lines


def test_an_image_of_no_number_is_left_out() -> None:
    images = [write(f"{folder}/{name}.npy", dtype="float32") for name in "xy" for folder in "ab"]
    np.save("a/x.npy", np.full_like(images[0], np.nan))
    source = Folders(["a", "b"], val_fraction=0, **SMALL)
    assert "a/x.npy holds no data: all pixels are NaN, infinite or no data" in text(source)
    assert [scene.name for scene in train(source).scenes] == ["y"]


def test_grey_and_colour_are_made_alike_when_asked() -> None:
    write("a/x.png", (20, 24, 3))
    write("b/x.png", (20, 24, 3))
    write("a/y.png")
    write("b/y.png")
    for channels in (1, 3):
        store = train(Folders(["a", "b"], channels=channels, val_fraction=0, **SMALL))
        assert store.shape[0] == channels
        assert len(store.scenes) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Folders(["a"]), "expected two different folders"),
        (lambda: Folders(["a", "./a"]), "expected two different folders"),
        (lambda: Folders(["a", "none"]).train_pairs(), "none is not there"),
        (lambda: Folders(["a", "c"]).train_pairs(), "no file name is in two of the folders"),
        (lambda: Folders(["a", "b"], patch=40).train_pairs(), "no training image has room for a patch of 40 px"),
        (lambda: Folders(["a", "b"], patch=0), "patch is 0"),
        (lambda: Folders(["a", "b"], value_range=(5, 1)), "the range is 5 to 1"),
        (lambda: Folders(["a", "b"], val_fraction=0).val_pairs(), "nothing is held out"),
        (lambda: Folders(["a", "b"], val_fraction=1).train_pairs(), "all scenes are held out"),
        (lambda: Folders(["a", "b"], val_fraction=1.2), "val_fraction is 1.2"),
        (lambda: Folders(["d", "e"]).train_pairs(), "no file can be read"),
        (lambda: Folders(["a", "a2"]).train_pairs(), "nothing is left to train on"),
        (lambda: Captures("a", "{scene}"), "expected {scene} and {capture}"),
        (lambda: Captures("a", "{scene}-{capture}").train_pairs(), "no two files in a are captures of one scene"),
        (lambda: Stack("a").train_pairs(), "there is no stack of two pages or more"),
    ],
)
def test_what_cannot_be_used_gets_one_line(make: Any, message: str) -> None:
    x = write("a/x.png")
    write("b/x.png")
    write("c/y.png")
    Path("a2").mkdir()
    Image.fromarray(x).save("a2/x.png")
    for folder in ("d", "e"):
        Path(folder).mkdir()
        Path(folder, "x.png").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_copy_is_kept_and_follows_the_files() -> None:
    for folder in "ab":
        write(f"{folder}/x.png")
    first = train(Folders(["a", "b"], **SMALL)).pixels
    assert np.array_equal(first, train(Folders(["a", "b"], **SMALL)).pixels)
    assert len(list(Path("cache").iterdir())) == 1
    write("a/x.png", (20, 25))
    write("b/x.png", (20, 25))
    assert len(train(Folders(["a", "b"], **SMALL)).pixels) == 1000


def test_all_that_the_copy_depends_on_makes_another() -> None:
    for folder in "abc":
        write(f"{folder}/x.png", (20, 24, 3))
    write("stack.npy", (4, 20, 24))
    sources = [
        Folders(["a", "b", "c"], **SMALL),
        Folders(["a", "b"], clean="c", **SMALL),
        *(Folders(["a", "b"], **SMALL, **options) for options in ({}, {"channels": 1}, {"value_range": (0, 99)})),
        *(Folders(["a", "b"], **SMALL, channels="apart", axes=axes) for axes in ("YXC", "XYC")),
        *(Stack("stack.npy", **SMALL, series=series) for series in (False, True)),
    ]
    for count, source in enumerate(sources, 1):
        source.train_pairs()
        assert len(list(Path("cache").iterdir())) == count


def test_a_file_rewritten_with_its_old_size_and_time_is_read_again() -> None:
    for folder in "ab":
        write(f"{folder}/x.tif")
    first = train(Folders(["a", "b"], **SMALL)).pixels.copy()
    stat = Path("a/x.tif").stat()
    image = write("a/x.tif")
    os.utime("a/x.tif", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    now = Path("a/x.tif").stat()
    assert (now.st_size, now.st_mtime_ns, now.st_ino) == (stat.st_size, stat.st_mtime_ns, stat.st_ino)
    again = train(Folders(["a", "b"], **SMALL)).pixels
    assert np.array_equal(again[:480, 0], image.ravel())
    assert not np.array_equal(again, first)


def test_a_picture_in_both_parts_is_named() -> None:
    for name in "uvwxyz":
        for folder in "ab":
            write(f"{folder}/{name}.png")
    clear = Folders(["a", "b"], val_fraction=0.5, **SMALL)
    assert "under another name" not in text(clear)
    one, other = train(clear).scenes[0].name, val(clear).scenes[0].name
    for folder in "ab":
        Path(f"{folder}/{other}.png").write_bytes(Path(f"{folder}/{one}.png").read_bytes())
    line = "warning: 2 held-out images are also trained on under another name, so validation gives too good figures: "
    name = f"{max(one, other)}.png is {min(one, other)}.png"
    assert f"{line}{name}, {name}" in text(Folders(["a", "b"], val_fraction=0.5, **SMALL))
    # Twice in one part is no harm to the figures.
    assert "under another name" not in text(Folders(["a", "b"], val_fraction=0, **SMALL))


@pytest.mark.skipif(not MICROSCOPY.is_dir(), reason="the microscope's images are not here")
def test_real_captures_are_not_taken_for_different_scenes() -> None:
    folder = str(MICROSCOPY / "noisy")
    assert len(train(Captures(folder, val_fraction=0)).scenes) == 11
    # Another capture of another field in each pair.
    names = sorted(Path(folder).glob("*_1.png"))
    for i, name in enumerate(names):
        for side, source in (("a", name), ("b", names[i - 1])):
            Path(side).mkdir(exist_ok=True)
            Path(side, name.name).write_bytes(source.read_bytes())
    with pytest.raises(InputError, match="show different scenes"):
        Folders(["a", "b"]).train_pairs()


def test_captures_that_show_something_else_than_most_are_left_out() -> None:
    rng, textures = np.random.default_rng(0), texture_bank(0, 4, 128)
    Path("burst").mkdir()
    for number in range(5):
        scene = draw(96, np.random.default_rng(number), textures)
        for capture in range(4):
            # Of one scene half of the captures are turned, and of another all but the first.
            turned = (number == 2 and capture >= 2) or (number == 4 and capture)
            shown = scene[::-1, ::-1] if turned else scene
            noisy = np.clip(shown + rng.normal(0, 10, shown.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(f"burst/{number}_{capture}.png")
    source = Captures("burst", val_fraction=0, **SMALL)
    counts = {scene.name: len(scene.starts) for scene in train(source).scenes}
    assert counts == {"0": 4, "1": 4, "2": 2, "3": 4, "4": 3}
    said = "left out 3 captures, because most captures of the scene show something else: 2_2.png in 2, 2_3.png in 2, 4_0.png in"
    assert f"warning: {said} 4" in text(source)
    assert "different scenes" not in text(source)
    anyway = Captures("burst", val_fraction=0, check=False, **SMALL)
    assert [len(scene.starts) for scene in train(anyway).scenes] == [4] * 5


def test_a_series_that_jumps_to_another_scene_says_so() -> None:
    rng, textures = np.random.default_rng(0), texture_bank(0, 4, 128)
    scenes = [draw(96, np.random.default_rng(number), textures)[..., 0] for number in range(2)]
    frames = np.stack([scenes[number >= 7] + rng.normal(0, 10, (96, 96)) for number in range(12)])
    tifffile.imwrite("series.tif", frames.astype(np.float32), metadata={"axes": "TYX"})
    jumps = text(Stack("series.tif", series=True, val_fraction=0.3, **SMALL))
    assert "warning: the scene changes within a series, at series.tif[7] in" in jumps
    tifffile.imwrite("series.tif", frames[:7].astype(np.float32), metadata={"axes": "TYX"})
    assert "changes" not in text(Stack("series.tif", series=True, val_fraction=0.3, **SMALL))
    # A dark frame at the start, which is no reason to leave out the rest.
    frames[0] = rng.normal(0, 10, (96, 96))
    tifffile.imwrite("series.tif", frames[:7].astype(np.float32), metadata={"axes": "TYX"})
    dark = text(Stack("series.tif", series=True, val_fraction=0.3, **SMALL))
    assert "the scene changes within a series, at series.tif[1] in" in dark
    assert "different scenes" not in dark


def test_a_series_in_which_much_changes_is_not_said_to_jump() -> None:
    rng, textures = np.random.default_rng(0), texture_bank(0, 4, 128)
    scenes = [draw(96, np.random.default_rng(number), textures)[..., 0] for number in range(4)]
    frames = np.stack([scenes[number // 5] + rng.normal(0, 10, (96, 96)) for number in range(20)])
    tifffile.imwrite("series.tif", frames.astype(np.float32), metadata={"axes": "TYX"})
    assert "changes" not in text(Stack("series.tif", series=True, val_fraction=0.3, **SMALL))
