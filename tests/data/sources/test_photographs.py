from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from n2n.data import DeadLeaves, PairSource, PairStore, Photographs, PixelSampling
from n2n.data.sources.dead_leaves import draw, texture_bank
from n2n.data.stores.photographs import Crops, CropVariation, PhotographStore
from n2n.errors import InputError
from n2n.metrics import PSNR, PSNRPerImage
from tests.conftest import write_photos
from tests.images import SHARED

PHOTOS = SHARED / "photos"
SMALL = {"crop": 64, "cell": 8, "crops_per_photo": 5, "val_crops_per_photo": 3}


def pairs(source: PairSource, clean: bool = False) -> PairStore:
    store = source.val_pairs() if clean else source.train_pairs()
    assert isinstance(store, PairStore)
    return store


def test_noisy_views_are_pixels_of_their_cells_and_clean_is_their_mean() -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    sampling = PixelSampling(32, 8)
    corners = sampling.corners(photo, 6, rng)
    noisy, clean = sampling.noisy(photo, corners, rng), sampling.clean(photo, corners)
    for n, (top, left) in enumerate(corners):
        for i in range(4):
            for j in range(4):
                cell = photo[top + 8 * i : top + 8 * i + 8, left + 8 * j : left + 8 * j + 8].reshape(-1, 3)
                assert (cell == noisy[n, :, i, j]).all(axis=1).any()
                assert np.abs(cell.mean(axis=0) - clean[n, :, i, j]).max() <= 0.5


def test_picks_are_uniform() -> None:
    photo = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    views = PixelSampling(8, 8).noisy(photo, np.zeros((64_000, 2), np.int64), np.random.default_rng(0))
    counts = np.bincount(views.ravel(), minlength=64)
    # 1000 expected of each; 6 standard deviations.
    assert np.abs(counts - 1000).max() < 6 * 1000**0.5


def test_crops_reach_every_edge() -> None:
    corners = PixelSampling(16, 8).corners(np.zeros((18, 17, 1), np.uint8), 500, np.random.default_rng(0))
    assert {tuple(corner) for corner in corners.tolist()} == {(y, x) for y in range(3) for x in range(2)}


def test_photographs_are_split_counted_and_cached(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 6)
    write_photos(folder / "small", 1, (30, 90))
    (folder / "broken.jpg").write_bytes(b"no image")
    source = Photographs(str(folder), val_root=str(write_photos(tmp_path / "val", 2)), **SMALL)  # type: ignore[arg-type]
    train, val = pairs(source), pairs(source, clean=True)
    assert (len(train), len(val), train.shape) == (30, 6, (3, 8, 8))
    assert "6 photographs used, 1 smaller than 64 px left out, 1 unreadable left out (broken.jpg)" in train.remarks[0]
    assert (train.has_clean, val.has_clean, val.has_pairs) == (False, True, True)
    again = Photographs(str(folder), **SMALL, seed=1)  # type: ignore[arg-type]
    assert not torch.equal(pairs(again).first[:5], train.first[:5])


@pytest.mark.parametrize("kind", [Photographs, DeadLeaves])
def test_clean_targets_are_those_of_the_same_pairs(kind: type, tmp_path: Path) -> None:
    folder = str(write_photos(tmp_path / "photos", 3))
    source = Photographs(folder, val_fraction=0, **SMALL) if kind is Photographs else DeadLeaves(30, 5, size=256)  # type: ignore[arg-type]
    noisy, clean = source.train_pairs(), source.clean_train_pairs()
    assert isinstance(noisy, PairStore)
    assert isinstance(clean, PairStore)
    assert clean.second is not None
    assert clean.clean is not None
    assert noisy.second is not None
    assert torch.equal(noisy.first, clean.first)
    assert torch.equal(noisy.second, clean.second)
    assert (noisy.has_clean, clean.has_clean) == (False, True)
    # Two views scatter around the clean image, so their mean is nearer to it than either: half the squared error.
    first, second, target = (x.float() for x in (clean.first, clean.second, clean.clean))
    one, both = ((x - target).square().mean() for x in (first, (first + second) / 2))
    assert float(both / one) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (
            DeadLeaves,
            [{}, {"pairs": 9}, {"crops_per_image": 9}, {"size": 300}, {"channels": 1}, {"crop": 128}, {"cell": 16}],
        ),
        (
            Photographs,
            [{}, {"crops_per_photo": 9}, {"max_pairs": 9}, {"channels": 1}, {"crop": 128}, {"cell": 16}, {"root": "b"}],
        ),
    ],
)
def test_pairs_are_made_again_for_other_arguments(kind: type, options: list[dict[str, Any]]) -> None:
    for folder in "ab":
        write_photos(Path(folder), 2)
    root = {"root": "a", "val_fraction": 0} if kind is Photographs else {}
    sources = [kind(**root | option) for option in [*options, {"seed": 1}]]
    recipes = [source._plan(False)[0] for source in sources] + [sources[0]._plan(True)[0]]
    assert len({json.dumps(recipe) for recipe in recipes}) == len(recipes)


def test_fresh_photographs_are_read_again_for_other_arguments() -> None:
    write_photos(Path("a"), 2)
    for count, options in enumerate(({}, {"zoom": 2}, {"channels": 1}), 1):
        Photographs("a", val_fraction=0, fresh=True, **SMALL, **options).train_pairs()  # type: ignore[arg-type]
        assert len(list(Path("cache").iterdir())) == count


def test_held_out_photographs_are_not_trained_on(tmp_path: Path) -> None:
    source = Photographs(str(write_photos(tmp_path / "photos", 10)), val_fraction=0.3, **SMALL)  # type: ignore[arg-type]
    train, val = source._split()
    assert (len(train), len(val)) == (7, 3)
    assert not set(train) & set(val)
    other = Photographs(str(tmp_path / "photos"), val_fraction=0.3, seed=1, **SMALL)  # type: ignore[arg-type]
    assert other._split()[1] != val
    other.val_fraction = 0.01
    assert len(other._split()[1]) == 1


def test_a_photograph_in_both_parts_is_named(tmp_path: Path) -> None:
    folder, other = write_photos(tmp_path / "photos", 3), write_photos(tmp_path / "val", 1, (72, 90))
    copied = sorted(folder.iterdir())[1]
    (other / "copy.png").write_bytes(copied.read_bytes())
    for fresh in (False, True):
        source = Photographs(str(folder), val_root=str(other), fresh=fresh, **SMALL)  # type: ignore[arg-type]
        source.train_pairs()
        line = f"1 held-out photographs are also trained on, so validation gives too good figures: copy.png is {copied.name}"
        assert line in "\n".join(source.val_pairs().remarks)
    (other / "copy.png").unlink()
    source = Photographs(str(folder), val_root=str(other), **SMALL)  # type: ignore[arg-type]
    source.train_pairs()
    assert "trained on" not in "\n".join(source.val_pairs().remarks)


def test_grey_photographs_become_three_channels_or_stay_one(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80), dtype=np.uint8)).save("grey.png")
    for channels in (1, 3):
        train = pairs(Photographs(".", val_fraction=0, channels=channels, **SMALL))  # type: ignore[arg-type]
        assert train.shape[0] == channels
        assert torch.equal(train.first[:, 0], train.first[:, -1])


def test_each_photograph_has_crops_of_its_own(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 1)
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    first = pairs(Photographs(str(folder), val_fraction=0, **SMALL)).first  # type: ignore[arg-type]
    assert not torch.equal(first[:5], first[5:])


def test_bound_on_pairs_is_spread_over_all_photographs(tmp_path: Path) -> None:
    source = Photographs(str(write_photos(tmp_path, 4)), val_fraction=0, max_pairs=10, **SMALL)  # type: ignore[arg-type]
    views = pairs(source).first.numpy()
    assert len(np.unique(views, axis=0)) == len(views) == 10


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 2, (20, 20))
    with pytest.raises(InputError, match="no photograph to train on"):
        Photographs("photos", val_fraction=0).train_pairs()
    assert not any((tmp_path / "cache").iterdir())


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs are not here")
def test_noise_of_real_photographs_is_the_courses() -> None:
    source = Photographs("x", val_root=[str(PHOTOS / "train_a"), str(PHOTOS / "val")], val_crops_per_photo=2)
    source._split = lambda: ([], sorted([*(PHOTOS / "train_a").iterdir(), *(PHOTOS / "val").iterdir()]))  # type: ignore[method-assign]
    store = pairs(source, clean=True)
    assert store.clean is not None
    noisy, clean = store.first.float() / 255, store.clean.float() / 255
    single, whole = PSNRPerImage(), PSNR()
    single.update(noisy, clean)
    whole.update(noisy, clean)
    # 20.73 and 19.58 dB on 900 other photographs; an image's PSNR varies by 3.6 dB, so the mean of these some 400 by 0.18,
    # and three times that is allowed.
    assert single.compute().item() == pytest.approx(20.73, abs=0.55)
    assert whole.compute().item() == pytest.approx(19.58, abs=0.55)
    assert abs((noisy - clean).mean().item()) < 1e-3


def test_dead_leaves_depend_on_the_seed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("n2n.data.sources.dead_leaves.texture_bank", partial(texture_bank, count=2, size=64))
    options = {"pairs": 12, "val_pairs": 4, "crops_per_image": 4, "size": 64, "crop": 64}
    stores = [pairs(DeadLeaves(**options, cache_dir=str(tmp_path / name))) for name in "ab"]  # type: ignore[arg-type]
    second = stores[0].second
    assert second is not None
    assert torch.equal(stores[0].first, stores[1].first)
    assert not torch.equal(stores[0].first, second)
    other = pairs(DeadLeaves(**options, seed=1))  # type: ignore[arg-type]
    assert not torch.equal(stores[0].first, other.first)
    # Held-out images are others: whole crops of images show them as they are.
    clean = DeadLeaves(**options).clean_train_pairs().clean[:4]  # type: ignore[arg-type, attr-defined]
    assert not torch.equal(clean, pairs(DeadLeaves(**options), clean=True).clean)  # type: ignore[arg-type]
    grey = DeadLeaves(**options, channels=1).val_pairs()  # type: ignore[arg-type]
    assert (len(grey), grey.shape) == (4, (1, 8, 8))


def test_dead_leaves_look_like_photographs() -> None:
    textures = texture_bank(0)
    assert np.abs(textures.std(axis=(1, 2)) - 1).max() < 1e-3
    images = np.stack([draw(256, np.random.default_rng(i), textures) for i in range(12)]).astype(np.float32) / 255
    assert 0.3 < images.mean() < 0.7
    # Edges make differences of neighbours much heavier-tailed than a Gaussian's, whose kurtosis is 3.
    steps = np.diff(images.mean(axis=3), axis=2)
    assert (steps**4).mean() / (steps**2).mean() ** 2 > 10


def test_fresh_pairs_are_other_crops_and_picks_each_time(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 3, (70, 90))
    write_photos(folder / "others", 3, (96, 64))
    (folder / "broken.jpg").write_bytes(b"no image")
    source = Photographs(str(folder), val_fraction=0, fresh=True, max_pairs=12, **SMALL)  # type: ignore[arg-type]
    store = source.train_pairs()
    assert (len(store), store.shape) == (12, (3, 8, 8))
    assert "6 photographs used, 1 unreadable left out (broken.jpg), 12 pairs an epoch" in store.remarks[0]
    indices = torch.arange(12)
    first, second, clean, *_ = store.batch(indices, seed=1)
    assert second is not None
    assert clean is None
    assert first.dtype == torch.uint8
    assert not torch.equal(first, second)
    again, later = store.batch(indices, seed=1), store.batch(indices, seed=2)
    assert torch.equal(again.first, first)
    assert not torch.equal(later.first, first)
    # Index 0 is the first photograph's, and each pixel is one of the cell that a crop of it has there.
    photo = np.asarray(Image.open(sorted(folder.glob("*.*g"))[0]))
    image = first[0].permute(1, 2, 0).numpy()
    fits = [
        all(
            (photo[y + 8 * i : y + 8 * i + 8, x + 8 * j : x + 8 * j + 8] == image[i, j]).all(-1).any()
            for i in range(8)
            for j in range(8)
        )
        for y in range(photo.shape[0] - 63)
        for x in range(photo.shape[1] - 63)
    ]
    assert any(fits)
    with pytest.raises(InputError, match="set the source's fresh to false"):
        source.clean_train_pairs()


def test_zoomed_and_turned_crops_are_square_grids_of_cells_inside_the_photograph() -> None:
    # The pixels of this photograph say where they are.
    photo = np.stack(np.meshgrid(np.arange(150), np.arange(250), indexing="ij"), axis=-1).astype(np.uint8)
    variation = CropVariation(zoom=2, turn=180)
    store = PhotographStore(photo.reshape(-1, 2), [photo.shape[:2]], PixelSampling(64, 8), 400, variation=variation)
    # The mean of many views shows the middles of the cells.
    rng = np.random.default_rng(0)
    crops = variation.draw(np.full((400, 2), photo.shape[:2]), store.sampling, rng)
    ends = crops.origins[..., None] + crops.size * crops.axes @ np.array([[0, 1, 0, 1], [0, 0, 1, 1]])
    assert ends.min() > -1e-9
    assert (ends.max(axis=(0, 2)) < np.array(photo.shape[:2]) + 1e-9).all()
    picked = photo.reshape(-1, 2)[np.stack([crops.picks(rng) for _ in range(300)])] + 0.5
    middles = picked.mean(axis=0)
    down, right = np.diff(middles, axis=1).mean(axis=(1, 2)), np.diff(middles, axis=2).mean(axis=(1, 2))
    sides, angles = np.hypot(*down.T), np.degrees(np.arctan2(right[:, 0], right[:, 1]))
    assert np.hypot(*right.T) == pytest.approx(sides, abs=0.2)
    assert (down * right).sum(axis=1) / sides**2 == pytest.approx(0, abs=0.05)
    assert 4 < sides.min() < 4.3
    assert sides.max() < 16.2
    assert np.histogram(angles, bins=8, range=(-180, 180))[0].min() > 25
    # A turned square of 64 px has to shrink where its box would be larger than the photograph.
    assert np.abs(picked - middles).max() < sides.max()
    first, second, *_ = store.batch(torch.arange(400), seed=0)
    assert second is not None
    apart = (first.float() - second.float()).flatten(1).abs().amax(dim=1)
    assert apart.max() <= 1.5 * 16
    # They reach each edge.
    assert first.amin(dim=(0, 2, 3)).max() < 5
    assert (first.amax(dim=(0, 2, 3)) > torch.tensor([144, 244])).all()


def test_picks_of_turned_cells_are_uniform() -> None:
    rng = np.random.default_rng(0)
    count = 4000
    turned = Crops(
        np.full((count, 2), 20), np.full((count, 2), (2.0, 9.0)), np.full((count, 2, 2), ((6, 4), (-4, 6))), 1
    )
    counts = np.bincount(np.concatenate([turned.picks(rng).ravel() for _ in range(8)]), minlength=400)
    # The cell's area is 52 px. Pixels wholly within it are each as likely.
    assert (counts > 0).sum() < 52 + 4 * 8
    whole = np.sort(counts)[-30:]
    assert np.abs(whole - 8 * count / 52).max() < 6 * (8 * count / 52) ** 0.5


def test_small_photographs_are_used_where_zoom_lets_them(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 2, (70, 90))
    write_photos(folder / "small", 3, (40, 90))
    write_photos(folder / "tiny", 1, (30, 90))
    source = Photographs(str(folder), val_fraction=0, fresh=True, zoom=1.6, **SMALL)  # type: ignore[arg-type]
    assert "5 photographs used, 1 smaller than 40 px left out" in source.train_pairs().remarks[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"zoom": 1.5}, "zoom is 1.5 and turn is 0.0: only fresh pairs"),
        ({"turn": 10.0}, "set fresh to true"),
        ({"zoom": 0.5, "fresh": True}, "zoom is 0.5: expected a factor from 1 to 8"),
        ({"turn": -5.0, "fresh": True}, "turn is -5.0: expected an angle from 0 to 180"),
        ({"zoom": float("nan"), "fresh": True}, "zoom is nan"),
    ],
)
def test_variations_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Photographs("photos", **options)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs are not here")
def test_noise_of_fresh_pairs_is_that_of_the_kept_ones(tmp_path: Path) -> None:
    noise = []
    for fresh in (False, True):
        source = Photographs(
            str(PHOTOS / "val"), val_fraction=0, crops_per_photo=40, fresh=fresh, cache_dir=str(tmp_path)
        )
        store = source.train_pairs()
        first, second, *_ = store.batch(torch.arange(len(store)), seed=0)
        assert second is not None
        noise.append(float(PSNR()(first.float() / 255, second.float() / 255)))
    assert noise[0] == pytest.approx(noise[1], abs=0.1)


def test_one_photograph_is_trained_on_and_another_asked_for(tmp_path: Path) -> None:
    source = Photographs(str(write_photos(tmp_path / "photos", 1)), **SMALL)  # type: ignore[arg-type]
    assert len(pairs(source).first)
    with pytest.raises(InputError, match="no photograph is held out to validate on"):
        source.val_pairs()
