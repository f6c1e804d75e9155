"""JPEG's loss (ITU-T T.81): what a picture looks like after it was saved and opened again."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from n2n.system.hardware import constant

# The tables of ITU-T T.81, annex K.1, for quality 50.
_LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99, *[99] * 32),
)
# Of JFIF: from RGB to brightness and two colour differences.
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
# A block of subsampled colour covers 16×16 pixels.
GRID = 16


def to_ycc(images: Tensor) -> Tensor:
    """Turn RGB into brightness and colour differences, N×3×H×W; the differences of grey are 0."""
    return torch.einsum("ij,njhw->nihw", constant(_TO_YCC, images.device), images)


def to_rgb(images: Tensor) -> Tensor:
    """Undo :func:`to_ycc`."""
    back, _ = torch.linalg.inv_ex(constant(_TO_YCC, images.device))
    return torch.einsum("ij,njhw->nihw", back, images)


def compress(images: Tensor, quality: Tensor, halved: Tensor, offset: Tensor) -> Tensor:
    """Save images as JPEG and open them again, in 8 bits.

    The tables are scaled as by libjpeg. Rounding has no gradient.

    Args:
        images: N×3×H×W in [0, 1] in colour; any other number of channels is compressed as so many grey images.
        quality: 1 to 100, N.
        halved: whether colour has half the resolution (4:2:0), N bool.
        offset: rows and columns by which the grid of blocks starts before the image, N×2 int64 from 0 to 15.

    Returns:
        Multiples of 1/255 in [0, 1], N×C×H×W.
    """
    N, C, H, W = images.shape
    levels = (images * 255).round().clamp(0, 255)
    quality = quality.view(N, 1, 1, 1).round()
    percent = torch.where(quality < 50, torch.floor(5000 / quality), 200 - 2 * quality)

    def steps(table: tuple[int, ...]) -> Tensor:
        standard = constant(table, images.device).view(8, 8)
        return torch.floor((standard * percent + 50) / 100).clamp(1, 255)

    # Edges are repeated up to whole blocks.
    rows, columns = (
        torch.arange(-(-(size + GRID - 1) // GRID) * GRID, device=images.device) - offset[:, axis, None]
        for axis, size in enumerate((H, W))
    )
    levels = _take(levels, rows.clamp(0, H - 1), columns.clamp(0, W - 1))
    if C == 3:
        # libjpeg keeps these as integers, too.
        ycc = to_ycc(levels).round()
        brightness = _quantise(ycc[:, :1] - 128, steps(_LUMA)) + 128
        colour = steps(_CHROMA)
        half = functional.interpolate(
            _quantise(functional.avg_pool2d(ycc[:, 1:], 2).round(), colour),
            scale_factor=2,
            mode="bilinear",
            align_corners=False,
        )
        differences = torch.where(halved.view(N, 1, 1, 1), half, _quantise(ycc[:, 1:], colour))
        levels = to_rgb(torch.cat([brightness.clamp(0, 255), differences], 1).round())
    else:
        levels = _quantise(levels - 128, steps(_LUMA)) + 128
    rows, columns = (
        torch.arange(size, device=images.device) + offset[:, axis, None] for axis, size in enumerate((H, W))
    )
    return _take(levels, rows, columns).round().clamp(0, 255) / 255


def _take(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Take rows and columns of each image: N×C×H×W, N×H' and N×W' -> N×C×H'×W'."""
    N, C, _, W = images.shape
    images = images.gather(2, rows[:, None, :, None].expand(N, C, -1, W))
    return images.gather(3, columns[:, None, None, :].expand(N, C, images.shape[2], -1))


def _quantise(levels: Tensor, steps: Tensor) -> Tensor:
    """Round the DCT-II of 8×8 blocks to multiples of the steps, N×1×8×8."""
    N, C, H, W = levels.shape
    places = torch.arange(8, device=levels.device)
    cosines = torch.cos(math.pi / 8 * (places + 0.5) * places[:, None]) / 2
    cosines[0] *= math.sqrt(0.5)
    # Rows and columns in blocks: N×C×H/8×8×W/8×8, then the block's own axes last.
    blocks = levels.view(N, C, H // 8, 8, W // 8, 8).transpose(3, 4).reshape(N, -1, 8)
    found = (blocks @ cosines.T).view(N, -1, 8, 8).mT @ cosines.T
    # Columns came last, so the coefficients are transposed.
    table = steps.mT
    found = torch.round(found / table) * table
    back = (found @ cosines).mT @ cosines
    return back.view(N, C, H // 8, W // 8, 8, 8).transpose(3, 4).reshape(N, C, H, W)
