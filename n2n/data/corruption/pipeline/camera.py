"""The noise of photographs as phones and cameras save them: sensor, demosaicing, colours, filters, JPEG."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from n2n.data.corruption.base import Corruption, Level, check_level, draw_level, draw_log_level
from n2n.data.corruption.pipeline import jpeg, linear
from n2n.data.corruption.pipeline.colour import Colours, camera_matrices, process, unprocess
from n2n.data.corruption.pipeline.finish import Finish
from n2n.data.corruption.pipeline.mosaic import demosaic, filters, mosaic
from n2n.system.hardware import constant, known_to_be_deterministic

# Pixels of the sensor beyond the image's edges.
_MARGIN = 4
# Chances of the ways of demosaicing, in the order of mosaic.METHODS.
_METHODS = (0.45, 0.05, 0.05, 0.3, 0.15)
# Sigma of the unsharp mask's blur, in pixels of the image.
_RADIUS = (0.5, 1.5)
# log(read variance) against log(shot), with its spread (Brooks et al. 2019, section 3.1).
_READ_SLOPE, _READ_OFFSET, _READ_SPREAD = 2.18, 1.20, 0.26


@dataclass(frozen=True)
class Camera(Corruption):
    """Captures photographs with a camera's noise, and saves them as JPEG.

    The noise that results is correlated from pixel to pixel and depends on brightness. With the defaults, on photographs, half
    of the images have a standard deviation above 11, 8 and 11 of 255 in red, green and blue, and correlations above 0.53,
    0.17 and 0.06 to the next, second and third pixel.

    The steps, with new parameters for each image:

    1. Back to linear light on a sensor (Brooks et al. 2019): tone curve, gamma, colour matrix, white balance.
    2. Noise of photons and of reading out: variance ``shot``·x + read (Foi et al. 2008), normal as in Brooks et al.
    3. Bayer mosaic in one of its four positions, and demosaicing in one of five ways.
    4. White balance, colour matrix, gamma and tone curve, clipped as cameras do.
    5. Smoothing of brightness and of colour, enlarging or reducing, and an unsharp mask.
    6. JPEG with its grid of blocks anywhere, 8 bits.

    Both views of a pair get the same parameters and independent noise.

    Demosaicing is linear, so the noise goes through it without the photograph. What the camera renders with and without
    that noise differs by the noise that is added to the photograph. If the photograph were demosaiced too, the false
    colours of fine detail would count as clean, and a network would take coloured noise for them.

    What is clean: for a share ``soft`` of the images, the photograph gets the blur of a lens and step 5, as its noise does,
    because photographs are rarely sharp at the scale of their noise. :meth:`pair` returns that as the clean image. For the
    others it is the unchanged photograph, which :meth:`clean` returns for all.

    Clipping and the curvature of gamma and tone curve make a bias, as in real captures: the mean of many views is not quite
    the clean image. Measured on photographs with the defaults, in grey levels of 0 to 255 (and the noise's standard
    deviation there): +6.7 (12) below 16, +1.4 (15) from 16 to 32, -0.5 (18) from 32 to 64, -1.3 (17) from 64 to 192, -2.0 (6)
    above 240. This is far below the noise except in black, where a network learns shadows that are slightly too bright. The
    squared error is still the right loss, so ``zero_mean`` is true.

    Images of another number of channels than 3 are captured as so many grey images by a sensor without colour filters.
    Resampling multiplies by dense matrices, which suits patches; the cost grows with the cube of the side.

    Args:
        shot: variance of the photon noise of a white pixel of the sensor, in linear light; drawn evenly in its logarithm.
            Brooks et al. have 1e-4 to 1.2e-2. The read-out noise follows from it as they measured.
        white_balance: gain of red and of blue against green.
        colour: strength of the camera's colour matrix: 0 none, 1 as published.
        tone: chance of the tone curve.
        smooth: chance of smoothing, of brightness and of colour each.
        luma: sigma of the Gaussian that smooths brightness, in pixels of the sensor.
        chroma: sigma of the Gaussian that smooths colour.
        resample: chance of resampling.
        zoom: pixels of the image for each pixel of the sensor, when resampled.
        sharpen: chance of sharpening.
        amount: strength of the unsharp mask.
        quality: JPEG's quality, at most 100.
        halved: chance of half the resolution for colour in JPEG (4:2:0).
        soft: share of the images whose photograph is smoothed, resampled and sharpened as its noise is.
        lens: sigma of the lens's blur of these images, in pixels of the sensor.

    Raises:
        InputError: for a number out of range, or a range whose low end is above its high end.
    """

    shot: Level = (2.5e-4, 2e-2)
    white_balance: Level = (1.4, 2.4)
    colour: Level = (0.5, 1.0)
    tone: float = 0.5
    smooth: float = 0.2
    luma: Level = (0.0, 0.6)
    chroma: Level = (0.0, 1.5)
    resample: float = 0.4
    zoom: Level = (0.7, 1.2)
    sharpen: float = 0.4
    amount: Level = (0.0, 1.0)
    quality: Level = (70.0, 98.0)
    halved: float = 0.5
    soft: float = 0.5
    lens: Level = (0.2, 0.9)

    def __post_init__(self) -> None:
        for name in ("shot", "white_balance", "zoom"):
            check_level(name, getattr(self, name), above=True)
        for name in ("tone", "smooth", "resample", "sharpen", "halved", "soft", "colour"):
            check_level(name, getattr(self, name), most=1.0)
        for name in ("luma", "chroma", "amount", "lens"):
            check_level(name, getattr(self, name))
        check_level("quality", self.quality, most=100.0, above=True)

    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Capture each image once: N×C×H×W in [0, 1] -> the same, multiples of 1/255."""
        return self._capture(clean, generator, 1)[0]

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
        shot = draw_log_level(self.shot, images, generator)
        spread = torch.randn((N, 1, 1, 1), generator=generator, device=images.device) * _READ_SPREAD
        read = torch.exp(_READ_SLOPE * shot.log() + _READ_OFFSET + spread)
        scale = torch.where(happens(self.resample), drawn(self.zoom), 1.0)

        # The sensor's size is the same for all images, so that they are one batch.
        least = min(1.0, min(self.zoom) if isinstance(self.zoom, tuple | list) else self.zoom)
        height, width = (size + 2 * (math.ceil(size * (1 / least - 1) / 2) + _MARGIN) for size in (H, W))
        finish = Finish(
            (height, width),
            (H, W),
            scale=scale,
            luma=drawn(self.luma) * happens(self.smooth),
            chroma=drawn(self.chroma) * happens(self.smooth),
            radius=drawn(_RADIUS),
            amount=drawn(self.amount) * happens(self.sharpen),
        )
        soft = happens(self.soft)
        blur = drawn(self.lens) * soft
        onto = (
            linear.gaussian(blur, to) @ linear.resampling(1 / scale, size, to) for size, to in ((H, height), (W, width))
        )
        sensor = linear.apply(images, *onto)
        clean = torch.where(soft.unsqueeze(-1), finish(sensor).clamp(0, 1), images)
        light = unprocess(sensor, colours)
        places = filters(whole_number(4), height, width)
        # Sums of large tensors may not be deterministic; that of so few probabilities is.
        with known_to_be_deterministic():
            method = torch.multinomial(constant(_METHODS, images.device), N, replacement=True, generator=generator)
        raw = mosaic(light, places) if C == 3 else light
        deviation = (raw.clamp(min=0) * shot + read).sqrt()
        developed = [process(light, colours)]
        for _ in range(count):
            noise = torch.randn(raw.shape, generator=generator, device=images.device) * deviation
            noise = demosaic(noise, places, method) if C == 3 else noise
            developed.append(process(light + noise, colours))
        quality, halved, offset = (
            drawn(self.quality).flatten(),
            happens(self.halved).flatten(),
            whole_number(jpeg.GRID, 2),
        )
        views = [clean + finish(one - developed[0]) for one in developed[1:]]
        return [*(jpeg.compress(view, quality, halved, offset) for view in views), clean]

    def _colours(self, images: Tensor, generator: torch.Generator | None) -> Colours:
        """Draw how a camera renders colours; the brightness gain is that of Brooks et al., section 3.3."""
        N, C = images.shape[:2]
        brightness = 1 / (0.8 + 0.1 * torch.randn((N, 1, 1, 1), generator=generator, device=images.device)).clamp(
            0.5, 1.0
        )
        curved = torch.rand((N, 1, 1, 1), generator=generator, device=images.device) < self.tone
        if C != 3:
            return Colours(None, brightness, curved)
        red, blue = (draw_level(self.white_balance, images, generator) for _ in range(2))
        weights = torch.rand((N, 4), generator=generator, device=images.device)
        matrices = camera_matrices(
            weights / weights.sum(1, keepdim=True), draw_level(self.colour, images, generator)[..., 0]
        )
        return Colours(matrices, brightness * torch.cat([red, torch.ones_like(red), blue], 1), curved)
