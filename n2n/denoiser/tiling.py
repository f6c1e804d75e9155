"""Positions and blending weights of tiles, and denoising of images of any height in bands, which are rows of tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from n2n.denoiser.receptive_field import ReceptiveField

# Tiles start at multiples of this, or of the network's stride if that is larger; in pixels.
GRID = 16
# Overlap, in pixels, for networks that see the whole image, and the largest overlap for others.
_GLOBAL_OVERLAP = 64
_MAX_OVERLAP = 256


@dataclass(frozen=True)
class Span:
    """The pixels that a tile covers along one axis, and their weights, which add up to 1 over all spans."""

    start: int
    stop: int
    weight: Tensor


def spans(length: int, tile: int, overlap: int, margin: int, device: torch.device | None = None) -> list[Span]:
    """Divide an axis of ``length`` pixels into overlapping spans; the arguments are those of :class:`Tiling`.

    Neighbours share ``2 * overlap`` pixels. The outermost ``margin`` pixels of each have weight 0, because the output there
    depends on pixels outside the tile. Between the margins a cosine fades from one span to the next. At the ends of the axis
    the weight is 1 up to the edge.
    """
    count = max(1, -(-(length - overlap) // tile))
    cuts = [i * tile for i in range(count)] + [length]
    fade = overlap - margin
    ramp = (torch.arange(2 * fade) + 0.5) / max(1, 2 * fade)
    ramp = ((1 - torch.cos(torch.pi * ramp)) / 2).to(device=device)
    found = []
    for i in range(count):
        start, stop = max(0, cuts[i] - overlap), min(length, cuts[i + 1] + overlap)
        weight = torch.ones(stop - start, device=device)
        if i > 0:
            weight[:margin] = 0
            weight[margin : margin + 2 * fade] = ramp
        if i < count - 1:
            end = stop - start - margin
            weight[end:] = 0
            weight[end - 2 * fade : end] *= 1 - ramp
        found.append(Span(start, stop, weight))
    return found


@dataclass(frozen=True)
class Tiling:
    """How images are divided into tiles.

    Attributes:
        tile: pixels from one tile to the next.
        overlap: pixels that a tile extends on each side.
        margin: pixels of the overlap that are discarded.
    """

    tile: int
    overlap: int
    margin: int

    @classmethod
    def plan(cls, field: ReceptiveField, tile: int, overlap: int | None) -> Tiling:
        """Round sizes up to the grid; by default choose an overlap that covers the receptive field."""
        grid = max(GRID, field.stride)
        if overlap is None:
            overlap = _GLOBAL_OVERLAP if field.margin is None else min(field.margin, _MAX_OVERLAP)
        overlap = -(-overlap // grid) * grid
        # If the overlap does not cover the receptive field, discard half of it and blend the other half.
        margin = field.margin if field.margin is not None and field.margin <= overlap else overlap // 2
        # A tile must not overlap the tile after the next.
        tile = max(-(-tile // grid) * grid, 2 * overlap)
        return cls(tile, overlap, margin)


def denoise_bands(
    read: Callable[[int, int], Tensor],
    size: tuple[int, int],
    tiling: Tiling,
    forward: Callable[[Tensor], Tensor],
    batch: int,
    device: torch.device | None = None,
) -> Iterator[Tensor]:
    """Denoise images of a size (H, W), one row of tiles in memory at a time; yield finished rows, N×C×h×W, in order.

    ``read`` returns rows start to stop, N×C×(stop - start)×W, on the device; it is called once for each row, in order.
    ``forward`` denoises ``batch`` tiles, N×C×h×w, at once.
    """
    H, W = size
    down = spans(H, tiling.tile, tiling.overlap, tiling.margin, device)
    across = spans(W, tiling.tile, tiling.overlap, tiling.margin, device)
    noisy: Tensor | None = None
    shared: Tensor | None = None
    for i, span in enumerate(down):
        have = 0 if noisy is None else noisy.shape[2]
        fresh = read(span.start + have, span.stop)
        noisy = fresh if noisy is None else torch.cat([noisy, fresh], dim=2)
        denoised = _denoise_band(noisy, across, forward, batch)
        if len(down) > 1:
            denoised = denoised * span.weight[:, None]
        if shared is not None:
            denoised[:, :, : shared.shape[2]] += shared
        if i == len(down) - 1:
            yield denoised
            return
        # Rows from here on are blended with those of the next band.
        final = down[i + 1].start - span.start
        yield denoised[:, :, :final]
        shared, noisy = denoised[:, :, final:].clone(), noisy[:, :, final:].clone()
        del denoised


def _denoise_band(noisy: Tensor, across: list[Span], forward: Callable[[Tensor], Tensor], batch: int) -> Tensor:
    if len(across) == 1:
        return forward(noisy)
    denoised = torch.zeros_like(noisy)
    at = 0
    while at < len(across):
        # A batch holds tiles of one width.
        width = across[at].stop - across[at].start
        several = list(takewhile(lambda span: span.stop - span.start == width, across[at : at + batch]))  # noqa: B023
        tiles = torch.cat([noisy[..., span.start : span.stop] for span in several])
        for span, out in zip(several, forward(tiles).reshape(len(several), *noisy.shape[:2], -1, width), strict=True):
            denoised[..., span.start : span.stop] += out * span.weight
        at += len(several)
    return denoised
