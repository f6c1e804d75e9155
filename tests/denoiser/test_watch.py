"""What is said of an image's values once it was denoised."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor, nn

from n2n import Denoiser
from n2n.cli import main
from n2n.data.value_range import TrainedRange, ValueRange
from n2n.denoiser.watch import Watch
from tests.images import SHARED
from tests.write_checkpoints import same, write_checkpoint

RNG = np.random.default_rng(0)
MICROGRAPHS = SHARED / "testsets" / "microscopy" / "noisy"


def lines(noisy: np.ndarray, denoised: np.ndarray, scale: tuple[float, float], guessed: bool = False) -> list[str]:
    watch = Watch(ValueRange(*scale), guessed)
    for rows in zip(np.array_split(noisy[..., None], 5), np.array_split(denoised[..., None], 5), strict=True):
        watch.add(*rows, None)
    return watch.remarks()


@pytest.mark.parametrize(
    ("low", "high", "dtype", "said"),
    [
        (300, 4090, "uint16", "--range 0 4095"),
        (0, 16383, "uint16", "--range 0 16383"),
        (0, 200, "uint16", "--range 0 255"),
        (0, 20000, "uint16", None),
        (0, 65535, "uint16", None),
        (900, 1500, "int16", "--range 0 2047"),
        (-900, 1500, "int16", "--range -2048 2047"),
        (-900, 30000, "int16", None),
    ],
)
def test_a_small_part_of_the_range_is_said(low: int, high: int, dtype: str, said: str | None) -> None:
    values = RNG.integers(low, high + 1, (200, 60)).astype(dtype)
    info = np.iinfo(dtype)
    for hot in (False, True):
        if hot and said is not None:
            values[3, 4] = info.max
        (*found,) = lines(values, values, (info.min, info.max), guessed=True)
        assert (found == []) if said is None else (said in found[0] and ("outliers" in found[0]) == hot)
    assert lines(values, values, (info.min, info.max)) == []


def test_floats_of_a_few_bits_are_said() -> None:
    values = RNG.uniform(-0.01, 0.06, (50, 60)).astype(np.float32)
    assert "--range 0 0.0625" in lines(values, values, (0, 1), guessed=True)[0]
    assert lines(values * 10, values * 10, (0, 1), guessed=True) == []
    assert lines(-values - 1, -values - 1, (0, 1), guessed=True) == []


@pytest.mark.parametrize(("shift", "said"), [(0, False), (0.7, False), (-1.3, True), (4, True)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_shift_of_the_mean_is_said(shift: float, said: bool, dtype: str) -> None:
    clean = np.tile(np.linspace(20, 40, 100), (120, 1))
    noisy = np.clip(np.rint(clean + RNG.normal(0, 10, clean.shape)), 0, 255).astype(dtype)
    found = lines(noisy, (clean + shift).astype("float32"), (0, 255))
    assert bool(found) == said
    if said:
        assert f"denoising shifts its mean by {'-' if shift < 0 else '+'}" in found[0]
        assert "choose another checkpoint, or give a range such as --range 0 150" in found[0]


def test_few_pixels_shift_by_chance() -> None:
    assert not any(lines(RNG.normal(50, 10, (8, 8)), np.full((8, 8), 50.0), (0, 255)) for _ in range(50))
    # By more than four standard errors of 10 / 8 only once in 16,000.
    assert lines(RNG.normal(50, 10, (8, 8)), np.full((8, 8), 59.0), (0, 255))


@pytest.mark.parametrize(("shift", "said"), [(0.8, False), (1.2, True)])
@pytest.mark.parametrize("low", [0.0, 300.0])
def test_a_shift_is_compared_with_the_contrast(low: float, shift: float, said: bool) -> None:
    # A standard deviation of 50, whose fiftieth is 1.
    clean = low + np.tile(np.linspace(13.4, 186.6, 100), (20, 1))
    found = lines(clean, clean + shift, (low, low + 255))
    assert bool(found) == said
    assert not said or "shifts its mean by +1.2 (+1.2 %)" in found[0]


@pytest.mark.parametrize("value", [0, 0.1, 100, 255])
def test_an_image_of_one_value_has_no_noise_to_compare_with(value: float) -> None:
    noisy = np.full((64, 64), value, np.float32)
    assert lines(noisy, noisy + RNG.normal(0.1, 0.2, noisy.shape).astype(np.float32), (0, 255)) == []


def test_errors_that_repeat_with_the_networks_stride_cancel() -> None:
    # So many rows that not all of them are looked at.
    noisy = RNG.normal(50, 10, (640, 64))
    rows = np.arange(640)[:, None] % 4
    assert lines(noisy, noisy - (noisy - noisy.mean()) + np.where(rows == 0, 3, -1), (0, 255)) == []


def test_gaps_do_not_count() -> None:
    watch = Watch(ValueRange(0, 65535), guessed=True)
    noisy = RNG.integers(0, 4096, (64, 64, 1)).astype(np.uint16)
    noisy[:, :9], noisy[60, 60:62, 0] = 65535, (0, 4095)
    watch.add(noisy, noisy, noisy == 65535)
    assert "its values go from 0 to 4095 only, a" in watch.remarks()[0]
    watch = Watch(ValueRange(0, 255), guessed=False)
    gaps = np.arange(64)[None, :, None].repeat(64, 0) > 15
    before, after = (np.where(gaps, np.nan, image) for image in (RNG.normal(50, 10, gaps.shape), 54.0))
    watch.add(before, after, gaps)
    assert "denoising shifts its mean by +" in watch.remarks()[0]


@pytest.mark.parametrize("suffix", [".tif", ".png", ".npy"])
def test_predict_says_that_12_bits_are_in_16(suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    values = RNG.integers(0, 4096, (64, 64)).astype(np.uint16)
    values[50, :2] = 0, 4095
    tifffile.imwrite("x.tif", values)
    Image.fromarray(values).save("x.png")
    np.save("x.npy", values)
    write_checkpoint("same.ckpt", same, channels=1)
    command = ["predict", "--ckpt_path", "same.ckpt", "--input", f"x{suffix}", "--output", "out", "--device", "cpu"]
    assert main(command) == 0
    assert "its values go from 0 to 4095 only, a small part of the range of 0 to 65535" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--range", "0", "4095"]) == 0
    assert "warning" not in capsys.readouterr().err


class Darker(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, 0.1)


def test_arrays_are_watched() -> None:
    noisy = RNG.normal(30, 5, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    with pytest.warns(UserWarning, match="the image: denoising shifts its mean by -3"):
        Denoiser(Darker(), 3, "cpu")(noisy)
    with pytest.warns(UserWarning, match="--range 0 4095"):
        Denoiser(nn.Identity(), 3, "cpu")(RNG.integers(0, 4096, (64, 64, 3)).astype(np.uint16))


@pytest.mark.parametrize(
    ("trained", "dtype", "white", "guessed"),
    [
        ("uint8", "uint8", None, False),
        ("uint8", "uint16", None, True),
        ("uint8", "uint16", 4095, False),
        ("uint8", "float32", None, True),
        ("float32", "float64", None, False),
    ],
)
def test_a_range_is_guessed_for_other_dtypes_alone(
    trained: str, dtype: str, white: float | None, guessed: bool
) -> None:
    denoiser = Denoiser(nn.Identity(), 1, "cpu", trained=TrainedRange.from_plain([0, 1], trained))
    assert denoiser.watch(np.dtype(dtype), white).guessed == guessed
    assert not Denoiser(nn.Identity(), 1, "cpu", range=(0, 9)).watch(np.dtype(dtype), white).guessed


@pytest.mark.parametrize("bits", [4, 12])
def test_packed_bits_are_denoised_as_8_bits_are(bits: int, capsys: pytest.CaptureFixture[str]) -> None:
    step = (2**bits - 1) / 15
    values = np.rint(RNG.integers(0, 16, (40, 56)) * step).astype(np.uint8 if bits < 8 else np.uint16)
    tifffile.imwrite("packed.tif", values, bitspersample=bits)
    Image.fromarray((np.rint(values / step) * 17).astype(np.uint8)).save("plain.png")
    for name in ("packed.tif", "plain.png"):
        command = ["predict", "--ckpt_path", "quick", "--input", name, "--output", "out", "--device", "cpu"]
        assert main(command) == 0
    assert (
        f"it has {bits}-bit values and the network was trained on uint8: 0 to {2**bits - 1}" in capsys.readouterr().err
    )
    with tifffile.TiffFile("out/packed.tif") as tiff:
        packed, stored = tiff.asarray(), tiff.pages.first.bitspersample
    assert stored == bits
    plain = np.asarray(Image.open("out/plain.png")).astype(float)
    assert np.abs(packed / (2**bits - 1) - plain / 255).max() <= 0.51 * (1 / (2**bits - 1) + 1 / 255)


@pytest.mark.skipif(not MICROGRAPHS.is_dir(), reason="needs the micrographs")
@pytest.mark.parametrize(
    ("name", "keeps"), [("micrograph", True), ("gaussian", True), ("course", True), ("quick", False)]
)
def test_dim_micrographs_keep_their_mean_or_it_is_said(
    name: str, keeps: bool, recwarn: pytest.WarningsRecorder
) -> None:
    dim = np.asarray(Image.open(MICROGRAPHS / "Confocal_MICE_1.png").convert("L"))[:192, :192]
    deep = dim.astype(np.uint16) * 257
    denoised = Denoiser.from_checkpoint(name, device="cpu", range=(0, 65535))(deep)
    assert (abs(denoised.mean() / deep.mean() - 1) < 0.01) == keeps
    assert any("shifts its mean" in str(found.message) for found in recwarn) != keeps
