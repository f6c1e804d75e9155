from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin, PngImagePlugin

from n2n.data.images import create_image, open_image, read_photograph
from n2n.data.images.formats.png_chunks import Chunk, scan_png, splice
from tests.data.images.formats.test_pictures import copy

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (11, 7, 3), dtype=np.uint8)
CHROMATICITIES = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
IPTC = b"8BIM\x04\x04\0\0\0\0\0\x0c\x1c\x02\x78\0\x07caption"


def exif(turned: int | None = 6) -> Image.Exif:
    block = Image.Exif()
    block[0x010F], block[0x0110] = "a maker", "a model"
    if turned is not None:
        block[0x0112] = turned
    block.get_ifd(0x8769)[0x829A] = (1, 250)
    block.get_ifd(0x8769)[0x927C] = b"a maker's note"
    block.get_ifd(0x8825)[1] = "N"
    return block


def put(name: str, *chunks: tuple[bytes, bytes], after: tuple[bytes, ...] = ()) -> None:
    """Put chunks into a PNG file."""
    encoded = Path(name).read_bytes()
    Path(name).write_bytes(splice(encoded, [Chunk(code, data, code in after) for code, data in chunks]))


def chunks(name: str) -> dict[bytes, bytes]:
    found = scan_png(Path(name), Path(name).stat().st_size)
    assert found is not None
    return {chunk.name: chunk.data for chunk in found.chunks}


def remarks(source: str, target: str) -> list[str]:
    with open_image(Path(source)) as image:
        return create_image(Path(target), image).remarks


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_png_keeps_what_says_how_values_are_shown(depth: int, samples: int) -> None:
    import imagecodecs

    pixels = RNG.integers(0, 2**depth, (11, 7, samples)).astype(f"uint{depth}")
    Path("in.png").write_bytes(imagecodecs.png_encode(pixels[..., 0] if samples == 1 else pixels))
    background = bytes(2 if samples < 3 else 6)
    said = {
        b"gAMA": struct.pack(">I", 100000),
        b"cHRM": CHROMATICITIES,
        b"cICP": bytes((9, 16, 0, 1)),
        b"mDCV": bytes(24),
        b"cLLI": bytes(8),
        b"sBIT": bytes([5] * samples),
        b"bKGD": background,
        b"pHYs": struct.pack(">IIB", 3, 2, 0),
        b"sCAL": b"\x010.001\x000.002",
        b"tIME": bytes((7, 231, 5, 6, 7, 8, 9)),
        b"tEXt": b"Author\0somebody",
        b"zTXt": b"Comment\0\0" + zlib.compress(b"a comment"),
        b"iTXt": b"Title\0\0\0\0\0a title",
        b"prVt": b"a private chunk that may be copied",
    }
    # Chunks of names that say that they depend on the pixels, or that only one program knows.
    put("in.png", *said.items(), (b"hIST", bytes(6)), (b"iDOT", bytes(28)), after=(b"iTXt",))
    copy("in.png", "out.png")
    assert chunks("out.png") == said
    assert np.array_equal(np.squeeze(imagecodecs.png_decode(Path("out.png").read_bytes())), np.squeeze(pixels))
    with Image.open("out.png") as image:
        image.load()
        assert (image.info["gamma"], image.info["aspect"], image.info["Title"]) == (1.0, (3, 2), "a title")


def test_what_counts_in_samples_is_dropped_where_these_change() -> None:
    image = Image.fromarray(COLOUR).quantize(16)
    image.save("in.png")
    put("in.png", (b"bKGD", b"\3"), (b"sBIT", b"\5\5\5"), (b"gAMA", struct.pack(">I", 100000)))
    copy("in.png", "out.png")
    assert set(chunks("out.png")) == {b"gAMA"}


@pytest.mark.parametrize("kind", ["exif", "text", "xmp"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("target", ["out.png", "out.jpg", "out.tif"])
def test_orientation_is_found_wherever_pillow_finds_it(kind: str, depth: int, target: str) -> None:
    pixels = COLOUR if depth == 8 else COLOUR[..., 0].astype(np.uint16) * 257
    info = PngImagePlugin.PngInfo()
    if kind == "text":
        raw = exif().tobytes()
        lines = "\n".join(raw.hex()[at : at + 72] for at in range(0, 2 * len(raw), 72))
        info.add_text("Raw profile type exif", f"\nexif\n{len(raw):8d}\n{lines}\n", zip=True)
    if kind == "xmp":
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    Image.fromarray(pixels).save("in.png", pnginfo=info, exif=exif() if kind == "exif" else b"")
    if depth == 16 and target == "out.jpg":
        pytest.skip("JPEG has 8 bits")
    copy("in.png", target)
    for name in ("in.png", target):
        with Image.open(name) as image:
            # Pillow turns no TIFF of 16 bits.
            assert name == "out.tif" or ImageOps.exif_transpose(image).size == (11, 7)
            assert image.getexif()[0x0112] == 6
        assert read_photograph(Path(name), 3).shape == (7, 11, 3)


@pytest.mark.parametrize("source", ["in.jpg", "in.tif", "in.png"])
@pytest.mark.parametrize("target", ["out.jpg", "out.tif", "out.png"])
def test_from_format_to_format(source: str, target: str) -> None:
    Image.fromarray(COLOUR).save("first.jpg", exif=exif(), dpi=(300, 200), icc_profile=b"a profile", xmp=XMP)
    copy("first.jpg", source)
    copy(source, target)
    with Image.open(target) as image:
        assert image.info["icc_profile"] == b"a profile"
        assert image.info["dpi"] == pytest.approx((300, 200), abs=0.1)
        assert image.info["xmp"].strip(b"\0") == XMP
    with open_image(Path(target)) as image:
        block = Image.Exif()
        block.load(image.metadata.exif or b"")
    assert (block[0x010F], block[0x0110], block[0x0112]) == ("a maker", "a model", 6)
    assert dict(block.get_ifd(0x8769)) == {0x829A: (1, 250), 0x927C: b"a maker's note"}
    assert dict(block.get_ifd(0x8825)) == {1: "N"}


def test_jpeg_keeps_its_segments() -> None:
    Image.fromarray(COLOUR).save("in.jpg", exif=exif(), icc_profile=bytes(100_000), xmp=XMP, comment=b"a comment")
    whole = Path("in.jpg").read_bytes()
    block = b"Photoshop 3.0\0" + IPTC
    parts = b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
    parts += b"\xff\xeb\x00\x06JUMB" + b"\xff\xe2\x00\x06MPF\0"
    Path("in.jpg").write_bytes(whole[:20] + parts + whole[20:] + b"x" * 5000)
    copy("in.jpg", "out.jpg")
    with Image.open("in.jpg") as before, Image.open("out.jpg") as after:
        for name in ("exif", "icc_profile", "xmp", "comment", "photoshop", "jfif_density", "jfif_unit"):
            assert after.info[name] == before.info[name], name
        assert "mp" not in after.info
        # No loss of colour detail.
        assert isinstance(after, JpegImagePlugin.JpegImageFile)
        assert JpegImagePlugin.get_sampling(after) == 0
    assert b"JUMB" not in Path("out.jpg").read_bytes()
    copy("in.jpg", "out.tif")
    copy("out.tif", "again.jpg")
    with Image.open("again.jpg") as after:
        assert after.info["photoshop"] == {0x0404: b"\x1c\x02\x78\0\x07caption"}
    assert remarks("in.jpg", "out.jpg") == [
        "what follows its picture (more pictures, a gain map or a video) is not written"
    ]
    assert "IPTC" in remarks("in.jpg", "out.png")[0]


def test_ratio_of_a_jpeg_pixel_is_kept() -> None:
    Image.fromarray(COLOUR).save("in.jpg")
    whole = bytearray(Path("in.jpg").read_bytes())
    whole[13:18] = struct.pack(">BHH", 0, 2, 3)
    Path("in.jpg").write_bytes(whole)
    copy("in.jpg", "out.jpg")
    with Image.open("out.jpg") as image:
        assert (image.info["jfif_unit"], image.info["jfif_density"]) == (0, (2, 3))


def test_what_is_lost_is_said() -> None:
    Image.fromarray(COLOUR).save("in.png")
    put("in.png", (b"gAMA", struct.pack(">I", 100000)), (b"cHRM", CHROMATICITIES))
    for target, kind in (("x.jpg", "JPEG"), ("x.tif", "TIFF")):
        line = f"its gAMA and cHRM of PNG, by which its values are shown, cannot be written to {kind}: write PNG"
        assert remarks("in.png", target) == [line]
    assert remarks("in.png", "x.png") == []
    # The usual gamma, and one that a profile replaces, say nothing.
    Image.fromarray(COLOUR).save("in.png")
    put("in.png", (b"gAMA", struct.pack(">I", 45455)))
    assert remarks("in.png", "x.jpg") == []
    Image.fromarray(COLOUR).save("in.png", icc_profile=b"a profile")
    put("in.png", (b"gAMA", struct.pack(">I", 100000)))
    assert remarks("in.png", "x.jpg") == []
    long = exif()
    long.get_ifd(0x8769)[0x927C] = bytes(70_000)
    Image.fromarray(COLOUR).save("in.png", exif=long)
    assert remarks("in.png", "x.jpg") == ["its EXIF block is too long for JPEG and is not written: write PNG or TIFF"]
    copy("in.png", "x.jpg")
    Image.fromarray(COLOUR).convert("CMYK").save("in.jpg", icc_profile=b"of inks")
    assert remarks("in.jpg", "x.jpg") == ["its colour profile is of CMYK, does not fit RGB and is not written"]
    copy("in.jpg", "x.jpg")
    with Image.open("x.jpg") as image:
        assert "icc_profile" not in image.info


def test_damaged_exif_goes_no_further() -> None:
    Image.fromarray(COLOUR).save("in.jpg", exif=b"Exif\0\0MM no directory")
    copy("in.jpg", "out.jpg")
    copy("in.jpg", "out.png")
    copy("in.jpg", "out.tif")
    with Image.open("out.png") as image:
        assert "exif" not in image.info


def test_grey_palettes_are_grey() -> None:
    levels = RNG.permutation(256).astype(np.uint8)
    image = Image.fromarray(COLOUR[..., 0])
    image.putpalette(np.repeat(levels, 3).tobytes())
    for name in ("in.png", "in.tif"):
        image.save(name)
        copy(name, "out.png")
        with Image.open("out.png") as written:
            assert written.mode == "L"
            assert np.array_equal(np.asarray(written), levels[COLOUR[..., 0]])


def test_lookup_table_of_png_is_kept() -> None:
    image = Image.fromarray(COLOUR[..., 0])
    ramp = np.arange(256)
    fire = np.stack([np.minimum(ramp * 3, 255), np.clip(ramp * 3 - 255, 0, 255), np.clip(ramp * 3 - 510, 0, 255)], 1)
    image.putpalette(fire.astype(np.uint8).tobytes())
    image.save("in.png", dpi=(300, 300))
    with open_image(Path("in.png")) as opened:
        assert (opened.channels, opened.extra) == (1, 0)
    copy("in.png", "out.tif")
    copy("out.tif", "out.png")
    with Image.open("out.png") as written:
        assert written.mode == "P"
        assert np.array_equal(np.asarray(written), COLOUR[..., 0])
        assert np.array_equal(np.array(written.getpalette()).reshape(-1, 3), fire)
    assert remarks("in.png", "x.jpg") == ["its lookup table of colours is not written; its grey values are"]
    copy("in.png", "x.jpg")
    with Image.open("x.jpg") as written:
        assert written.mode == "L"


def test_what_a_format_cannot_hold_is_said() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.fromarray(np.full((20, 30, 3), 99, np.uint8))
    picture.save("in.png", icc_profile=profile, dpi=(300, 300))
    picture.save("in.jp2")
    # Pillow writes the number of a colour space. The box with a profile takes its place, in the box of the header.
    content = Path("in.jp2").read_bytes()
    head, box = content.index(b"jp2h") - 4, content.index(b"colr") - 4
    size = int.from_bytes(content[box : box + 4], "big")
    new = (len(profile) + 11).to_bytes(4, "big") + b"colr\x02\0\0" + profile
    whole = int.from_bytes(content[head : head + 4], "big") + len(new) - size
    changed = whole.to_bytes(4, "big") + content[head + 4 : box] + new + content[box + size :]
    Path("in.jp2").write_bytes(content[:head] + changed)
    with open_image(Path("in.jp2")) as image:
        assert image.metadata.icc == profile
    for name, lost in (
        *((f"in.png out{suffix}", "colour profile, resolution") for suffix in (".jp2", ".npy", ".ppm")),
        ("in.png out.webp", "resolution"),
        ("in.jp2 out.jp2", "colour profile"),
        ("in.png out.tif", ""),
        ("in.jp2 out.png", ""),
    ):
        source, target = map(Path, name.split())
        with open_image(source) as image:
            remarks = create_image(target, image).remarks
        assert remarks == ([f"not written, because the format cannot hold it: {lost}"] if lost else []), name


def test_a_transparent_colour_of_16_bits_is_said() -> None:
    import imagecodecs

    plain = bytes(imagecodecs.png_encode(np.full((20, 30), 999, np.uint16)))
    chunk = b"tRNS" + (999).to_bytes(2, "big")
    end = plain.index(b"IDAT") - 4
    Path("in.png").write_bytes(
        plain[:end] + (2).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + plain[end:]
    )
    with open_image(Path("in.png")) as image:
        assert image.remarks == ["it marks one colour as transparent, which is not kept: all pixels become opaque"]
