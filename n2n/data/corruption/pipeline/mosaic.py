"""The Bayer mosaic of colour filters, and several ways of demosaicing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from n2n.system.hardware import constant

_LINEAR = (0.0, 1.0, 2.0, 1.0, 0.0)
_SPLINE = (1.0, 4.0, 6.0, 4.0, 1.0)
_CROSS = ((0, 0, 0, 0, 0), (0, 0, 1, 0, 0), (0, 1, 4, 1, 0), (0, 0, 1, 0, 0), (0, 0, 0, 0, 0))
# Malvar, He and Cutler 2004 (High-quality linear interpolation for demosaicing of Bayer-patterned color images), figure 2, in
# sixteenths: green at red or blue; red or blue at green from the same row, and from the same column; red at blue.
_MALVAR = (
    ((0, 0, -2, 0, 0), (0, 0, 4, 0, 0), (-2, 4, 8, 4, -2), (0, 0, 4, 0, 0), (0, 0, -2, 0, 0)),
    ((0, 0, 1, 0, 0), (0, -2, 0, -2, 0), (-2, 8, 10, 8, -2), (0, -2, 0, -2, 0), (0, 0, 1, 0, 0)),
    ((0, 0, -2, 0, 0), (0, -2, 8, -2, 0), (1, 0, 10, 0, 1), (0, -2, 8, -2, 0), (0, 0, -2, 0, 0)),
    ((0, 0, -3, 0, 0), (0, 4, 0, 4, 0), (-3, 0, 12, 0, -3), (0, 4, 0, 4, 0), (0, 0, -3, 0, 0)),
)
# Ways of demosaicing: their filter (0 bilinear, 1 superpixel, 2 spline), and the share of Malvar, He and Cutler's correction.
METHODS = {
    "bilinear": (0, 0.0),
    "superpixel": (1, 0.0),
    "spline": (2, 0.0),
    "half malvar": (0, 0.5),
    "malvar": (0, 1.0),
}


def filters(phase: Tensor, height: int, width: int) -> Tensor:
    """Place the filters red, green (two) and blue of Bayer 1976: phases 0 to 3 of N images -> N×4×H×W of 0 and 1.

    The four are red, green in the rows of red, green in the rows of blue, and blue.
    """
    rows = (torch.arange(height, device=phase.device) + phase[:, None] // 2) % 2
    columns = (torch.arange(width, device=phase.device) + phase[:, None] % 2) % 2
    odd_rows, odd_columns = rows[:, :, None].float(), columns[:, None, :].float()
    even_rows, even_columns = 1 - odd_rows, 1 - odd_columns
    places = [even_rows * even_columns, even_rows * odd_columns, odd_rows * even_columns, odd_rows * odd_columns]
    return torch.stack(places, 1)


def mosaic(images: Tensor, places: Tensor) -> Tensor:
    """Keep the colour of each pixel's filter: N×3×H×W -> N×1×H×W."""
    red, one, other, blue = places.unsqueeze(2).unbind(1)
    return images[:, :1] * red + images[:, 1:2] * (one + other) + images[:, 2:] * blue


def demosaic(raw: Tensor, places: Tensor, method: Tensor) -> Tensor:
    """Fill in the missing colours: N×1×H×W -> N×3×H×W, by the method of each image, a place in ``METHODS``, N int64.

    - bilinear: the mean of the nearest pixels of a colour.
    - superpixel: red and blue as before, green from both greens of the neighbouring 2×2 cells, as if the image was developed
      at half its size and enlarged.
    - spline: quadratic B-splines, smoother.
    - malvar: Malvar, He and Cutler 2004; bilinear, and each colour corrected by the others' second derivatives, 5×5. "half
      malvar" corrects half as much.
    """
    red, one, other, blue = places.unsqueeze(2).unbind(1)
    sparse = raw * torch.cat([red, one + other, blue], 1)
    linear, spline = (constant(taps, raw.device) for taps in (_LINEAR, _SPLINE))
    cross = constant(_CROSS, raw.device)
    square, smooth = torch.outer(linear, linear) / 4, torch.outer(spline, spline) / 64
    kernels = torch.stack(
        [
            torch.stack([square, cross / 4, square]),
            torch.stack([square, square / 2, square]),
            torch.stack([smooth, smooth / 2, smooth]),
        ]
    )
    N, _, H, W = raw.shape
    kind, share = constant(tuple(METHODS.values()), raw.device)[method].unbind(1)
    own = kernels[kind.long()].view(3 * N, 1, 5, 5)
    padded = functional.pad(sparse, (2, 2, 2, 2), mode="reflect").view(1, 3 * N, H + 4, W + 4)
    filled = functional.conv2d(padded, own, groups=3 * N).view(N, 3, H, W)
    return torch.lerp(filled, _malvar(raw, places), share.view(N, 1, 1, 1))


def _malvar(raw: Tensor, places: Tensor) -> Tensor:
    kernels = constant(_MALVAR, raw.device).unsqueeze(1) / 16
    found = functional.conv2d(functional.pad(raw, (2, 2, 2, 2), mode="reflect"), kernels)
    green, row, column, across = found.unsqueeze(2).unbind(1)
    at_red, in_red_rows, in_blue_rows, at_blue = places.unsqueeze(2).unbind(1)
    return torch.cat(
        [
            raw * at_red + row * in_red_rows + column * in_blue_rows + across * at_blue,
            raw * (in_red_rows + in_blue_rows) + green * (at_red + at_blue),
            raw * at_blue + row * in_blue_rows + column * in_red_rows + across * at_red,
        ],
        1,
    )
