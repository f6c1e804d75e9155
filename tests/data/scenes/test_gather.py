"""What becomes of the user's files on their way into the flat array."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from n2n.data import CleanImages, Folders, SingleImages, Stack, images
from n2n.data.corruption import Gaussian
from n2n.data.images import ImageReader
from n2n.data.images.formats.arrays import NpyReader
from n2n.data.scenes import frames as frames_module
from n2n.data.scenes.frames import Frame, SceneFiles
from n2n.data.scenes.gather import default_range, gather
from n2n.data.scenes.inspection import compare
from n2n.data.scenes.opening import Opener
from n2n.data.scenes.pages import convert
from n2n.errors import InputError

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _alike_in_any_order() -> None:
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


SMALL: dict[str, Any] = {"patch": 8, "patches": 40, "val_fraction": 0}


def noisy(*shape: int, dtype: str = "uint8", top: int = 256) -> NDArray[Any]:
    return RNG.integers(0, top, shape).astype(dtype)


def save(path: str, image: NDArray[Any]) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, image)
    return file


def scene(*captures: Path, clean: Path | None = None, name: str = "x") -> SceneFiles:
    return SceneFiles(name, tuple(Frame(path) for path in captures), Frame(clean) if clean else None)


class Gathered:
    """What :func:`gather` gives, with the array that it filled."""

    def __init__(
        self,
        *scenes: SceneFiles,
        channels: int | None = None,
        window: int | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        self.note = gather(scenes, channels, window, Opener(), self._allocate, value_range)
        self.lines = "\n".join(self.note["remarks"])
        # These images are too small for a word on noise that both captures share.
        self.warnings = [line for line in self.note["remarks"] if line.startswith("warning")]

    def _allocate(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        self.pixels = np.zeros(shape, dtype)
        return self.pixels

    def image(self, start: int, index: int = 0) -> NDArray[Any]:
        _, height, width, *_ = self.note["scenes"][index]
        return self.pixels[start : start + height * width].reshape(height, width, -1)


class Counted:
    """Counts the files that are open, and how often one was opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.most = self.opened = 0
        real = images.open_image

        def open_image(path: Path, axes: str | None) -> ImageReader:
            reader = real(path, axes)
            close, self.now, self.opened = reader.close, self.now + 1, self.opened + 1
            self.most = max(self.most, self.now)

            def closed() -> None:
                self.now -= 1
                close()

            monkeypatch.setattr(reader, "close", closed)
            return reader

        monkeypatch.setattr("n2n.data.scenes.opening.open_image", open_image)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.now == 0


def test_one_file_is_open_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [save(f"x_{i}.npy", noisy(9, 8)) for i in range(7)]
    with Counted(monkeypatch) as counted:
        Gathered(scene(*files[:4]), scene(*files[4:], name="y"))
    assert (counted.most, counted.opened) == (1, 14)


def test_a_stack_is_opened_once_for_all_its_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    file = save("stack.npy", noisy(30, 9, 8))
    pages = [SceneFiles(str(page), (Frame(file, page),)) for page in range(30)]
    with Counted(monkeypatch) as counted:
        assert len(Gathered(*pages, window=0).note["scenes"]) == 30
    # To look at it, and to copy it.
    assert counted.opened == 2


def test_the_file_is_closed_when_copying_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [save(f"x_{i}.npy", noisy(9, 8)) for i in range(2)]

    def interrupt(*_: object) -> NDArray[Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr("n2n.data.scenes.pages.convert", interrupt)
    with Counted(monkeypatch), pytest.raises(KeyboardInterrupt):
        Gathered(scene(*files))


def test_repeats_are_found_wherever_they_are_and_named() -> None:
    a, b = noisy(300, 8), noisy(300, 8)
    # One pixel near the top is enough to differ.
    c = a.copy()
    c[0, 0] += 1
    files = [save(f"{i}.npy", image) for i, image in enumerate((a, b, a, b, a, c))]
    found = Gathered(scene(*files))
    assert "are left out: 2.npy is 0.npy, 3.npy is 1.npy, 4.npy is 0.npy" in found.lines
    ((_, _, _, starts, _),) = found.note["scenes"]
    assert [
        np.array_equal(found.image(start)[..., 0], kept) for start, kept in zip(starts, (a, b, c), strict=True)
    ] == [True, True, True]


def test_repeated_pages_and_files_of_one_name_are_told_apart() -> None:
    a, b = noisy(9, 8), noisy(9, 8)
    stack = save("stack.npy", np.stack([a, b, b]))
    found = Gathered(SceneFiles("x", tuple(Frame(stack, page) for page in range(3))))
    assert "stack.npy[2] is stack.npy[1]" in found.lines
    files = [save(f"{folder}/deep/z.npy", image) for folder, image in zip("abc", (a, b, a), strict=True)]
    assert "c/deep/z.npy is a/deep/z.npy" in Gathered(scene(*files)).lines


def test_single_images_may_repeat() -> None:
    a = noisy(9, 8)
    found = Gathered(scene(save("a.npy", a)), scene(save("b.npy", a), name="y"), window=0)
    assert (len(found.note["scenes"]), found.lines) == (2, "")


def bleaching(step: float, pages: int = 100) -> list[SceneFiles]:
    images = RNG.normal(1000, 10, (pages, 64, 64)) - np.arange(pages)[:, None, None] * step * 10
    file = save("bleaching.npy", images.astype(np.float32))
    return [SceneFiles("x", tuple(Frame(file, page) for page in range(pages)))]


def drift(found: Gathered) -> float:
    match = re.search(r"brightness drifts between captures, by (\S+) times", found.lines)
    assert match
    return float(match[1])


def test_slow_drift_counts_where_distant_captures_are_paired() -> None:
    scenes = bleaching(0.04)
    assert drift(Gathered(*scenes)) == pytest.approx(-99 * 0.04, abs=0.2)
    assert Gathered(*scenes, window=1).warnings == []
    assert drift(Gathered(*bleaching(0.3), window=1)) == pytest.approx(-0.3, abs=0.1)


def test_drift_late_in_a_series_is_seen() -> None:
    images = RNG.normal(1000, 10, (9, 64, 64))
    images[-1] += 20
    file = save("series.npy", images.astype(np.float32))
    late = SceneFiles("x", tuple(Frame(file, page) for page in range(9)))
    assert drift(Gathered(late, window=1)) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize(("channels", "fits"), [(3, True), (4, False)])
def test_a_clean_image_must_have_channels_that_can_be_made_alike(channels: int, fits: bool) -> None:
    captures = [save(f"{i}.npy", noisy(9, 8, channels)) for i in range(2)]
    clean = save("clean.npy", noisy(9, 8))
    found = Gathered(scene(*captures, clean=clean))
    assert (found.note["scenes"][0][4] is not None) == fits
    assert ("the clean image of x (9×8×1 uint8, its captures are 9×8×4 uint8)" in found.lines) != fits


def test_a_clean_image_of_floats_is_rounded_into_the_dtype_of_its_captures() -> None:
    captures = [save(f"{i}.npy", noisy(9, 8)) for i in range(2)]
    mean = RNG.uniform(0, 255, (9, 8)).astype(np.float32)
    found = Gathered(scene(*captures, clean=save("clean.npy", mean)))
    start = found.note["scenes"][0][4]
    assert found.warnings == []
    assert np.array_equal(found.image(start)[..., 0], np.rint(mean))


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0, 300, "its captures are uint8, which does not hold them"),
        (-9, 200, "its captures are uint8, which does not hold them"),
        (0, 1, "nothing of it is left"),
    ],
)
def test_a_clean_image_out_of_range_is_left_out_with_a_line(low: float, high: float, message: str) -> None:
    captures = [save(f"{i}.npy", noisy(9, 8)) for i in range(2)]
    clean = save("clean.npy", np.linspace(low, high, 72, dtype=np.float32).reshape(9, 8))
    found = Gathered(scene(*captures, clean=clean))
    assert found.note["scenes"][0][4] is None
    assert "left out 1 unusable image: clean.npy holds values of" in found.lines
    assert message in found.lines


def test_more_clean_images_than_captures_do_not_outvote_them() -> None:
    clean = [save(f"clean{i}.npy", noisy(9, 8, dtype="float32")) for i in range(2)]
    files = [scene(save("a.npy", noisy(9, 8)), clean=clean[0]), scene(Path("none.npy"), clean=clean[1], name="y")]
    assert [name for name, *_ in Gathered(*files, window=0).note["scenes"]] == ["x"]
    with pytest.raises(InputError, match=r"no file can be read \(1 file\)"):
        Gathered(files[1], window=0)


def test_a_file_that_changes_meanwhile_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [save(f"{i}.npy", noisy(9, 8)) for i in range(4)]
    stack = save("stack.npy", noisy(5, 9, 8))
    scenes = [scene(*files), SceneFiles("y", tuple(Frame(stack, page) for page in range(5)))]
    survey = frames_module.survey

    def surveyed(*given: Any) -> Any:
        result = survey(*given)
        save("1.npy", noisy(9, 8, dtype="uint16"))
        save("stack.npy", noisy(3, 9, 8))
        Path("2.npy").unlink()
        return result

    monkeypatch.setattr("n2n.data.scenes.gather.survey", surveyed)
    found = Gathered(*scenes)
    assert "left out 4 unusable images" in found.lines
    for text in ("1.npy changed while it was read", "2.npy", "stack.npy changed while it was read"):
        assert text in found.lines
    assert [len(starts) for _, _, _, starts, _ in found.note["scenes"]] == [2, 3]


def test_what_the_system_refuses_to_open_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [save(f"{i}.npy", noisy(9, 8)) for i in range(3)]
    real = NpyReader.__init__

    def refused(reader: NpyReader, path: Path, axes: str | None = None) -> None:
        if path.name == "1.npy":
            raise PermissionError(13, "Permission denied", str(path))
        real(reader, path)

    monkeypatch.setattr(NpyReader, "__init__", refused)
    line = "left out 1 file that cannot be read: 1.npy cannot be read (Permission denied)"
    assert line in Gathered(scene(*files)).lines


def test_values_without_data_are_kept_as_nan_and_counted() -> None:
    images = [RNG.normal(size=(600, 8)).astype(np.float32) for _ in range(3)]
    images[0][550, 3], images[1][2] = np.nan, np.inf
    found = Gathered(scene(*(save(f"{i}.npy", image) for i, image in enumerate(images))))
    assert "9 values are NaN, infinite or no data: the network is not trained on them" in found.lines
    assert found.note["gaps"]
    for start, image in zip(found.note["scenes"][0][3], images, strict=True):
        assert np.array_equal(found.image(start)[..., 0], np.where(np.isfinite(image), image, np.nan), equal_nan=True)
    assert found.note["range"] == [
        min(i[np.isfinite(i)].min() for i in images),
        max(i[np.isfinite(i)].max() for i in images),
    ]


def test_the_value_without_data_of_integers_is_kept_as_nan() -> None:
    files, images = [], RNG.integers(1, 4000, (2, 40, 30)).astype(np.uint16)
    for i, image in enumerate(images):
        image[:, :7] = 0
        tag = (42113, "s", 0, "0", True)
        tifffile.imwrite(f"{i}.tif", image, extratags=[tag] if i == 0 else [], metadata=None)
        files.append(Path(f"{i}.tif"))
    found = Gathered(scene(*files))
    assert (found.note["dtype"], found.note["range"], found.pixels.dtype) == ("uint16", [0, 4095], np.float32)
    first, second = (found.image(start)[..., 0] for start in found.note["scenes"][0][3])
    # The second file does not say that 0 is no data.
    assert np.array_equal(first, np.where(images[0] == 0, np.nan, images[0]), equal_nan=True)
    assert np.array_equal(second, images[1])
    # Noise is measured where both have data: uniform from 0 to 4000.
    assert len(found.warnings) == 0


def test_gaps_do_not_change_the_inspection() -> None:
    clean = np.linspace(0, 500, 200)[None, :] + np.zeros((300, 1))
    noises = [RNG.normal(0, 10, clean.shape) for _ in range(2)]
    # Correlated by a half along the rows.
    images = [(clean + (n + np.roll(n, 1, axis=1)) / 2**0.5).astype(np.float32) for n in noises]
    whole = compare(*(image[..., None] for image in images))
    images[0][:150, 20:], images[1][:, 150:] = np.nan, np.nan
    part = compare(*(image[..., None] for image in images))
    assert part.pixels == 150 * 20 + 150 * 150
    assert part.sigma == pytest.approx(whole.sigma, rel=0.03)
    assert abs(part.drift) < 0.05
    assert part.space == pytest.approx(whole.space, abs=0.02)
    assert whole.space == pytest.approx(0.25, abs=0.02)
    assert not compare(np.full((9, 9, 1), np.nan), images[1][:9, :9, None]).identical


def test_scenes_say_whether_their_noise_is_correlated() -> None:
    noises = [RNG.normal(0, 10, (2, 64, 64)) for _ in range(2)]
    for axis in (1, 2):
        noises[1] = (noises[1] + np.roll(noises[1], 1, axis)) / 2**0.5
    files = [
        [save(f"{i}{j}.npy", (100 + n).astype(np.float32)) for j, n in enumerate(two)] for i, two in enumerate(noises)
    ]
    # By a half in each direction.
    assert Gathered(scene(*files[0]), scene(*files[1], name="y")).note["correlated"] == [False, True]
    assert Gathered(scene(files[0][0]), window=0).note["correlated"] == []


def stars(rng: np.random.Generator, side: int = 128, width: float = 2, peak: float = 60000) -> NDArray[np.float64]:
    """A dim sky with a few stars, of a width in pixels at half their height."""
    y, x = np.mgrid[:side, :side]
    sky = np.full((side, side), 500.0)
    for i in range(3):
        cy, cx = rng.uniform(10, side - 10, 2)
        sky += peak * (1 + i) / 3 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) * 4 * np.log(2) / width**2)
    return sky


@pytest.mark.parametrize("dtype", ["uint16", "float32", "int16"])
@pytest.mark.parametrize(
    "where", [(40, 50), (0, 0), (127, 3), (slice(None), 9), (60, slice(20, 24)), (-1, -1)], ids=str
)
def test_outliers_neither_stretch_the_range_nor_stay_unmentioned(dtype: str, where: Any) -> None:
    top = 32767 if dtype == "int16" else 65535
    images = [(RNG.normal(1500, 300, (257, 128))).astype(dtype) for _ in range(2)]
    plain = Gathered(scene(*(save(f"plain{i}.npy", image) for i, image in enumerate(images))))
    hot = images[1].copy()
    hot[where] = top
    found = Gathered(scene(save("cold.npy", images[0]), save("hot.npy", hot)))
    # A stuck column of 257 pixels in 65,792 is more than 1 in 1000. The last row is read alone.
    if hot[where].size > 0.001 * 2 * hot.size:
        assert found.note["range"][1] >= top
        return
    limit = found.note["range"][1]
    assert limit <= plain.note["range"][1]
    number = hot[where].size
    assert f"{number:,} value" in found.lines
    assert f"in hot.npy ({number}): from {top} to {top}" in found.lines
    assert "value_range" in found.lines
    start = found.note["scenes"][0][3][1]
    assert (found.image(start)[..., 0][where] == limit).all()
    rest = np.ones(hot.shape, bool)
    rest[where] = False
    assert np.array_equal(found.image(start)[..., 0][rest], hot[rest])
    # Each capture counts, also one without outliers.
    for bright in (0, 1):
        images[bright][2, 2] = 3000 + 500 * bright
        others = np.concatenate([images[0].ravel(), images[1][rest]])
        hot[rest] = images[1][rest]
        found = Gathered(scene(save("cold.npy", images[0]), save("hot.npy", hot)))
        assert found.note["range"] == list(default_range(hot.dtype, float(others.min()), float(others.max())))
    # The noise is measured without the outliers.
    assert found.warnings[1:] == plain.warnings


def test_dead_pixels_are_outliers_too() -> None:
    images = [RNG.normal(1000, 30, (64, 64)).astype(np.float32) for _ in range(2)]
    images[0][5, 6] = -1e6
    found = Gathered(scene(*(save(f"{i}.npy", image) for i, image in enumerate(images))))
    assert found.note["range"][0] == 0
    assert "1 value is an outlier" in found.lines


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("width", [2, 2.4, 4])
def test_stars_are_content(width: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sky = stars(rng, width=width)
    images = [rng.poisson(sky).clip(0, 65535).astype(np.uint16) for _ in range(2)]
    found = Gathered(scene(*(save(f"{i}.npy", image) for i, image in enumerate(images))))
    assert "outlier" not in found.lines
    for start, image in zip(found.note["scenes"][0][3], images, strict=True):
        assert np.array_equal(found.image(start)[..., 0], image)


@pytest.mark.parametrize("kind", ["photons", "impulses", "heavy noise", "flat", "lines"])
def test_noise_is_no_outlier(kind: str) -> None:
    shape = (2, 200, 200)
    kinds: dict[str, NDArray[Any]] = {
        "photons": RNG.poisson(0.05, shape).astype(np.uint16),
        "impulses": np.where(RNG.random(shape) < 0.02, 60000, RNG.integers(900, 1000, shape)).astype(np.uint16),
        "heavy noise": RNG.normal(0, 1, shape).astype(np.float32),
        "flat": np.full(shape, 300, np.uint16) + (np.arange(2)[:, None, None] > 0).astype(np.uint16),
        "lines": np.where(np.arange(200) % 40 == 0, 30000, RNG.integers(90, 100, shape)).astype(np.uint16),
    }
    images = kinds[kind]
    found = Gathered(scene(*(save(f"{i}.npy", image) for i, image in enumerate(images))))
    assert "outlier" not in found.lines
    assert np.array_equal(found.pixels.reshape(shape), images)


def test_a_range_that_is_given_keeps_what_is_in_it() -> None:
    images = [RNG.normal(1500, 300, (64, 64)).astype(np.float32) for _ in range(2)]
    images[1][3, 4], images[1][9, 9] = 1e6, 20000
    files = [save(f"{i}.npy", image) for i, image in enumerate(images)]
    for high, kept in ((4000, [4000, 4000]), (65535, [65535, 20000]), (1e6, [1e6, 20000])):
        found = Gathered(scene(*files), value_range=(0, high))
        start = found.note["scenes"][0][3][1]
        assert found.note["range"] == [0, high]
        assert found.image(start)[[3, 9], [4, 9], 0].tolist() == kept
        assert ("They are limited to 0 to" in found.lines) == (high < 1e6)


@pytest.mark.parametrize(("bits", "high"), [(12, 4095), (10, 1023), (4, 15)])
def test_bits_that_files_state_are_the_range(bits: int, high: int) -> None:
    dtype = "uint8" if bits < 8 else "uint16"
    images = RNG.integers(0, high // 3, (2, 40, 30)).astype(dtype)
    for i, image in enumerate(images):
        tifffile.imwrite(f"{i}.tif", image, bitspersample=bits)
    found = Gathered(scene(Path("0.tif"), Path("1.tif")))
    assert found.note["range"] == [0, high]
    # The largest of several; none if a file does not say.
    tifffile.imwrite("1.tif", images[1], bitspersample=bits - 1)
    assert Gathered(scene(Path("0.tif"), Path("1.tif"))).note["range"] == [0, high]
    tifffile.imwrite("1.tif", images[1])
    found = Gathered(scene(Path("0.tif"), Path("1.tif")))
    assert found.note["range"] == [0, 255 if bits < 8 else max(255, (1 << int(images.max()).bit_length()) - 1)]


def test_links_to_nothing_are_named() -> None:
    for folder in "ab":
        for name in "xyz":
            save(f"{folder}/{name}.npy", noisy(20, 24))
    for name, target in (("y", "nowhere"), ("z", "z.npy")):
        Path(f"b/{name}.npy").unlink()
        Path(f"b/{name}.npy").symlink_to(target)
    source = Folders(["a", "b"], **SMALL)
    lines = "\n".join(source.train_pairs().remarks)
    assert "left out 2 files that cannot be read: b/y.npy" in lines
    assert "b/z.npy" in lines


def test_a_zarr_array_that_is_changed_in_place_is_read_again() -> None:
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(
        "x.zarr", shape=(3, 20, 24), chunks=(1, 20, 24), dtype="uint8", compressors=None, overwrite=True
    )
    array[:] = noisy(3, 20, 24)
    first = Stack("x.zarr", **SMALL).train_pairs().pixels.copy()  # type: ignore[attr-defined]
    changed = noisy(20, 24)
    array[1] = changed
    again = Stack("x.zarr", **SMALL).train_pairs().pixels  # type: ignore[attr-defined]
    assert np.array_equal(again[480:960, 0], changed.reshape(-1))
    assert np.array_equal(again[:480], first[:480])


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("uint8", (3, 3), (0, 255)),
        ("uint16", (0, 0), (0, 255)),
        ("uint16", (7, 3000), (0, 4095)),
        ("uint16", (0, 4096), (0, 8191)),
        ("float32", (0, 0.5), (0, 1)),
        ("float32", (0, 0.01), (0, 0.01)),
        ("float32", (0.001, 0.2), (0, 0.2)),
        ("float32", (5, 9), (0, 9)),
        ("int16", (-5, 900), (-5, 900)),
        ("int8", (0, 1), (0, 1)),
        ("int8", (-1, 1), (-1, 1)),
    ],
)
def test_range_is_found(dtype: str, values: tuple[float, float], expected: tuple[float, float]) -> None:
    assert default_range(np.dtype(dtype), *values) == expected


def test_a_range_that_the_values_cannot_reach_is_said() -> None:
    names = [save(f"{name}.npy", RNG.integers(0, 255, (20, 24)).astype(np.uint8)) for name in "ab"]
    said = "warning: value_range goes to 4095, which uint8 cannot reach (at most 255)"
    assert said in Gathered(scene(*names), value_range=(0, 4095)).lines
    assert "value_range" not in Gathered(scene(*names), value_range=(0, 255)).lines


@pytest.mark.parametrize(("dtype", "value"), [("float32", 0), ("int16", -5), ("float32", 0.5)])
def test_nothing_can_be_learned_of_one_value(dtype: str, value: float) -> None:
    save("x.npy", np.full((20, 24), value, dtype))
    with pytest.raises(InputError, match=f"all pixels are {value:g}: nothing to learn"):
        CleanImages("x.npy", Gaussian(1), **SMALL).train_pairs()


@pytest.mark.parametrize("dtype", ["int16", "int8", "uint8"])
def test_luma_is_rounded(dtype: str) -> None:
    colour = np.full((1, 1, 3), 99, dtype)
    colour[..., 0] = 101
    # 99.6
    assert convert(colour, 1).item() == 100


def test_pages_of_a_tiff_file_are_single_images() -> None:
    pages = noisy(12, 20, 24, dtype="uint16")
    tifffile.imwrite("x.tif", pages)
    store = SingleImages("x.tif", **SMALL).train_pairs()
    assert np.array_equal(store.pixels.reshape(pages.shape), pages)  # type: ignore[attr-defined]
