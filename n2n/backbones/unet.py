"""The U-Net of Lehtinen, Munkberg, Hasselgren, Laine, Karras, Aittala and Aila, "Noise2Noise: Learning Image Restoration
without Clean Data" (ICML 2018, arXiv 1803.04189), appendix, table of the network.

It maps N×C×H×W in [0, 1] to the same shape, for any H and W.
"""  # noqa: D205

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from n2n.backbones.sizes import at_least_one, on_multiples
from n2n.errors import InputError


class UNet(nn.Module):
    """Convolutions and max-pooling down to a small image, nearest-neighbour upsampling and convolutions back.

    By the names of the table: enc_conv0, enc_conv1, pool1; enc_conv2, pool2; ... enc_conv5, pool5; enc_conv6. Then upsample5,
    pool4 concatenated, dec_conv5a, dec_conv5b; ... upsample2, pool1 concatenated, dec_conv2a, dec_conv2b; upsample1, the
    input concatenated, dec_conv1a, dec_conv1b (the head), dec_conv1c. All are 3×3 with LeakyReLU except the last, which is
    linear. Weights are initialised after He et al. (2015), biases are 0.

    Args:
        channels: C of the images.
        width: channels on the way down; twice as many on the way up.
        depth: how many times the resolution is halved; images are padded to multiples of 2^depth pixels.
        head: channels of the convolutions at full resolution before the last.
        negative_slope: of the activations.

    Raises:
        InputError: if ``depth`` is less than 1.
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 48,
        depth: int = 5,
        head: Sequence[int] = (64, 32),
        negative_slope: float = 0.1,
    ) -> None:
        super().__init__()
        at_least_one(self, channels=channels, width=width, head=min(head, default=1))
        if depth < 1:
            raise InputError(f"UNet's depth is {depth}: expected at least 1, the number of poolings")
        self.channels, self.width, self.depth = channels, width, depth
        self.head, self.negative_slope = list(head), negative_slope
        self.first = self._convolutions(channels, width)
        self.down = nn.ModuleList(self._convolutions(width, width) for _ in range(depth))
        self.bottom = self._convolutions(width, width)
        # For each level upwards; the input is the output of the level below and the pooled image of this size.
        inputs = (3 * width if level else 2 * width for level in range(depth - 1))
        self.up = nn.ModuleList(self._convolutions(before, 2 * width, 2 * width) for before in inputs)
        below = width if depth == 1 else 2 * width
        self.top = self._convolutions(below + channels, *self.head)
        self.last = nn.Conv2d(self.head[-1] if self.head else below + channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.last.weight, nonlinearity="linear")
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def _convolutions(self, before: int, *widths: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for width in widths:
            layer = nn.Conv2d(before, width, 3, padding=1)
            nn.init.kaiming_normal_(layer.weight, self.negative_slope)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            layers += [layer, nn.LeakyReLU(self.negative_slope, inplace=self.negative_slope >= 0)]
            before = width
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Denoise N×C×H×W."""
        return on_multiples(2**self.depth, self._denoise, x)

    def _denoise(self, x: Tensor) -> Tensor:
        out, pooled = self.first(x), [x]
        for layers in self.down:
            out = F.max_pool2d(layers(out), 2)
            pooled.append(out)
        out = self.bottom(pooled.pop())
        for layers in (*self.up, self.top):
            skip = pooled.pop()
            # By size, not by factor, so that the exporter can prove that both images have one size.
            out = layers(torch.cat([F.interpolate(out, skip.shape[-2:], mode="nearest"), skip], dim=1))
        return torch.as_tensor(self.last(out))
