from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from n2n import Denoiser
from n2n.errors import InputError


class MeanOfChannels(nn.Module):
    """Each channel becomes the mean of all."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1, keepdim=True).expand_as(x)


class Halves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2


def means(channels: int, **options: str) -> Denoiser:
    return Denoiser(MeanOfChannels(), channels, "cpu", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "axes", "channel_axis"),
    [
        ((2, 8, 9), "CYX", 0),
        ((8, 9, 2), "YXC", 2),
        ((8, 2, 9), "YCX", 1),
        ((3, 2, 8, 9), "ZCYX", 1),
        ((2, 3, 8, 9), "CTYX", 0),
        ((2, 3, 4, 9, 8), "SQZXY", 0),
    ],
)
def test_channels_go_together_wherever_they_are(shape: tuple[int, ...], axes: str, channel_axis: int) -> None:
    noisy = np.random.default_rng(0).random(shape).astype(np.float32)
    denoised = means(2, axes=axes)(noisy)
    assert np.allclose(denoised, noisy.mean(channel_axis, keepdims=True), atol=1e-6)
    assert denoised.shape == shape


class RisingColumns(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.arange(x.shape[-1])


def test_rows_are_rows_and_columns_are_columns() -> None:
    noisy = np.random.default_rng(0).random((8, 9)).astype(np.float32)
    for axes, image in (("YX", noisy), ("XY", noisy.T)):
        denoised = Denoiser(RisingColumns(), 1, "cpu", axes=axes, range=(0, 1))(image)
        assert np.allclose(denoised if axes == "YX" else denoised.T, noisy * np.arange(9), atol=1e-5)


def test_channels_that_do_not_fit_go_one_by_one() -> None:
    noisy = np.random.default_rng(0).random((3, 8, 9)).astype(np.float32)
    with pytest.warns(UserWarning, match="3 channels and the network 2: each is denoised by itself"):
        assert np.allclose(means(2, axes="CYX")(noisy), noisy, atol=1e-6)
    assert np.allclose(means(1, axes="CYX")(noisy), noisy, atol=1e-6)
    # The samples of a pixel are never parted.
    with pytest.raises(InputError, match="2 channels and got 3"):
        means(2, axes="SYX")(noisy)


def test_one_channel_is_grey(recwarn: pytest.WarningsRecorder) -> None:
    noisy = np.random.default_rng(0).random((8, 9, 1)).astype(np.float32)
    assert np.allclose(means(3)(noisy), noisy)
    assert not [found for found in recwarn if "channel" in str(found.message)]


def test_a_stack_of_slices_is_denoised_slice_by_slice() -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (12, 40, 50), dtype=np.uint8)
    assert np.array_equal(means(1)(noisy), noisy)
    assert np.array_equal(means(3, axes="ZYX")(noisy), noisy)
    # 160 columns are no channels.
    assert np.array_equal(means(3)(noisy), noisy)


@pytest.mark.parametrize("shape", [(3, 8, 9), (2, 3, 8, 9), (5, 2, 3, 8, 9)])
def test_an_array_that_can_be_read_in_two_ways_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        InputError, match=r"may be images of 3 channels, or 3 grey ones: give axes= Q*CYX or axes= Q*QYX"
    ):
        means(3)(np.zeros(shape, np.float32))
    # A grey network does the same in both cases.
    assert Denoiser(Halves(), 1, "cpu")(np.ones(shape, np.float32)).max() == 0.5


@pytest.mark.parametrize("shape", [(40, 56, 5), (2, 256, 300, 31)])
@pytest.mark.parametrize("channels", [1, 3, None])
def test_a_thin_last_axis_may_be_channels(shape: tuple[int, ...], channels: int | None) -> None:
    noisy = np.zeros(shape, np.float32)
    with pytest.raises(InputError, match=rf"px and {shape[-1]} channels, or .* px: give axes= Q?YXC or axes= Q*QYX"):
        Denoiser(nn.Identity(), channels, "cpu")(noisy)
    axes = "YXC".rjust(len(shape), "Q")
    assert Denoiser(nn.Identity(), channels, "cpu", axes=axes)(noisy).shape == shape
    # Stacks of small images are plain.
    assert Denoiser(nn.Identity(), channels, "cpu")(np.zeros((40, 12, 9), np.float32)).shape == (40, 12, 9)


def test_a_tensor_has_its_channels_first() -> None:
    noisy = torch.rand(2, 3, 8, 9)
    mean = noisy.mean(1, keepdim=True).expand_as(noisy)
    assert torch.allclose(means(3)(noisy), mean, atol=1e-6)
    assert torch.allclose(means(3)(noisy[0]), mean[0], atol=1e-6)
    with pytest.raises(InputError, match="give axes='YXC'"):
        means(3)(torch.rand(8, 9, 3))
    last = torch.rand(8, 9, 3)
    assert torch.allclose(means(3, axes="YXC")(last), last.mean(2, keepdim=True).expand_as(last), atol=1e-6)
    with pytest.raises(InputError, match="axes= names them"):
        means(3)(torch.rand(1, 1, 3, 8, 9))


def test_axes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="one letter for each of the 2 axes of 8×9"):
        means(1, axes="ZYX")(np.zeros((8, 9), np.float32))


@pytest.mark.parametrize("count", [1, 3])
def test_tensors_whose_last_axis_may_be_channels_are_refused(count: int) -> None:
    last = torch.rand(10, 64, 65, count)
    with pytest.raises(InputError, match=rf"\(10, 64, 65, {count}\): expected \(N×\)C×H×W; .* give axes='QYXC'"):
        means(count)(last)
    assert means(count, axes="QYXC")(last).shape == last.shape
