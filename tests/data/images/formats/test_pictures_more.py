"""WebP, AVIF, BMP, GIF, animations, JPEG 2000 and PNM."""

from __future__ import annotations

import zlib
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageFile, WebPImagePlugin, features

from n2n.data.images import open_image
from tests.data.images.formats.helpers import copy, look, predict, refusal, values


def smooth(shape: tuple[int, ...]) -> Any:
    """Return a picture that lossy formats keep well."""
    rows = np.linspace(40, 210, shape[0])[:, None, None] + np.linspace(0, 30, shape[1])[None, :, None]
    return np.broadcast_to(rows, shape).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".webp", ".bmp"])
def test_lossless_pictures_come_back(suffix: str) -> None:
    for samples in (3, 4) if suffix == ".webp" else (3,):
        pixels = values((20, 30, samples), "uint8")
        options: dict[str, Any] = {"lossless": True, "exact": True} if suffix == ".webp" else {}
        Image.fromarray(pixels).save(f"in{suffix}", **options)
        found, axes, shape = look(f"in{suffix}")
        assert (axes, shape) == ("YXS", pixels.shape)
        assert np.array_equal(found[0], pixels)
        copy(f"in{suffix}", f"out{suffix}")
        assert np.array_equal(np.asarray(Image.open(f"out{suffix}")), pixels)
    predict(f"in{suffix}", "out", 3)
    assert np.array_equal(np.asarray(Image.open(f"out/in{suffix}")), pixels)
    grey = values((20, 30), "uint8")
    np.save("grey.npy", grey)
    copy("grey.npy", f"grey{suffix}")
    assert np.array_equal(look(f"grey{suffix}")[0][0, ..., 0], grey)


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_lossy_pictures_lose_little(suffix: str) -> None:
    if not features.check(suffix[1:]):
        pytest.skip("this Pillow does not read it")
    exif = Image.Exif()
    exif[0x013B] = "the author"
    Image.fromarray(smooth((40, 60, 3))).save(f"in{suffix}", quality=80, exif=exif, icc_profile=b"profile" * 20)
    noisy = look(f"in{suffix}")[0].astype(int)
    predict(f"in{suffix}", "out", 3)
    with Image.open(f"out/in{suffix}") as out:
        assert np.abs(np.asarray(out).astype(int) - noisy[0]).max() <= 6
        assert out.getexif()[0x013B] == "the author"
        assert out.info["icc_profile"] == b"profile" * 20


def test_deep_avif_is_refused() -> None:
    Path("x.avif").write_bytes(imagecodecs.avif_encode(values((20, 30, 3), "uint16") // 64, bitspersample=10))
    assert "more than 8 bits" in refusal(lambda: look("x.avif"))


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_animations_keep_frames_and_timing(suffix: str) -> None:
    # WebP mixes frames that are partly transparent.
    samples = 4 if suffix == ".png" else 3
    frames = [Image.fromarray(values((20, 30, samples), "uint8")) for _ in range(3)]
    options: dict[str, Any] = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    frames[0].save(f"in{suffix}", save_all=True, append_images=frames[1:], duration=[40, 80, 120], loop=2, **options)
    found, axes, shape = look(f"in{suffix}")
    assert (axes, shape) == ("TYXS", (3, 20, 30, samples))
    assert np.array_equal(found, [np.asarray(frame) for frame in frames])
    predict(f"in{suffix}", "out", 3)
    assert np.array_equal(look(f"out/in{suffix}")[0], found)
    with Image.open(f"out/in{suffix}") as out:
        assert (getattr(out, "n_frames", 1), out.info["loop"]) == (3, 2)
        times = []
        for page in range(3):
            out.seek(page)
            out.load()
            times.append(round(out.info["duration"]))
        assert times == [40, 80, 120]


def decoded_frames(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each frame of WebP that is decoded from now on adds one."""
    decoded: list[int] = []
    plain = WebPImagePlugin.WebPImageFile._get_next

    def count(image: WebPImagePlugin.WebPImageFile) -> Any:
        decoded.append(1)
        return plain(image)

    monkeypatch.setattr(WebPImagePlugin.WebPImageFile, "_get_next", count)
    return decoded


def test_each_frame_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.fromarray(values((20, 30, 3), "uint8")) for _ in range(9)]
    frames[0].save("x.webp", save_all=True, append_images=frames[1:], lossless=True)
    decoded = decoded_frames(monkeypatch)
    with open_image(Path("x.webp")) as image:
        assert sum(len(strip) for strip in image.strips(7)) == 9 * 20
    assert len(decoded) == 9


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "PNG"])
def test_a_small_file_of_vast_frames_is_refused_before_it_is_decoded(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(f"x.{kind.lower()}")
    frames = [Image.fromarray(values((20, 30, 3), "uint8")) for _ in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    data = bytearray(path.read_bytes())
    # The place of the width and height of the canvas, and how they are written: in WebP they are one less.
    width, height = 13_000, 12_000
    start, size, order, less = {
        "WEBP": (24, 3, "little", 1),
        "GIF": (6, 2, "little", 0),
        "PNG": (16, 4, "big", 0),
    }[kind]
    for i, side in enumerate((width, height)):
        data[start + i * size : start + (i + 1) * size] = (side - less).to_bytes(size, order)  # type: ignore[arg-type]
    if kind == "PNG":
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    decoded = decoded_frames(monkeypatch)
    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded.append)
    message = refusal(lambda: look(str(path)))
    assert f"says that it has 3 frames of 13000×12000 px in {len(data):,} bytes" in message
    assert not decoded


def test_gif_becomes_png() -> None:
    frames = [Image.fromarray(np.full((20, 30, 3), 60 * i, np.uint8)) for i in range(3)]
    Path("in").mkdir()
    frames[0].save("in/a.gif", save_all=True, append_images=frames[1:], duration=100)
    frames[1].save("in/b.gif")
    found, axes, _ = look("in/a.gif")
    assert axes == "TYXS"
    assert [int(frame.max()) for frame in found] == [0, 60, 120]
    predict("in", "out", 3)
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "b.png"]
    assert np.array_equal(look("out/a.png")[0], found)
    assert look("out/b.png")[2] == (20, 30, 3)
    assert "256 colours" in refusal(lambda: copy("in/b.gif", "out.gif"))


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("suffix", [".jp2", ".j2k"])
def test_jpeg2000_comes_back(bits: int, suffix: str) -> None:
    for shape in ((20, 30), (20, 30, 3), (20, 30, 4)):
        pixels = values(shape, "uint8" if bits == 8 else "uint16") >> (16 - bits if bits > 8 else 0)
        encoded = imagecodecs.jpeg2k_encode(pixels, reversible=True, bitspersample=bits, codecformat=suffix[1:])
        Path(f"in{suffix}").write_bytes(encoded)
        found, _, size = look(f"in{suffix}")
        assert (size, found.dtype) == (shape, pixels.dtype)
        assert np.array_equal(found.reshape(shape), pixels)
        copy(f"in{suffix}", f"out{suffix}")
        assert np.array_equal(imagecodecs.jpeg2k_decode(Path(f"out{suffix}").read_bytes()), pixels)
        written = Path(f"out{suffix}").read_bytes()
        assert written[written.index(b"\xff\x4f\xff\x51") + 42] == bits - 1


@pytest.mark.parametrize("most", [255, 4095, 65535])
def test_pnm_comes_back(most: int) -> None:
    for shape, name in (((20, 30), "x.pgm"), ((20, 30, 3), "x.ppm")):
        pixels = values(shape, "uint16") & most
        head = f"P{6 if len(shape) > 2 else 5}\n# by a camera\n30 20\n{most}\n".encode()
        Path(name).write_bytes(head + pixels.astype("u1" if most == 255 else ">u2").tobytes())
        found, _, size = look(name)
        assert size == shape
        assert np.array_equal(found.reshape(shape), pixels)
        copy(name, f"out-{name}")
        assert Path(f"out-{name}").read_bytes() == Path(name).read_bytes().replace(b"# by a camera\n", b"")
    Path("text.pgm").write_text("P2 2 2 255 0 1 2 3")
    assert "P1 to P3 hold text" in refusal(lambda: look("text.pgm"))
    Path("huge.pgm").write_bytes(b"P5 99999999 99999999 255\n")
    assert "is cut off" in refusal(lambda: look("huge.pgm"))
    one = Path("x.pgm").read_bytes()
    Path("two.pgm").write_bytes(one + one)
    assert "holds several images: expected one; split it" in refusal(lambda: look("two.pgm"))
    Path("longer.pgm").write_bytes(one + b"\n")
    assert look("longer.pgm")[2] == (20, 30)


def test_formats_that_cannot_hold_it() -> None:
    np.save("deep.npy", values((20, 30), "uint16"))
    np.save("stack.npy", values((5, 20, 30), "uint8"))
    for name in ("x.webp", "x.bmp"):
        assert "cannot hold uint16 values" in refusal(partial(copy, "deep.npy", name))
        assert "cannot hold 5 pages" in refusal(partial(copy, "stack.npy", name))
    assert "cannot hold 5 pages" in refusal(lambda: copy("stack.npy", "x.jp2"))
    assert "cannot hold 5 pages" in refusal(lambda: copy("stack.npy", "x.png"))
