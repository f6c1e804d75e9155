from __future__ import annotations

import subprocess
import sys
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from n2n.cli import main
from n2n.data.images import ImageReader, find_format, find_images, is_image, open_image, split_part, written_name
from n2n.data.images.formats import table
from n2n.data.images.formats.table import FORMATS, find_suffix
from n2n.data.scenes.frames import Frame
from n2n.data.sources.folders import images_in
from n2n.data.sources.scene_source import _identity
from n2n.trainer.predict import _DESCRIPTION
from tests.data.images.formats.helpers import copy, look, predict, refusal
from tests.write_checkpoints import same, write_checkpoint

# What a package is imported as.
MODULES = {"OpenEXR": "OpenEXR", "pylibCZIrw": "pylibCZIrw"}
OF_PACKAGES = [line for line in FORMATS if line.package]


class Inverted(ImageReader):
    """A reader of one's own: rows of text."""

    def _open(self) -> None:
        self.pixels = np.loadtxt(self.path, np.uint8, ndmin=2)
        layout = self._name_axes(self.pixels.shape)
        self.pages, self.height, self.width, self.channels = layout.sizes
        self.dtype = self.pixels.dtype

    def _decode(self, page: int, start: int, stop: int) -> Any:
        return self.pixels[start:stop, :, None]


@pytest.fixture
def own_readers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two entry points, as an installed package has them."""
    value = f"{__name__}:Inverted"
    points = [EntryPoint(".txt", value, "n2n.readers"), EntryPoint("png", "nowhere:Nothing", "n2n.readers")]
    monkeypatch.setattr(table, "entry_points", lambda group: points if group == "n2n.readers" else [])
    table.plugins.cache_clear()
    yield
    table.plugins.cache_clear()


def test_every_line_can_be_loaded() -> None:
    for line in FORMATS:
        if line.package:
            pytest.importorskip(MODULES.get(line.package, line.package))
        assert callable(line.load(Path("x")))
        assert line.writer is None or callable(line.load(Path("x"), writing=True))
        assert line.writer or line.why


@pytest.mark.parametrize("line", OF_PACKAGES, ids=lambda line: line.name)
def test_a_missing_package_is_named(line: table.Format, monkeypatch: pytest.MonkeyPatch) -> None:
    package = str(line.package)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    for target in (line.reader, line.writer):
        module = str(target).partition(":")[0]
        monkeypatch.delitem(sys.modules, f"n2n.data.images.formats.{module}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    path = f"x{line.suffixes[0]}"
    Path(path).touch() if path != "x.zarr" else Path(path).mkdir()
    assert refusal(lambda: look(path)).endswith(f"pip install {package}")
    if line.writer:
        np.save("in.npy", np.zeros((9, 9), np.uint16))
        assert refusal(lambda: copy("in.npy", f"out{line.suffixes[0]}")).endswith(f"pip install {package}")


def test_nothing_is_imported_before_it_is_needed() -> None:
    np.save("x.npy", np.zeros((9, 9), np.uint8))
    heavy = sorted({MODULES.get(str(line.package), str(line.package)) for line in OF_PACKAGES})
    code = f"""if True:
        import sys
        from pathlib import Path
        import n2n.cli
        from n2n.data.images import open_image, create_image, find_images
        for name in ("x.png", "x.npy"):
            with open_image(Path("x.npy")) as image:
                create_image(Path(name), image).write(image.strips(4))
        list(find_images(["."]))
        print([name for name in {heavy} if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.ome.tif", ".ome.tif"), ("a.b.tif", ".tif"), ("a.FITS.GZ", ".fits.gz"), ("a.gz", None), (".png", None),
     ("a.fits.fz", ".fz"), ("a.heic", None), ("png", None)],
)  # fmt: skip
def test_the_longest_suffix_counts(name: str, suffix: str | None) -> None:
    assert find_suffix(name) == suffix
    assert (find_format(Path(name)) is not None) == (suffix is not None)


def test_parts_of_files() -> None:
    for text, file, part in (
        ("a/b.h5:/c/d", "a/b.h5", "/c/d"),
        ("a.fits:SCI,2", "a.fits", "SCI,2"),
        ("a.fits.gz:1", "a.fits.gz", "1"),
        ("a.CZI:0", "a.CZI", "0"),
        ("a.png:1", "a.png:1", None),
        ("a.h5", "a.h5", None),
    ):
        assert split_part(Path(text)) == (Path(file), part)
    Path("a.h5:b").touch()
    assert split_part(Path("a.h5:b")) == (Path("a.h5:b"), None)
    assert written_name(Path("in/a.h5:/c/d")) == "a.h5"
    assert written_name(Path("in/a.b.nd2")) == "a.b.ome.tif"
    assert written_name(Path("in/a.gif")) == "a.png"


@pytest.mark.usefixtures("own_readers")
def test_a_reader_of_ones_own() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30))
    Path("in").mkdir()
    np.savetxt("in/x.txt", pixels, "%d")
    assert is_image(Path("in/x.txt"))
    assert [path.name for path in find_images(["in"])] == ["x.txt"]
    assert np.array_equal(look("in/x.txt")[0][0, ..., 0], pixels)
    predict("in", "out")
    assert np.array_equal(look("out/x.ome.tif")[0][0, ..., 0], pixels)
    assert "came without a writer" in refusal(lambda: copy("in/x.txt", "out.txt"))
    # n2n's own formats stay.
    copy("in/x.txt", "x.png")
    assert np.array_equal(look("x.png")[0][0, ..., 0], pixels)


def test_the_help_names_all_formats() -> None:
    for line in FORMATS:
        if line.name not in ("OME-TIFF", "compressed FITS"):
            assert line.name in _DESCRIPTION, line.name


def test_the_guide_has_the_table() -> None:
    text = Path(table.__file__).with_name("README.md").read_text(encoding="utf-8")
    for line in FORMATS:
        suffixes = " ".join(f"`{suffix}`" for suffix in line.suffixes)
        written = ("by rows" if line.streams else "yes") if line.writer else f"as `{line.written_as}`"
        assert f"| {line.name} | {suffixes} | {written} | {line.package or ''} |" in text


def test_the_user_may_name_the_pages() -> None:
    fits, mrcfile, h5py = (pytest.importorskip(name) for name in ("astropy.io.fits", "mrcfile", "h5py"))
    pixels = np.random.default_rng(0).integers(0, 2**15, (2, 3, 20, 30)).astype(np.int16)
    fits.PrimaryHDU(pixels).writeto("x.fits")
    mrcfile.new("x.mrc", pixels).close()
    with h5py.File("x.h5", "w") as file:
        file["a"], file["b"] = pixels, pixels[0]
    for name in ("x.fits", "x.mrc", "x.h5:a"):
        with open_image(Path(name), "TZYX") as image:
            assert (image.axes, image.named, image.page_axes) == ("TZYX", True, "TZ")
    # Rows and columns stay where the format has them; in HDF5 they may be anywhere.
    for name in ("x.fits", "x.mrc"):
        assert "expected Y, X" in refusal(partial(open_image, Path(name), "TYXZ"))
    with open_image(Path("x.h5:a"), "YXTZ") as image:
        assert np.array_equal(image.samples(4, 0, 2)[..., 0], pixels[..., 0, 4])


def test_training_finds_parts_of_files() -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File("x.h5", "w") as file:
        file["entry/a"], file["entry/b"] = np.zeros((3, 20, 30), np.uint8), np.zeros((20, 30), np.uint8)
    assert images_in("x.h5:/entry/a") == {"a": Path("x.h5:/entry/a")}
    before = _identity(Frame(Path("x.h5:/entry/a")))
    with h5py.File("x.h5", "a") as file:
        file["entry/a"][0, 0, 0] = 1
    assert _identity(Frame(Path("x.h5:/entry/a"))) != before


def test_an_output_may_replace_its_own_file() -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File("x.h5", "w") as file:
        file["a"] = np.arange(600, dtype=np.uint16).reshape(20, 30)
    whole = look("x.h5")[0]
    args = [
        "predict",
        "--ckpt_path",
        str(write_checkpoint("same.ckpt", same, 1)),
        "--input",
        "x.h5:/a",
        "--output",
        ".",
    ]
    assert main(args) == 2
    assert main([*args, "--overwrite"]) == 0
    assert np.array_equal(look("x.h5")[0], whole)
