"""The noise of photographs as phones and cameras save them: sensor, demosaicing, colours, filters, JPEG."""

# No postponed annotations: jsonargparse would not resolve those of these dataclasses, and would accept any value.

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from n2n.data.corruption.base import Corruption, Level, check_level, draw_level
from n2n.data.corruption.pipeline import jpeg, linear
from n2n.data.corruption.pipeline.colour import Colours, camera_matrices, process, unprocess
from n2n.data.corruption.pipeline.mosaic import METHODS, demosaic, filters, mosaic
from n2n.errors import InputError

# Pixels of the sensor beyond the image's edges.
_MARGIN = 4
# log(read variance) against log(shot), with its spread (Brooks et al. 2019, section 3.1).
_READ_SLOPE, _READ_OFFSET, _READ_SPREAD = 2.18, 1.20, 0.26


@dataclass(frozen=True)
class _Post:
    """What happens to developed images: parameters of N images, N×1×1 each."""

    scale: Tensor
    luma: Tensor
    chroma: Tensor
    radius: Tensor
    amount: Tensor


@dataclass(frozen=True)
class Camera(Corruption):
    """Captures photographs with a camera's noise, and saves them as JPEG.

    The steps, with new parameters for each image:

    1. Back to linear light on a sensor (Brooks et al. 2019): tone curve, gamma, colour matrix, white balance.
    2. Noise of photons and of reading out: variance ``shot``·x + read (Foi et al. 2008), normal as in Brooks et al.
    3. Bayer mosaic in one of its four positions, and demosaicing in one of four ways.
    4. White balance, colour matrix, gamma and tone curve, clipped as cameras do.
    5. Smoothing of brightness and of colour, enlarging or reducing, and an unsharp mask.
    6. JPEG with its grid of blocks anywhere, 8 bits.

    Both views of a pair get the same parameters and independent noise. The noise that results is correlated from pixel to
    pixel and depends on brightness.

    What is clean: for a share ``whole`` of the images, the photograph goes through all steps together with its noise, so
    the clean image is the photograph as this camera renders it without noise, before JPEG (:meth:`pair` returns it). For
    the others only the noise goes through steps 3 to 5 and is added to the unchanged photograph, which stays sharp.

    Clipping, the curvature of gamma and JPEG make a small bias: the mean of many views is not quite the clean image. With the
    defaults it is BIAS

    Images of another number of channels than 3 are captured as so many grey images by a sensor without colour filters.

    Args:
        shot: variance of the photon noise of a white pixel of the sensor, in linear light; drawn evenly in its logarithm. The
            read-out noise follows as Brooks et al. measured.
        white_balance: gain of red and of blue against green.
        colour: strength of the camera's colour matrix: 0 none, 1 as published.
        tone: chance of the tone curve.
        smooth: chance of smoothing.
        luma: sigma of the smoothing of brightness, in pixels of the sensor.
        chroma: sigma of the smoothing of colour.
        resample: chance of resampling.
        scale: pixels of the image for each pixel of the sensor, when resampled.
        sharpen: chance of sharpening.
        amount: strength of the unsharp mask.
        quality: JPEG's quality, at most 100.
        halved: chance of half the resolution for colour in JPEG (4:2:0).
        whole: share of the images whose photograph goes through the pipeline as its noise does.

    Raises:
        InputError: for a number out of range, or a range whose low end is above its high end.
    """

    shot: Level = (3e-4, 2e-2)
    white_balance: Level = (1.4, 2.4)
    colour: Level = (0.0, 1.0)
    tone: float = 0.5
    smooth: float = 0.5
    luma: Level = (0.0, 0.7)
    chroma: Level = (0.0, 2.0)
    resample: float = 0.5
    scale: Level = (0.75, 1.5)
    sharpen: float = 0.3
    amount: Level = (0.0, 1.0)
    quality: Level = (70.0, 98.0)
    halved: float = 0.5
    whole: float = 0.5

    def __post_init__(self) -> None:
        for name in ("shot", "white_balance", "scale"):
            check_level(name, getattr(self, name), above=True)
        for name in ("tone", "smooth", "resample", "sharpen", "halved", "whole", "colour"):
            check_level(name, getattr(self, name), most=1.0)
        for name in ("luma", "chroma", "amount"):
            check_level(name, getattr(self, name))
        check_level("quality", self.quality, most=100.0, above=True)

    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Capture each image once: N×C×H×W in [0, 1] -> the same, multiples of 1/255."""
        return self._capture(clean, generator, 1)[0]

    def views(self, clean: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Capture each image twice with the same parameters."""
        noisy, target, _ = self._capture(clean, generator, 2)
        return noisy, target

    def pair(self, images: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Capture each image twice; returns the two views and what the camera renders without noise."""
        noisy, target, clean = self._capture(images, generator, 2)
        return noisy, target, clean

    def _capture(self, images: Tensor, generator: torch.Generator | None, count: int) -> list[Tensor]:
        """Return ``count`` views with the same parameters, and the clean images."""
        N, C, H, W = images.shape

        def happens(chance: float) -> Tensor:
            return torch.rand((N, 1, 1), generator=generator, device=images.device) < chance

        def drawn(level: Level) -> Tensor:
            return draw_level(level, images, generator)[..., 0]

        def whole_number(below: int, *size: int) -> Tensor:
            return torch.randint(below, (N, *size), generator=generator, device=images.device)

        colours = self._colours(images, generator)
        shot = drawn(_logarithm(self.shot)).exp().unsqueeze(-1)
        spread = torch.randn((N, 1, 1, 1), generator=generator, device=images.device) * _READ_SPREAD
        read = torch.exp(_READ_SLOPE * shot.log() + _READ_OFFSET + spread)
        post = _Post(
            torch.where(happens(self.resample), drawn(self.scale), 1.0),
            *(drawn(level) * happens(self.smooth) for level in (self.luma, self.chroma)),
            0.5 + drawn((0.0, 1.0)),
            drawn(self.amount) * happens(self.sharpen),
        )

        # The sensor's size is the same for all images, so that they are one batch.
        least = min(1.0, min(self.scale) if isinstance(self.scale, tuple | list) else self.scale)
        height, width = (size + 2 * (math.ceil(size * (1 / least - 1) / 2) + _MARGIN) for size in (H, W))
        onto = linear.resampling(1 / post.scale, H, height), linear.resampling(1 / post.scale, W, width)
        light = unprocess(linear.apply(images, *onto), colours)
        places, method = filters(whole_number(4), height, width), whole_number(len(METHODS))
        raw = mosaic(light, places) if C == 3 else light
        deviation = (raw.clamp(min=0) * shot + read).sqrt()
        captures = [raw]
        for _ in range(count):
            noise = torch.randn(raw.shape, generator=generator, device=images.device)
            captures.append(torch.addcmul(raw, noise, deviation))
        developed = [process(demosaic(one, places, method) if C == 3 else one, colours) for one in captures]
        rendered = _finish(developed[0], post, H, W)
        clean = torch.where(happens(self.whole).unsqueeze(-1), rendered, images)
        quality, halved, offset = drawn(self.quality).flatten(), happens(self.halved).flatten(), whole_number(jpeg.GRID, 2)
        views = [clean + _finish(one - developed[0], post, H, W) for one in developed[1:]]
        return [*(jpeg.compress(view, quality, halved, offset) for view in views), clean]

    def _colours(self, images: Tensor, generator: torch.Generator | None) -> Colours:
        """Draw how a camera renders colours; the brightness gain is that of Brooks et al., section 3.3."""
        N, C = images.shape[:2]
        brightness = 1 / (0.8 + 0.1 * torch.randn((N, 1, 1, 1), generator=generator, device=images.device)).clamp(0.5, 1.0)
        curved = torch.rand((N, 1, 1, 1), generator=generator, device=images.device) < self.tone
        if C != 3:
            return Colours(None, brightness, curved)
        red, blue = (draw_level(self.white_balance, images, generator) for _ in range(2))
        weights = torch.rand((N, 4), generator=generator, device=images.device)
        matrices = camera_matrices(
            weights / weights.sum(1, keepdim=True), draw_level(self.colour, images, generator)[..., 0]
        )
        return Colours(matrices, brightness * torch.cat([red, torch.ones_like(red), blue], 1), curved)


def _logarithm(level: Level) -> Level:
    if isinstance(level, tuple | list):
        low, high = level
        return math.log(low), math.log(high)
    return math.log(level)


def _finish(images: Tensor, post: _Post, height: int, width: int) -> Tensor:
    """Smooth, resample and sharpen developed images; linear, so it can be applied to the noise alone."""
    sizes = ((images.shape[-2], height), (images.shape[-1], width))
    onto = [linear.resampling(post.scale, *size) for size in sizes]

    def smoothed(x: Tensor, sigma: Tensor) -> Tensor:
        return linear.apply(x, *(step @ linear.gaussian(sigma, size[0]) for step, size in zip(onto, sizes, strict=True)))

    if images.shape[1] == 3:
        ycc = jpeg.to_ycc(images)
        images = jpeg.to_rgb(torch.cat([smoothed(ycc[:, :1], post.luma), smoothed(ycc[:, 1:], post.chroma)], 1))
    else:
        images = smoothed(images, post.luma)
    return linear.sharpen(images, post.radius, post.amount)
