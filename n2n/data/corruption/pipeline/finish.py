"""What cameras and editors do to developed images: smooth, resample, sharpen."""

from __future__ import annotations

import torch
from torch import Tensor

from n2n.data.corruption.pipeline import jpeg
from n2n.data.corruption.pipeline.linear import apply, gaussian, resampling


class Finish:
    """Smooths brightness and colour apart, resamples, and sharpens by an unsharp mask, with parameters for each of N images.

    All of it is linear, so the noise can be finished without its image. Parameters are N×1×1.

    Args:
        given: height and width of the images that come.
        wanted: height and width of those that go.
        scale: pixels wanted for each pixel given.
        luma: sigma of the Gaussian for brightness, in given pixels.
        chroma: the same for the differences of colour (JFIF's); images of other than 3 channels have none.
        radius: sigma of the unsharp mask's Gaussian, in wanted pixels.
        amount: how much of the difference from that Gaussian is added.
    """

    def __init__(
        self,
        given: tuple[int, int],
        wanted: tuple[int, int],
        *,
        scale: Tensor,
        luma: Tensor,
        chroma: Tensor,
        radius: Tensor,
        amount: Tensor,
    ) -> None:
        onto = [resampling(scale, *sizes) for sizes in zip(given, wanted, strict=True)]
        self._luma, self._chroma = (
            [step @ gaussian(sigma, size) for step, size in zip(onto, given, strict=True)] for sigma in (luma, chroma)
        )
        self._blur = [gaussian(radius, size) for size in wanted]
        self._amount = amount.unsqueeze(1)

    def __call__(self, images: Tensor) -> Tensor:
        """Finish images or their noise: N×C×H×W of the given size -> the wanted size, not clipped."""
        if images.shape[1] == 3:
            ycc = jpeg.to_ycc(images)
            images = jpeg.to_rgb(torch.cat([apply(ycc[:, :1], *self._luma), apply(ycc[:, 1:], *self._chroma)], 1))
        else:
            images = apply(images, *self._luma)
        return images + self._amount * (images - apply(images, *self._blur))
