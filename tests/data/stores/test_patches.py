from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from n2n.data.stores.patches import PatchStore
from n2n.data.stores.scenes import Scene, SceneStore, split_scenes


def flat(*shapes: tuple[int, int, int]) -> tuple[np.ndarray, list[Scene]]:
    """Scenes of (captures, height, width) whose pixels count up, so that each says where it is from."""
    scenes, start = [], 0
    for i, (captures, height, width) in enumerate(shapes):
        starts = tuple(start + k * height * width for k in range(captures))
        scenes.append(Scene(str(i), height, width, starts, None, (0, height)))
        start += captures * height * width
    return np.arange(start, dtype=np.float32)[:, None].repeat(2, axis=1), scenes


def everything(store: PatchStore, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    first, second, clean, *_ = store.batch(torch.arange(len(store)), seed)
    assert second is not None
    assert clean is None
    return first, second


def test_both_views_show_the_same_place_of_different_captures() -> None:
    pixels, scenes = flat((3, 10, 12), (2, 8, 9))
    store = PatchStore(pixels, scenes, (0, 1), patch=4, patches=400, flips=False)
    first, second = everything(store)
    assert first.shape == (400, 2, 4, 4)
    # In the first scene captures are 120 pixels apart, in the second 72.
    apart = (second - first).flatten(1)
    assert (apart == apart[:, :1]).all()
    assert set(apart[:, 0].tolist()) == {-240.0, -120.0, 120.0, 240.0, -72.0, 72.0}
    # Neighbours in a patch are neighbours in the image.
    assert set((first[:, :, :, 1:] - first[:, :, :, :-1]).flatten().tolist()) == {1.0}
    assert set((first[:, 0, 1:, 0] - first[:, 0, :-1, 0]).flatten().tolist()) == {12.0, 9.0}


def test_every_pixel_of_every_capture_is_used_by_area() -> None:
    pixels, scenes = flat((2, 10, 12), (2, 6, 10))
    first, second = everything(PatchStore(pixels, scenes, (0, 1), patch=4, patches=3000))
    assert set(torch.cat([first, second]).flatten().tolist()) == set(map(float, range(len(pixels))))
    # 120 px of scene against 60: two in three patches, but for the one index that lies on the border.
    assert ((first < 240).flatten(1).all(dim=1)).sum().item() == pytest.approx(2000, abs=1)


def test_all_scenes_have_their_turn_also_where_there_are_more_than_patches() -> None:
    pixels, scenes = flat(*[(2, 4, 4)] * 50)
    store = PatchStore(pixels, scenes, (0, 1), patch=4, patches=10)
    shown = [int(x) // 32 for seed in range(60) for x in everything(store, seed)[0][:, 0, 0, 0]]
    assert set(shown) == set(range(50))


def test_pages_of_a_file_are_held_out_together() -> None:
    _, scenes = flat(*[(1, 4, 4)] * 12)
    pages = [
        dataclasses.replace(scene, name=f"{i // 3}[{i % 3}]", file=f"{i // 3}.tif") for i, scene in enumerate(scenes)
    ]
    train, val, line = split_scenes(pages, 0.3, 0)
    assert (len(train), len(val), line) == (9, 3, "")
    assert len({scene.group for scene in val}) == 1
    one_file = [dataclasses.replace(scene, name=f"a[{i}]", file="a.tif") for i, scene in enumerate(scenes)]
    train, val, line = split_scenes(one_file, 0.25, 0)
    assert [scene.name for scene in val] == ["a[9]", "a[10]", "a[11]"]
    assert "all images are pages of one file: the last 3" in line


def test_scenes_with_clean_images_are_held_out_first() -> None:
    _, scenes = flat(*[(2, 4, 4)] * 10)
    known = [dataclasses.replace(scene, clean=0) if scene.name in ("4", "7") else scene for scene in scenes]
    assert {scene.name for scene in split_scenes(known, 0.2, 0)[1]} == {"4", "7"}


def test_flips_give_all_eight_orientations() -> None:
    pixels, scenes = flat((2, 4, 4))
    first, second = everything(PatchStore(pixels, scenes, (0, 1), patch=4, patches=300))
    shown = {tuple(map(int, (x % 16).flatten())) for x in first[:, 0]}
    base = np.arange(16).reshape(4, 4)
    assert shown == {tuple(np.rot90(y, k).ravel().tolist()) for y in (base, base.T) for k in range(4)}
    assert torch.equal(first % 16, second % 16)


def test_batches_depend_on_the_seed() -> None:
    pixels, scenes = flat((2, 40, 40))
    store = PatchStore(pixels, scenes, (0, 1), patch=4, patches=50)
    assert torch.equal(everything(store, 1)[0], everything(store, 1)[0])
    assert not torch.equal(everything(store, 1)[0], everything(store, 2)[0])


def test_pixels_on_a_device_give_the_same_patches() -> None:
    pixels, scenes = flat((3, 20, 30), (2, 16, 16))
    store = PatchStore(pixels, scenes, (0.0, 1.0), patch=8, patches=50)
    moved = store.to(torch.device("cpu"))
    for view, moved_view in zip(everything(store), everything(moved), strict=True):
        torch.testing.assert_close(moved_view, view, rtol=0, atol=0)
    assert store.nbytes == pixels.nbytes
    elsewhere = store.to(torch.device("meta"))
    assert elsewhere.resident
    assert not store.resident
    assert elsewhere.batch(torch.arange(5), 0).first.shape == (5, 2, 8, 8)


def test_series_pairs_neighbours_only() -> None:
    pixels, scenes = flat((5, 4, 4))
    first, second = everything(PatchStore(pixels, scenes, (0, 1), patch=4, patches=300, flips=False, window=1))
    assert set((second - first).flatten().tolist()) == {-16.0, 16.0}
    assert set((first[:, 0, 0, 0] // 16).tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}


def test_validation_is_of_whole_scenes_and_uses_no_capture_twice() -> None:
    pixels, scenes = flat((2, 10, 12), (5, 6, 7))
    store = SceneStore(pixels, scenes, (0, 1))
    assert (len(store), store.shape) == (3, (2, 10, 12))
    shown = [store.batch(torch.tensor([i]), 0) for i in range(3)]
    assert [tuple(batch.first.shape) for batch in shown] == [(1, 2, 10, 12), (1, 2, 6, 7), (1, 2, 6, 7)]
    starts = [int(view[0, 0, 0, 0]) for batch in shown for view in (batch.first, batch.second) if view is not None]
    assert starts == [0, 120, 240, 282, 324, 366]
    assert [batch.scene for batch in shown] == [0, 1, 1]
    # Every epoch draws the same noise.
    assert [store.batch(torch.tensor([i]), 99).seed for i in range(3)] == [0, 1, 2]
    assert SceneStore(pixels, scenes, (0, 1), scale=4).batch(torch.tensor([0]), 0).first.shape == (1, 2, 8, 12)


def test_centre_of_huge_scenes_is_validated() -> None:
    scene = Scene("huge", 1030, 1100, (0,), None, (0, 1030))
    pixels = np.arange(1030 * 1100, dtype=np.float32)[:, None]
    image = SceneStore(pixels, [scene], (0, 1)).batch(torch.tensor([0]), 0).first
    assert image.shape == (1, 1, 1024, 1024)
    assert image[0, 0, 0, 0] == 3 * 1100 + 38


def test_scenes_are_held_out_whole() -> None:
    _, scenes = flat(*[(2, 4, 4)] * 10)
    train, val, line = split_scenes(scenes, 0.3, seed=0)
    assert (len(train), len(val), line) == (7, 3, "")
    assert {scene.name for scene in train} | {scene.name for scene in val} == {str(i) for i in range(10)}
    assert split_scenes(scenes, 0.01, 0)[1]
    assert split_scenes(scenes, 0.3, 1)[1] != val
    assert split_scenes(scenes, 0, 0)[:2] == (scenes, [])
    assert split_scenes(scenes, 1, 0)[:2] == ([], scenes)
    assert len(split_scenes(scenes, 0.99, 0)[0]) == 1


def test_single_scene_is_split_by_rows() -> None:
    pixels, scenes = flat((2, 20, 8))
    train, val, line = split_scenes(scenes, 0.25, seed=0)
    assert "one scene only: its last 5 rows" in line
    first, second = everything(PatchStore(pixels, train, (0, 1), patch=4, patches=500))
    assert (torch.cat([first, second]) % 160).max() == 15 * 8 - 1
    held = SceneStore(pixels, val, (0, 1)).batch(torch.tensor([0]), 0).first
    assert held[0, 0].flatten().tolist() == list(map(float, range(120, 160)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_patches_cut_on_a_device_are_those_of_the_host(dtype: type[np.generic]) -> None:
    _, scenes = flat((2, 9, 9))
    pixels = np.random.default_rng(0).integers(0, 256, (2 * 81, 2)).astype(dtype)
    if np.issubdtype(dtype, np.unsignedinteger):
        pixels[::2] = np.iinfo(dtype).max - pixels[::2]  # type: ignore[type-var]
    store = PatchStore(pixels, scenes, (0, 1), patch=4, patches=20)
    moved = store.to(torch.device("cpu"))
    for here, there in zip(everything(store), everything(moved), strict=True):
        assert here.dtype == there.dtype
        assert here.numpy().tolist() == there.numpy().tolist()


def test_each_kind_of_noise_is_held_out_if_two_files_have_it() -> None:
    def scenes(correlated: int) -> list[Scene]:
        return [Scene(str(i), 9, 9, (0, 81), None, (0, 9), i < correlated) for i in range(12)]

    for seed in range(8):
        _, val, line = split_scenes(scenes(2), 0.1, seed)
        assert sorted(scene.correlated for scene in val) == [False, True]
        assert line == ""
        train, val, line = split_scenes(scenes(1), 0.1, seed)
        if scenes(1)[0] in train:
            assert line.startswith("warning: only 0 has noise that is correlated between neighbouring pixels, and no")
        else:
            assert line == ""
