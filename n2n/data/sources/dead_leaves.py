"""A source of generated photographs: the dead leaves model.

Images are covered by occluding shapes whose sizes follow a power law. Such images have the edges, the flat areas and the scale
invariance of natural images (Lee, Mumford and Huang, "Occlusion models for natural images", IJCV 2001). Networks trained on
them alone denoise real photographs well (Achddou, Gousseau and Ladjal, "Synthetic images as a regularity prior for image
restoration neural networks", SSVM 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from n2n.data.corruption import Pixels
from n2n.data.images.base import LUMA
from n2n.data.sources.sampled import Photos, SampledPairs
from n2n.errors import InputError
from n2n.system.text import counted


def texture_bank(seed: int, count: int = 24, size: int = 512) -> NDArray[np.float32]:
    """Draw periodic textures with zero mean and unit variance, count×size×size float32.

    Two thirds are noise whose amplitude decreases with frequency as a power law, as in stone, foliage or skin; some of it is
    stretched in one direction, as in fur or wood. The others are bent stripes.
    """
    rng = np.random.default_rng([seed, 100])
    fy, fx = np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    bank = np.empty((count, size, size), np.float32)
    for i, texture in enumerate(bank):
        angle = rng.uniform(0, np.pi)
        along, across = fx * np.cos(angle) + fy * np.sin(angle), fy * np.cos(angle) - fx * np.sin(angle)
        noise = np.fft.rfft2(rng.standard_normal((size, size)))
        if i % 3 < 2:
            stretch = rng.choice([1.0, 1.0, 4.0])
            radius = np.hypot(along * stretch, across) + 1 / size
            texture[:] = np.fft.irfft2(noise * radius ** -rng.uniform(0.6, 1.8), s=(size, size))
        else:
            # Whole periods make the texture seamless; the smooth noise bends the stripes.
            bend = np.fft.irfft2(noise * (np.hypot(fx, fy) + 2 / size) ** -2.5, s=(size, size))
            waves = np.rint(np.array([np.cos(angle), np.sin(angle)]) * np.exp(rng.uniform(np.log(8), np.log(96))))
            phase = waves[0] * x + waves[1] * y + rng.uniform(0, 1.5) * bend / bend.std()
            texture[:] = np.tanh(rng.uniform(0.5, 4.0) * np.sin(2 * np.pi * phase))
        texture -= texture.mean()
        texture /= texture.std()
    return bank


def _outline(kind: int, x: float, y: float, r: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Return the corners of a leaf of radius near ``r``: a triangle, a bar or an irregular polygon."""
    if kind == 0:
        angles, radii = np.sort(rng.uniform(0, 2 * np.pi, 3)), np.full(3, r * 1.3)
    elif kind == 1:
        half = np.arctan(rng.uniform(0.03, 0.7))
        angles, radii = np.array([-half, half, np.pi - half, np.pi + half]), np.full(4, r * 1.2)
    else:
        count = int(rng.integers(5, 12))
        angles = (np.arange(count) + rng.uniform(0, 0.9, count)) * (2 * np.pi / count)
        radii = r * rng.uniform(0.5, 1.4, count)
    angles = angles + rng.uniform(0, 2 * np.pi)
    return list(zip((x + radii * np.cos(angles)).tolist(), (y + radii * np.sin(angles)).tolist(), strict=True))


def _leaves(size: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """Paint leaves over each other; returns the number of the visible leaf of each pixel, and radii and centres (x, y)."""
    # The smallest radius and the exponent vary between images, so that they differ in the amount of small detail.
    smallest, largest = np.exp(rng.uniform(np.log(2), np.log(14))), rng.uniform(0.3, 0.8) * size
    exponent = rng.uniform(2.2, 3.0)
    # Enough leaves to cover the image several times on average.
    a, u = 1 - exponent, rng.uniform(size=8192)
    radii = (smallest**a + u * (largest**a - smallest**a)) ** (1 / a)
    covered = np.cumsum(np.pi * radii**2) / (size + 2 * radii.mean()) ** 2
    radii = radii[: max(8, int(np.searchsorted(covered, 6)))]
    count = len(radii)
    labels = Image.new("I", (size, size), 0)
    paint = ImageDraw.Draw(labels)
    centres, kinds = rng.uniform(-0.1 * size, 1.1 * size, (count, 2)), rng.integers(0, 6, count)
    stretch = rng.uniform(0.4, 1.0, (count, 2))
    for leaf in range(1, count):
        (x, y), r = centres[leaf].tolist(), float(radii[leaf])
        if kinds[leaf] >= 3:
            dx, dy = (stretch[leaf] * r).tolist()
            paint.ellipse((x - dx, y - dy, x + dx, y + dy), fill=leaf)
        else:
            paint.polygon(_outline(int(kinds[leaf]), x, y, r, rng), fill=leaf)
    # Leaf 0 is the background, as large as the image.
    radii[0], centres[0] = size, size / 2
    return np.asarray(labels).astype(np.intp), radii.astype(np.float32), centres.astype(np.float32)


def draw(size: int, rng: np.random.Generator, textures: NDArray[np.float32]) -> Pixels:
    """Draw one image of dead leaves, size×size×3 uint8.

    Args:
        size: height and width in pixels.
        rng: random numbers; the image depends on nothing else.
        textures: from :func:`texture_bank`.
    """
    labels, radii, centres = _leaves(size, rng)
    count, period = len(radii), textures.shape[1]
    # Each scene has its own mean and spread of brightness, and of tint.
    light = rng.uniform(0.15, 0.85) + rng.uniform(0.12, 0.42) * rng.standard_normal(count)
    tint = rng.normal(0, rng.uniform(0.01, 0.12), 3) + rng.normal(0, rng.uniform(0.03, 0.2), (count, 3))
    base = (np.abs(light)[:, None] + tint - tint @ LUMA[:, None]).clip(0.0, 1.0).astype(np.float32)
    # Shading: brightness changes linearly across a leaf, mostly by less than a third of the range.
    slope = (rng.normal(0, 0.12, (2, count)) / np.maximum(radii, 8)).astype(np.float32)
    # Texture: strong on few leaves, weak on most.
    strength = (rng.uniform(0.03, 0.15) * np.exp(rng.normal(0, 0.9, count))).clip(0, 0.25).astype(np.float32)
    kind = rng.integers(0, len(textures), count)
    shift = rng.integers(0, period, (2, count))
    zoom = rng.choice(np.array([1, 1, 2], np.intp), count)[labels]
    y, x = np.arange(size, dtype=np.float32)[:, None], np.arange(size, dtype=np.float32)
    rows = (np.arange(size)[:, None] * zoom + shift[0][labels]) % period
    columns = (np.arange(size) * zoom + shift[1][labels]) % period
    detail = textures[kind[labels], rows, columns] * strength[labels]
    detail += (x - centres[labels, 0]) * slope[0][labels] + (y - centres[labels, 1]) * slope[1][labels]
    pixels = base[labels] + detail[..., None]
    picture = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    # A lens blurs: without this every edge would be one pixel wide.
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.8)))))


class DeadLeaves(SampledPairs):
    """Generated photographs, pixel-sampled like the course's data. Needs no files and no network connection.

    The pairs are drawn once, in about a minute for 50,000 of them, and kept in the cache folder. They depend only on the
    arguments.

    Args:
        pairs: number of training pairs.
        val_pairs: number of validation pairs, from other images.
        crops_per_image: pairs cut from each generated image.
        size: height and width of a generated image in pixels.
        channels: 3, or 1 for grey images.
        crop: side of a crop in pixels of the generated image.
        cell: side of a cell in pixels; views are ``crop // cell`` pixels wide.
        seed: of images, crops and noise.
        cache_dir: where the pairs are kept; the user's cache folder if None.

    Raises:
        InputError: for numbers out of range.
    """

    kind = "dead-leaves"
    verb = "Drawing"

    def __init__(
        self,
        pairs: int = 50_000,
        val_pairs: int = 1_000,
        crops_per_image: int = 25,
        size: int = 512,
        channels: Literal[1, 3] = 3,
        crop: int = 256,
        cell: int = 8,
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        if min(pairs, val_pairs, crops_per_image) < 1:
            raise InputError(
                f"pairs is {pairs}, val_pairs {val_pairs} and crops_per_image {crops_per_image}: expected at least 1 of each"
            )
        if size < crop:
            raise InputError(f"size is {size}: expected at least the {crop} px of a crop")
        super().__init__(channels, crop, cell, seed, cache_dir)
        self.counts, self.crops_per_image, self.size = (pairs, val_pairs), crops_per_image, size

    def _plan(self, held_out: bool) -> tuple[dict[str, Any], Callable[[], Photos]]:
        pairs, each = self.counts[held_out], self.crops_per_image
        own = {"source": "dead leaves", "version": 2, "pairs": pairs, "crops_per_image": each, "size": self.size}

        def find() -> Photos:
            images, textures = -(-pairs // each), texture_bank(self.seed)

            def photo(i: int) -> Pixels:
                image = draw(self.size, np.random.default_rng([self.seed, 200 + held_out, i]), textures)
                return image if self.channels == 3 else np.asarray(Image.fromarray(image).convert("L"))[..., None]

            remark = f"{counted(pairs, 'pair')} from {counted(images, 'generated image')}"
            return Photos(images, photo, pairs, {"remarks": [remark]})

        return self._recipe(held_out, **own), find
