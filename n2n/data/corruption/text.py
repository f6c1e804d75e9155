"""Text written over images."""

from __future__ import annotations

import math
import string
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from n2n.data.corruption.base import Corruption
from n2n.data.corruption.levels import Level, check_level, draw_level, highest
from n2n.errors import InputError

_LETTERS = string.ascii_letters + string.digits
# Letters of a string: at least and at most.
_SHORTEST, _LONGEST = 3, 12
# Font sizes in use at a time, spread over the range: enough for variety, few enough to loop over.
_SIZES = 6
# Strings drawn, as a multiple of those that cover the wanted fraction on average.
_RESERVE = 1.5


class _Font(NamedTuple):
    """The letters of one size: ink is letters×points×2 (row, column), below 2·size; advance is letters, in pixels."""

    ink: Tensor
    advance: Tensor
    mean_ink: float
    mean_advance: float


@lru_cache(maxsize=64)
def _font(size: int, device: torch.device) -> _Font:
    """Rasterise Pillow's own font once for each size and device, in black and white: a pixel is text or it is not."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size)
    points, advance = [], []
    for letter in _LETTERS:
        picture = Image.new("L", (2 * size, 2 * size))
        ImageDraw.Draw(picture).text((0, 0), letter, fill=255, font=font)
        points.append(np.argwhere(np.asarray(picture) >= 128))
        advance.append(math.ceil(font.getlength(letter)))
    # All letters as many points as the one with most: writing a point twice does no harm.
    most = max(map(len, points))
    ink = np.stack([np.resize(letter, (most, 2)) for letter in points]).astype(np.int64)
    mean_ink = sum(map(len, points)) / len(points)
    mean_advance = sum(advance) / len(advance)
    return _Font(torch.from_numpy(ink).to(device), torch.tensor(advance, device=device), mean_ink, mean_advance)


@dataclass(frozen=True)
class TextOverlay(Corruption):
    """Writes random strings over an image, of random length, size, colour and place, also over each other.

    As in Lehtinen et al. 2018 (section 3.2), who trained with p drawn from [0, 0.5] and tested with 0.25. The colours have
    nothing to do with the image, so the mean of a noisy pixel is pulled towards grey; but most draws leave it as it is
    while p is below 0.5, so its median is the clean image, and L1 is the right loss. MSE is not.

    The strings are written until the next would cover more than the wanted fraction, so that p is reached from below
    within one string. Where one string alone covers more than p (large letters on small images), no text is written.

    Args:
        p: fraction of the pixels under text. A number, or a range from which each image draws its own, uniformly.
        size: smallest and largest size of the font in pixels.

    Raises:
        InputError: unless p lies in [0, 1] and the sizes between 4 and 256, and a range's ends the right way round.
    """

    p: Level = 0.25
    size: tuple[int, int] = (8, 24)

    zero_mean: ClassVar[bool] = False
    suited_loss: ClassVar[str] = "torch.nn.L1Loss"

    def __post_init__(self) -> None:
        check_level("p", self.p, most=1.0)
        if len(self.size) != 2 or not 4 <= self.size[0] <= self.size[1] <= 256:
            raise InputError(
                f"size is {self.size}: expected a range [low, high] of font sizes between 4 and 256 pixels"
            )

    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Write the text: N×C×H×W -> the same shape."""
        N, C, H, W = clean.shape
        budget = (draw_level(self.p, clean, generator) * (H * W)).long()
        owner, strings = self._owners(clean, generator)
        # Strings are written in the order of their numbers, each under those before it, so the first k strings cover the
        # pixels whose owner is below k, and the number that fits the budget is found by counting.
        rows = torch.arange(N, device=clean.device)[:, None] * (strings + 1)
        covered = owner.new_zeros(N * (strings + 1)).scatter_add_(
            0, (owner + rows).flatten(), torch.ones_like(owner).flatten()
        )
        covered = covered.view(N, -1)[:, :strings].cumsum(1)
        written = (covered <= budget.view(N, 1)).sum(1, keepdim=True)
        colours = torch.rand(N, C, strings + 1, generator=generator, device=clean.device)
        text = colours.gather(2, owner[:, None].expand(N, C, -1))
        under_text = (owner < written).view(N, 1, H, W)
        return torch.where(under_text, text.view(N, C, H, W), clean)

    def _owners(self, clean: Tensor, generator: torch.Generator | None) -> tuple[Tensor, int]:
        """Place more strings than needed: gives the uppermost string of each pixel, N×(H·W), and how many strings there are.

        A pixel without text belongs to a string of the highest number, which does not exist.
        """
        N, _, H, W = clean.shape
        device = clean.device
        sizes = sorted({round(float(size)) for size in np.linspace(*self.size, _SIZES)})
        each = self._strings_each([_font(size, device) for size in sizes], sizes, H, W)
        strings = each * len(sizes)
        # Numbers in random order, so that the sizes mix.
        numbers = torch.rand(N, strings, generator=generator, device=device).argsort(1)
        # A margin that holds any letter, so that no point needs a test of whether it falls into the image.
        margin = 2 * sizes[-1]
        wide = W + 2 * margin
        owner = torch.full((N, (H + 2 * margin) * wide), strings, device=device)

        for i, size in enumerate(sizes):
            font, number = _font(size, device), numbers[:, i * each : (i + 1) * each]
            letters = torch.randint(len(_LETTERS), (N, each, _LONGEST), generator=generator, device=device)
            length = torch.randint(_SHORTEST, _LONGEST + 1, (N, each, 1), generator=generator, device=device)
            advance = font.advance[letters]
            ends = advance.cumsum(2)
            width = ends.gather(2, length - 1)
            # From just outside one border to just outside the other, so that no part of the image is favoured.
            top, left = torch.rand(2, N, each, 1, generator=generator, device=device)
            row = (top * (H + size)).long() - size
            column = (left * (W + width)).long() - width + ends - advance
            # What lies outside, and the letters past the end of the string, go into the margin.
            past = torch.arange(_LONGEST, device=device) >= length
            column = column.masked_fill(past, W).clamp_(-margin, W)
            start = (row + margin) * wide + column + margin
            places = start[..., None] + (font.ink[..., 0] * wide + font.ink[..., 1])[letters]
            # The lowest number is the same in whatever order the points are written.
            owner.scatter_reduce_(1, places.flatten(1), number[..., None, None].expand(places.shape).flatten(1), "amin")
        owner = owner.view(N, -1, wide)[:, margin : margin + H, margin : margin + W]
        return owner.flatten(1), strings

    def _strings_each(self, fonts: list[_Font], sizes: list[int], H: int, W: int) -> int:
        """Give how many strings of each size cover the highest p, with some to spare."""
        length = (_SHORTEST + _LONGEST) / 2
        # Points of a string that fall into the image, on average, as a fraction of the image.
        density = sum(
            font.mean_ink * length / ((H + size) * (W + length * font.mean_advance))
            for font, size in zip(fonts, sizes, strict=True)
        )
        # Points thrown at random leave exp(-density) of the pixels free.
        return math.ceil(_RESERVE * -math.log(1 - min(highest(self.p), 0.99)) / density) + 1
