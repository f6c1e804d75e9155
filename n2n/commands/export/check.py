"""Comparing an exported network with the checkpoint's on generated images of several sizes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from n2n.commands.export.formats import Network
from n2n.commands.export.tracing import main_line
from n2n.data.sources.dead_leaves import draw, texture_bank
from n2n.errors import InputError

# Largest difference of an output value from the checkpoint's, in the units of [0, 1].
TOLERANCE = 1e-4


def noisy_images(shapes: list[tuple[int, int, int, int]]) -> Iterator[Tensor]:
    """Draw generated photographs with noise of sigma 0.1, not clipped: one N×C×H×W tensor for each shape."""
    rng = np.random.default_rng(0)
    textures = texture_bank(0, count=6, size=128)
    for N, C, H, W in shapes:
        drawn = np.stack([draw(max(H, W), rng, textures)[:H, :W] for _ in range(N)]).astype(np.float32) / 255
        # Grey images are the green channel; more than three channels repeat the colours.
        channels = drawn[..., [1]] if C == 1 else drawn[..., np.arange(C) % 3]
        noisy = channels + rng.normal(0, 0.1, channels.shape).astype(np.float32)
        yield torch.from_numpy(np.ascontiguousarray(noisy.transpose(0, 3, 1, 2)))


def difference(exported: Network, backbone: Network, noisy: Tensor) -> float:
    """Return the largest absolute difference of the outputs of two networks on N×C×H×W float32 images.

    Raises:
        InputError: if it is more than ``TOLERANCE`` or NaN, if the shapes differ, or if the exported network fails.
    """

    def refused(why: str) -> InputError:
        size = "×".join(map(str, noisy.shape))
        return InputError(f"on images of {size} the exported file {why}: it was not kept")

    with torch.inference_mode():
        expected = backbone(noisy)
        try:
            got = exported(noisy)
        except Exception as error:  # runtimes raise their own kinds
            raise refused(f"fails ({main_line(error)})") from error
    if got.shape != expected.shape:
        raise refused(f"gives {'×'.join(map(str, got.shape))}")
    worst = float((got - expected).abs().max())
    if not worst <= TOLERANCE:  # "not" refuses NaN too
        raise refused(f"differs from the checkpoint by {worst:.2g}, more than {TOLERANCE:g}")
    return worst
