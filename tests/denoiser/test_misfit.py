"""What is said of an image whose noise the network was not trained on."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from n2n import Denoiser
from n2n.cli import main
from n2n.data.flat_noise import BlockSample, NoiseLevel
from n2n.data.noise import TrainedNoise
from n2n.data.value_range import ValueRange
from n2n.denoiser.misfit import misfit
from tests.images import SHARED
from tests.write_checkpoints import same, write_checkpoint

WHITE = TrainedNoise(((0.0, 55 / 255),) * 8, (-0.02, 0.02))
LEVEL_25 = TrainedNoise(((24 / 255, 26 / 255),) * 8, (-0.02, 0.02))
CAMERA = TrainedNoise(((0.0, 40 / 255),) * 8, (0.3, 0.7))
COURSE = TrainedNoise(((0.0, 40 / 255),) * 8, (-0.08, 0.08), at_edges=True)
MICROGRAPHS = SHARED / "testsets" / "microscopy" / "noisy"

Values = NDArray[np.float64]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def scene(side: int = 256, channels: int = 3) -> Values:
    """Return an image of smooth parts, edges, and a corner of texture; 60 to 190."""
    down, right = np.mgrid[:side, :side] / side
    image = 90 + 40 * right + 30 * (down + right > 1.2) - 30 * ((down - 0.3) ** 2 + (right - 0.3) ** 2 < 0.03)
    image[: side // 4, -side // 4 :] += np.kron(rng().normal(0, 20, (side // 8, side // 8)), np.ones((2, 2)))
    return np.repeat(image[..., None], channels, 2)


def correlated(shape: tuple[int, ...], sigma: float) -> Values:
    """Draw noise that is correlated by 0.5 between neighbours."""
    noise = rng().normal(0, 1, shape)
    for axis in (0, 1):
        noise = (noise + np.roll(noise, 1, axis)) / 2**0.5
    return sigma * noise


def sampled(side: int) -> Values:
    """Return a pixel-sampled view of a large scene that is flat but for edges."""
    large = scene(8 * side)
    large[: 2 * side, -2 * side :] = 90
    picks = rng().integers(0, 8, (2, side, side))
    rows, columns = (8 * np.arange(side)[:, None] + picks[0]), (8 * np.arange(side) + picks[1])
    picked: Values = large[rows, columns]
    return picked


def eight_bits(image: Values) -> NDArray[np.uint8]:
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)


def said(
    image: NDArray[np.generic],
    trained: TrainedNoise,
    scale: ValueRange | None = None,
    denoised: NDArray[np.generic] | None = None,
) -> str | None:
    scale = scale or ValueRange(0, 255)
    sample = BlockSample(scale)
    after = np.zeros_like(image) if denoised is None else denoised
    for rows, denoised_rows in zip(np.array_split(image, 3), np.array_split(after, 3), strict=True):
        sample.add(rows, denoised_rows, None)
    return misfit(sample.noise(), trained, scale)


def noisy(kind: str) -> NDArray[np.uint8]:
    clean = scene()
    if kind == "sampled":
        return eight_bits(sampled(256))
    if kind == "mosaic":
        colours = np.kron(np.ones((128, 128)), np.array([[0, 30], [30, 0]]))[..., None]
        return eight_bits(clean[..., :1] + colours + rng().normal(0, 5, clean[..., :1].shape))
    noise = {
        "none": lambda: np.zeros_like(clean),
        "correlated": lambda: correlated(clean.shape, 12),
        "less correlated": lambda: 0.7 * (white := rng().normal(0, 12, clean.shape)) + 0.5 * np.roll(white, 1, 0),
        "photons": lambda: rng().poisson(clean / 8) * 8 - clean,
    }
    return eight_bits(clean + (noise[kind]() if kind in noise else rng().normal(0, float(kind), clean.shape)))


@pytest.mark.parametrize(
    ("kind", "trained", "line"),
    [
        ("none", WHITE, None),
        ("none", CAMERA, None),
        ("none", COURSE, None),
        ("5", WHITE, None),
        ("50", WHITE, None),
        ("75", WHITE, "is stronger (sigma 6"),
        ("photons", WHITE, None),
        (
            "correlated",
            WHITE,
            "is correlated between neighbouring pixels (0.48), and this checkpoint was trained on white noise",
        ),
        ("less correlated", WHITE, None),
        ("sampled", WHITE, None),
        ("mosaic", WHITE, "is correlated negatively between neighbouring pixels (-0.7"),
        ("mosaic", CAMERA, "is correlated negatively between neighbouring pixels (-0.7"),
        ("25", CAMERA, "is white, and this checkpoint was trained on noise that is correlated between neighbouring"),
        ("correlated", CAMERA, None),
        ("sampled", COURSE, None),
        ("25", COURSE, "lies in flat parts too (sigma 2"),
        ("5", COURSE, "lies in flat parts too (sigma "),
        ("correlated", COURSE, "is correlated between neighbouring pixels (0.48)"),
        ("25", LEVEL_25, None),
        ("28", LEVEL_25, None),
        ("32", LEVEL_25, "is stronger (sigma "),
        ("8", LEVEL_25, "is weaker (sigma 7.9"),
    ],
)
def test_noise_that_does_not_fit_is_said(kind: str, trained: TrainedNoise, line: str | None) -> None:
    found = said(noisy(kind), trained)
    if line is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(f"the noise here {line}")
        suited = "choose another checkpoint"
        if "negatively" in line:
            suited = "save each colour of a mosaic as an image of its own"
        elif line.startswith("is correlated"):
            suited = "for a photograph, try --ckpt_path camera"
        elif line.startswith(("is white", "lies in flat parts")):
            suited = "try --ckpt_path gaussian"
        assert found.endswith(f": {suited}, or train on your own pairs")
        assert len(found) < 300


@pytest.mark.parametrize(
    ("kind", "trained", "suited"),
    [
        ("the same in all colours", WHITE, "train"),
        ("less correlated", WHITE, "for a photograph, try --ckpt_path camera, or train"),
        ("correlated", CAMERA, "train"),
    ],
)
def test_noise_that_stays_is_said(kind: str, trained: TrainedNoise, suited: str) -> None:
    clean = scene()
    # JPEG with half the resolution for colour makes noise nearly the same in all colours.
    noise = np.repeat(rng().normal(0, 20, (256, 256, 1)), 3, 2)
    if kind != "the same in all colours":
        noise = noisy(kind) - clean
    image = eight_bits(clean + noise)
    line = said(image, trained, denoised=eight_bits(clean + 0.9 * noise))
    assert line is not None
    found = re.fullmatch(
        r"of sigma ([\d.]+) in flat parts, ([\d.]+) is left: if that is noise and no fine texture, (.*) on your own pairs",
        line,
    )
    assert found is not None
    sigma, left = float(found[1]), float(found[2])
    assert sigma == pytest.approx(noise.std(), rel=0.2)
    assert left == pytest.approx(0.9 * sigma, rel=0.05)
    assert found[3] == suited
    # Enough is removed; at one brightness all of it; there is little; and there is none.
    assert said(image, trained, denoised=eight_bits(clean + 0.5 * noise)) is None
    assert said(image, trained, denoised=np.where(clean < 120, clean, image).astype(np.uint8)) is None
    weak = eight_bits(clean + 3 * noise / noise.std())
    assert said(weak, trained, denoised=weak) is None
    assert said(eight_bits(clean), trained, denoised=eight_bits(clean)) is None


def test_most_flat_blocks_decide() -> None:
    scale = ValueRange(0, 1)
    few, many = (NoiseLevel(0, 90, 0.5, 0.6, 0.0), NoiseLevel(0, 110, 0.5, 0.6, 0.0))
    fitting = NoiseLevel(1, 100, 25 / 255, 0.0, 0.0)
    # Correlation counts if it is at every brightness.
    assert misfit([few, fitting], LEVEL_25, scale) is None
    for noise, said in (
        (many, "is stronger (sigma 0.5 of 1)"),
        (many._replace(sigma=0.01), "is weaker (sigma 0.01 of 1)"),
    ):
        line = misfit([noise, fitting], LEVEL_25, scale)
        assert line is not None
        assert said in line
    # Hardly any noise suits a network that learnt none in flat parts.
    at_edges = replace(LEVEL_25, at_edges=True)
    assert misfit([fitting._replace(sigma=3 / 255)], at_edges, scale) is None
    assert misfit([fitting._replace(sigma=3 / 255)], LEVEL_25, scale) is not None


def test_the_range_of_values_does_not_matter() -> None:
    image = scene(channels=1) + correlated((256, 256, 1), 12)
    line = said((image * 257).astype(np.uint16), WHITE, ValueRange(0, 65535))
    assert line is not None
    assert line == said((image / 255).astype(np.float32), WHITE, ValueRange(0, 1))
    shifted = said((image + 500).astype(np.float32), LEVEL_25, ValueRange(500, 755))
    assert shifted is not None
    assert shifted == said(image.astype(np.float32), LEVEL_25, ValueRange(0, 255))
    strong = scene() + rng().normal(0, 70, (256, 256, 3))
    found = said(np.clip(strong * 257, 0, 65535).astype(np.uint16), WHITE, ValueRange(0, 65535))
    assert found is not None
    assert "of 65535) than any that this checkpoint learnt at this brightness (0 to 1.41e+04)" in found


def test_what_cannot_be_judged_is_not_said() -> None:
    strong = eight_bits(scene() + correlated((256, 256, 3), 20))
    images = {
        "tiny": strong[:60, :60],
        "one row": strong[:1],
        "narrow": strong[:, :7],
        "black": np.zeros_like(strong),
        "clipped": eight_bits(scene() + 150),
        "enlarged": eight_bits(scene(64).repeat(4, 0).repeat(4, 1)),
        "texture": eight_bits(rng().choice([0.0, 40.0], (64, 64, 1)).repeat(4, 0).repeat(4, 1) + strong / 9),
        "blocks": np.kron(rng().integers(0, 255, (32, 32, 3)), np.ones((8, 8, 1))).astype(np.uint8),
    }
    for name, image in images.items():
        for trained in (WHITE, CAMERA, COURSE):
            assert said(image, trained) is None, name


def test_large_images_are_sampled() -> None:
    sample, kept = BlockSample(ValueRange(0, 255)), []
    for _ in range(40):
        image = eight_bits(scene() + correlated((256, 256, 3), 12))
        sample.add(image, image, None)
        kept.append(sum(map(len, sample._kept)))
    assert max(kept) <= 8192
    # Of pages without a chosen block nothing is kept: there may be many.
    for _ in range(2000):
        sample.add(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), None)
    assert len(sample._kept) < 1200
    line = misfit(sample.noise(), WHITE, ValueRange(0, 255))
    assert line is not None
    assert "correlated" in line


def test_blocks_without_data_do_not_count() -> None:
    image = (scene() + rng().normal(0, 12, (256, 256, 3))).astype(np.float32)
    gaps = np.zeros(image.shape, bool)
    gaps[:100, :100], gaps[200, 200] = True, True
    image[gaps] = np.nan
    sample = BlockSample(ValueRange(0, 255))
    sample.add(image, image, gaps)
    found = sample.noise()
    assert found
    assert all(one.sigma * 255 == pytest.approx(12, rel=0.1) and abs(one.neighbours) < 0.05 for one in found)


def test_predict_says_one_line_of_each_file(capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint("same.ckpt", same, noise=WHITE.plain())
    Path("in").mkdir()
    Image.fromarray(noisy("25")).save("in/a.png")
    Image.fromarray(noisy("correlated")).save("in/b.png")
    pages = np.stack([noisy("correlated")[..., 0]] * 3)
    tifffile.imwrite("in/c.tif", pages, photometric="minisblack")
    command = ["predict", "--ckpt_path", "same.ckpt", "--input", "in", "--output", "out", "--device", "cpu"]
    assert main(command) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "the noise here" in line]
    # Lines that are the same are printed once.
    (line,) = lines
    assert "2 images: the noise here is correlated" in line
    assert line.endswith("b.png")
    write_checkpoint("none.ckpt", same)
    command[2:3] = ["none.ckpt"]
    assert main([*command, "--overwrite"]) == 0
    assert "the noise here" not in capsys.readouterr().err


def test_arrays_are_judged() -> None:
    denoiser = Denoiser(torch.nn.Identity(), 3, "cpu", noise=WHITE)
    with pytest.warns(UserWarning, match="the image: the noise here is correlated between neighbouring pixels"):
        denoiser(noisy("correlated"))
    with pytest.warns(UserWarning, match=r"of sigma 24\.\d in flat parts, 24\.\d is left"):
        denoiser(noisy("25"))
    mean = Denoiser(torch.nn.AvgPool2d(5, 1, 2, count_include_pad=False), 3, "cpu", noise=WHITE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean(noisy("25"))


@pytest.mark.skipif(not MICROGRAPHS.is_dir(), reason="needs the micrographs")
def test_micrographs() -> None:
    for name, correlation in (("WideField_BPAE_G_1", True), ("WideField_BPAE_B_1", True), ("TwoPhoton_MICE_1", False)):
        image = np.asarray(Image.open(MICROGRAPHS / f"{name}.png").convert("L"))[..., None]
        line = said(image, WHITE)
        assert (line is not None and "correlated between neighbouring pixels (0.5" in line) == correlation
