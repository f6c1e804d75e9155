"""Images in pieces: where tiles lie, how they are blended, and images of any height from band to band."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from n2n.denoiser.receptive_field import ReceptiveField

# Tiles start at multiples of this, or of the network's stride where that is more.
GRID = 16
# Overlap in pixels for networks that see the whole image; and the most for any.
_GLOBAL_OVERLAP = 64
_MAX_OVERLAP = 256


@dataclass(frozen=True)
class Span:
    """The pixels along one axis that a tile sees, and how much each counts in the result.

    Attributes:
        start: first pixel.
        stop: behind the last.
        weight: of each pixel; the weights of all spans add up to 1 everywhere.
    """

    start: int
    stop: int
    weight: Tensor


def spans(length: int, tile: int, overlap: int, margin: int) -> list[Span]:
    """Divide an axis into overlapping spans on the grid.

    Neighbours share ``2 * overlap`` pixels. Of these each counts for nothing in its outermost ``margin``, where its output is
    not that of the whole image, and between the margins one fades into the other. The ends of the axis are true edges.

    Args:
        length: of the axis, in pixels.
        tile: pixels from one span to the next.
        overlap: pixels that a span sees beyond its own.
        margin: pixels to discard, at most ``overlap``.
    """
    count = max(1, -(-(length - overlap) // tile))
    cuts = [i * tile for i in range(count)] + [length]
    fade = overlap - margin
    ramp = (torch.arange(2 * fade) + 0.5) / max(1, 2 * fade)
    ramp = (1 - torch.cos(torch.pi * ramp)) / 2
    found = []
    for i in range(count):
        start, stop = max(0, cuts[i] - overlap), min(length, cuts[i + 1] + overlap)
        weight = torch.ones(stop - start)
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
    """How images are cut.

    Attributes:
        tile: pixels from one tile to the next.
        overlap: pixels that a tile sees beyond its own.
        margin: pixels of these that are discarded.
    """

    tile: int
    overlap: int
    margin: int

    @classmethod
    def plan(cls, field: ReceptiveField, tile: int, overlap: int | None) -> Tiling:
        """Choose an overlap that leaves no trace of the tiles, unless one is given; sizes are rounded up to the grid."""
        grid = max(GRID, field.stride)
        if overlap is None:
            overlap = _GLOBAL_OVERLAP if field.margin is None else min(field.margin, _MAX_OVERLAP)
        overlap = -(-overlap // grid) * grid
        # Where the overlap does not cover the field, half of it is discarded and the other half hides the rest.
        covered = field.margin is not None and field.margin <= overlap
        margin = field.margin if covered and field.margin is not None else overlap // 2
        # Overlaps of neighbours but one must not meet.
        tile = max(-(-tile // grid) * grid, 2 * overlap)
        return cls(tile, overlap, margin)


def bands(
    read: Callable[[int, int], Tensor],
    size: tuple[int, int],
    tiling: Tiling,
    forward: Callable[[Tensor], Tensor],
    batch: int,
) -> Iterator[Tensor]:
    """Denoise images of any height, one row of tiles in memory at a time.

    Args:
        read: gives rows start to stop, N×C×(stop - start)×W; each row is asked for once, in order.
        size: H and W.
        tiling: how to cut.
        forward: denoises tiles N×C×h×w.
        batch: tiles at once.

    Yields:
        Finished rows, N×C×h×W, in order.
    """
    H, W = size
    down = spans(H, tiling.tile, tiling.overlap, tiling.margin)
    across = spans(W, tiling.tile, tiling.overlap, tiling.margin)
    noisy: Tensor | None = None
    shared: Tensor | None = None
    for i, span in enumerate(down):
        have = 0 if noisy is None else noisy.shape[2]
        fresh = read(span.start + have, span.stop)
        noisy = fresh if noisy is None else torch.cat([noisy, fresh], dim=2)
        denoised = _band(noisy, across, forward, batch)
        if len(down) > 1:
            denoised = denoised * span.weight.to(denoised)[:, None]
        if shared is not None:
            denoised[:, :, : shared.shape[2]] += shared
        if i == len(down) - 1:
            yield denoised
            return
        # Rows that the next band sees too are finished there.
        final = down[i + 1].start - span.start
        yield denoised[:, :, :final]
        shared, noisy = denoised[:, :, final:].clone(), noisy[:, :, final:].clone()
        del denoised


def _band(noisy: Tensor, across: list[Span], forward: Callable[[Tensor], Tensor], batch: int) -> Tensor:
    """Denoise one row of tiles."""
    if len(across) == 1:
        return forward(noisy)
    denoised = torch.zeros_like(noisy)
    at = 0
    while at < len(across):
        # As many tiles as are allowed and of one width.
        width = across[at].stop - across[at].start
        several = list(takewhile(lambda span: span.stop - span.start == width, across[at : at + batch]))  # noqa: B023
        tiles = torch.cat([noisy[..., span.start : span.stop] for span in several])
        for span, out in zip(several, forward(tiles).reshape(len(several), *noisy.shape[:2], -1, width), strict=True):
            denoised[..., span.start : span.stop] += out * span.weight.to(out)
        at += len(several)
    return denoised
