from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from n2n.data.images import find_images, read_picture, write_picture
from n2n.errors import InputError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (11, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(COLOUR),
        Image.fromarray(COLOUR[..., 0]),
        Image.fromarray(np.dstack([COLOUR, COLOUR[..., :1]])),
        Image.fromarray(COLOUR[..., :2]),
        Image.fromarray(COLOUR[..., 0].astype(np.uint16) * 257 + 3),
    ],
    ids=["RGB", "L", "RGBA", "LA", "16 bit"],
)
def test_png_comes_back_as_it_was(image: Image.Image) -> None:
    image.save("in.png", dpi=(300, 300))
    write_picture(Path("out.png"), read_picture(Path("in.png")))
    with Image.open("out.png") as written:
        assert written.mode == Image.open("in.png").mode
        assert np.array_equal(np.asarray(written), np.asarray(Image.open("in.png")))
        assert written.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize(("mode", "written"), [("P", "RGB"), ("1", "L"), ("CMYK", "RGB")])
def test_other_kinds_become_pixels(mode: str, written: str) -> None:
    name = "in.jpg" if mode == "CMYK" else "in.png"
    Image.fromarray(COLOUR).convert(mode).save(name)
    write_picture(Path("out.png"), read_picture(Path(name)))
    assert Image.open("out.png").mode == written


def test_orientation_is_kept() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOUR).save("in.jpg", exif=exif)
    write_picture(Path("out.jpg"), read_picture(Path("in.jpg")))
    written = Image.open("out.jpg")
    assert written.size == (7, 11)
    assert written.getexif()[0x0112] == 6


def test_written_pixels_are_clipped_and_rounded() -> None:
    Image.fromarray(COLOUR[:1, :3, 0]).save("in.png")
    picture = read_picture(Path("in.png"))
    picture.pixels[0, :, 0] = [-0.3, 0.5004, 1.7]
    write_picture(Path("out.png"), picture)
    assert np.asarray(Image.open("out.png")).tolist() == [[0, 128, 255]]
    assert sorted(path.name for path in Path().iterdir()) == ["in.png", "out.png"]


def test_bad_files_get_one_line() -> None:
    Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save("whole.png")
    whole = Path("whole.png").read_bytes()
    Path("cut.png").write_bytes(whole[: len(whole) // 2])
    Path("text.png").write_text("no image")
    for name, message in [("cut.png", "damaged"), ("text.png", "not an image"), ("none.png", "not there")]:
        with pytest.raises(InputError, match=message) as caught:
            read_picture(Path(name))
        assert "\n" not in str(caught.value)


def test_images_are_found_in_order_and_others_are_not() -> None:
    for name in ("b.PNG", "a/c.jpeg", "a/b.jpg", "notes.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert [path.name for path in find_images(["."])] == ["b.jpg", "c.jpeg", "b.PNG"]
