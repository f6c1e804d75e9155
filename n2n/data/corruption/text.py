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

from n2n.data.corruption.base import Corruption, Level, check_level, draw_level, highest
from n2n.errors import InputError

_LETTERS = string.ascii_letters + string.digits
# Smallest and largest number of letters in a string.
_SHORTEST, _LONGEST = 3, 12
# Number of font sizes, spread over the range: enough for variety, few enough for a loop.
_SIZES = 6
# Number of strings drawn, as a multiple of the number that covers the wanted fraction on average.
_RESERVE = 1.5


class _Font(NamedTuple):
    """The letters of one size: ``ink`` is letters×points×2 (row, column), below 2·size; ``advance`` is in pixels per letter."""

    ink: Tensor
    advance: Tensor
    mean_ink: float
    mean_advance: float


@lru_cache(maxsize=64)
def _font(size: int, device: torch.device) -> _Font:
    """Rasterise Pillow's default font in black and white, once for each size and device."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size)
    points, advance = [], []
    for letter in _LETTERS:
        picture = Image.new("L", (2 * size, 2 * size))
        ImageDraw.Draw(picture).text((0, 0), letter, fill=255, font=font)
        points.append(np.argwhere(np.asarray(picture) >= 128))
        advance.append(math.ceil(font.getlength(letter)))
    # All letters get the same number of points, by repetition: writing a point twice does no harm.
    counts = list(map(len, points))
    ink = torch.from_numpy(np.stack([np.resize(letter, (max(counts), 2)) for letter in points]).astype(np.int64))
    means = sum(counts) / len(counts), sum(advance) / len(advance)
    return _Font(ink.to(device), torch.tensor(advance, device=device), *means)


@dataclass(frozen=True)
class TextOverlay(Corruption):
    """Writes random strings over an image, of random length, size, colour and place. Strings may overlap.

    As in Lehtinen et al. 2018 (section 3.2), who trained with p drawn from [0, 0.5] and tested with 0.25. The colours do not
    depend on the image, so the mean of a noisy pixel is closer to grey than the clean one, and MSE is the wrong loss. With p
    below 0.5 most draws do not change a pixel. Its median is then the clean value, so L1 is the right loss.

    Strings are written until the next one would exceed the wanted fraction, so the covered fraction is at most p. If a single
    string exceeds p (large letters on a small image), no text is written.

    Args:
        p: fraction of the pixels under text. A number, or a range [low, high] from which that of each image is drawn uniformly.
        size: smallest and largest size of the font in pixels.

    Raises:
        InputError: unless p lies in [0, 1] and the sizes between 4 and 256, or for a range whose low end is above its high end.
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
        # Strings are written in the order of their numbers, each below the earlier ones. So the first k strings cover the
        # pixels whose owner is below k, and counting gives the number of strings that fits the budget.
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
        """Place more strings than needed; returns the uppermost string of each pixel, N×(H·W), and the number of strings.

        The owner of a pixel without text is the number of strings, which is no string's.
        """
        N, _, H, W = clean.shape
        device = clean.device
        sizes = sorted({round(float(size)) for size in np.linspace(*self.size, _SIZES)})
        fonts = [_font(size, device) for size in sizes]
        each = self._strings_each(fonts, sizes, H, W)
        strings = each * len(sizes)
        # Numbers in random order, to mix the sizes.
        numbers = torch.rand(N, strings, generator=generator, device=device).argsort(1)
        # The margin is wider than any letter, so that no point needs a test of whether it is inside.
        margin = 2 * sizes[-1]
        wide = W + 2 * margin
        owner = torch.full((N, (H + 2 * margin) * wide), strings, device=device)

        for size, font, number in zip(sizes, fonts, torch.split(numbers, each, dim=1), strict=True):
            letters = torch.randint(len(_LETTERS), (N, each, _LONGEST), generator=generator, device=device)
            length = torch.randint(_SHORTEST, _LONGEST + 1, (N, each, 1), generator=generator, device=device)
            advance = font.advance[letters]
            ends = advance.cumsum(2)
            width = ends.gather(2, length - 1)
            # From just outside one border to just outside the other, so that all parts of the image are equally likely.
            top, left = torch.rand(2, N, each, 1, generator=generator, device=device)
            row = (top * (H + size)).long() - size
            column = (left * (W + width)).long() - width + ends - advance
            # Letters outside the image or past the end of the string go into the margin.
            column = column.masked_fill(torch.arange(_LONGEST, device=device) >= length, W).clamp_(-margin, W)
            start = (row + margin) * wide + column + margin
            places = start[..., None] + (font.ink[..., 0] * wide + font.ink[..., 1])[letters]
            # The minimum does not depend on the order of writing, so the result is deterministic.
            owner.scatter_reduce_(1, places.flatten(1), number[..., None, None].expand(places.shape).flatten(1), "amin")
        return owner.view(N, -1, wide)[:, margin : margin + H, margin : margin + W].flatten(1), strings

    def _strings_each(self, fonts: list[_Font], sizes: list[int], H: int, W: int) -> int:
        """Return the number of strings of each size that covers the highest p, with a reserve."""
        length = (_SHORTEST + _LONGEST) / 2
        # Mean number of points inside the image of one string of each size, as a fraction of the image.
        density = sum(
            font.mean_ink * length / ((H + size) * (W + length * font.mean_advance))
            for font, size in zip(fonts, sizes, strict=True)
        )
        # Random points leave a fraction of exp(-density) of the pixels free.
        return math.ceil(_RESERVE * -math.log(1 - min(highest(self.p), 0.99)) / density) + 1
