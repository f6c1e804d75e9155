"""Pixel sampling: of photographs in memory, and of images on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from n2n.data.corruption.base import Corruption
from n2n.errors import InputError

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class PixelSampling:
    """The noise of the paper's data: one pixel of each cell of a photograph.

    A square crop of a photograph is cut into square cells. A noisy view takes one pixel of each cell, chosen uniformly and
    independently. The clean image is the mean of each cell, rounded. That mean is the expected value of the pixel, so the noise
    has zero mean; it is white, and depends on the signal: none in flat areas, strong at edges.

    Args:
        crop: side of the crop in pixels of the photograph.
        cell: side of a cell in pixels of the photograph; a view is ``crop // cell`` pixels wide.

    Raises:
        InputError: if crop is not a multiple of cell.
    """

    crop: int = 256
    cell: int = 8

    def __post_init__(self) -> None:
        if self.cell < 1 or self.crop < self.cell or self.crop % self.cell:
            raise InputError(f"crop is {self.crop} and cell is {self.cell}: crop must be a multiple of cell")

    @property
    def size(self) -> int:
        """Side of a view in pixels."""
        return self.crop // self.cell

    def corners(self, photo: Pixels, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw ``count`` crops of an H×W×C photograph; returns their upper left corners (row, column), count×2."""
        return rng.integers(0, np.array(photo.shape[:2]) - self.crop + 1, size=(count, 2))

    def noisy(self, photo: Pixels, corners: NDArray[np.int64], rng: np.random.Generator) -> Pixels:
        """Draw one noisy view of each crop: H×W×C photograph, N×2 corners -> N×C×size×size."""
        s = self.size
        # One random number gives both coordinates of a pick.
        picks = rng.integers(0, self.cell * self.cell, size=(len(corners), s, s), dtype=np.int32)
        steps = np.arange(s) * self.cell
        tops, lefts = corners.T[:, :, None, None]
        rows = tops + steps[:, None] + picks // self.cell
        columns = lefts + steps + picks % self.cell
        return np.moveaxis(photo[rows, columns], 3, 1)

    def clean(self, photo: Pixels, corners: NDArray[np.int64]) -> Pixels:
        """Average each cell of each crop, rounded: H×W×C photograph, N×2 corners -> N×C×size×size."""
        s, c, C = self.size, self.cell, photo.shape[2]
        images = np.empty((len(corners), C, s, s), np.uint8)
        for image, (top, left) in zip(images, corners, strict=True):
            cells = photo[top : top + self.crop, left : left + self.crop].reshape(s, c, s, c, C)
            image[:] = np.rint(cells.mean(axis=(1, 3), dtype=np.float32)).astype(np.uint8).transpose(2, 0, 1)
        return images


@dataclass(frozen=True)
class SampleCells(Corruption):
    """Pixel sampling (see :class:`PixelSampling`) on the device: a noisy image is ``cell`` times smaller.

    A pixel is picked with all its channels. The clean image is the mean of each cell, not rounded.

    Args:
        cell: side of a cell in pixels.

    Raises:
        InputError: for a cell below 1; from the methods, if an image side is not a multiple of cell.
    """

    cell: int = 8

    def __post_init__(self) -> None:
        if self.cell < 1:
            raise InputError(f"cell is {self.cell}: expected at least 1")

    @property
    def scale(self) -> int:
        """Noisy images are H/cell×W/cell."""
        return self.cell

    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Pick the pixels: N×C×H×W -> N×C×(H/cell)×(W/cell)."""
        h, w = self._cells(clean)
        N, C, _, W = clean.shape
        picks = torch.randint(self.cell**2, (N, 1, h, w), generator=generator, device=clean.device)
        rows = torch.arange(h, device=clean.device)[:, None] * self.cell + picks // self.cell
        columns = torch.arange(w, device=clean.device) * self.cell + picks % self.cell
        places = (rows * W + columns).flatten(2).expand(N, C, h * w)
        return clean.flatten(2).gather(2, places).view(N, C, h, w)

    def clean(self, images: Tensor) -> Tensor:
        """Average each cell: N×C×H×W -> N×C×(H/cell)×(W/cell)."""
        self._cells(images)
        return F.avg_pool2d(images, self.cell)

    def _cells(self, images: Tensor) -> tuple[int, int]:
        H, W = images.shape[-2:]
        if H % self.cell or W % self.cell:
            raise InputError(f"images are {H}×{W} and cell is {self.cell}: height and width must be multiples of cell")
        return H // self.cell, W // self.cell
