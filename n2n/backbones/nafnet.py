"""NAFNet, the network without activations of Chen, Chu, Zhang and Sun, "Simple Baselines for Image Restoration" (ECCV 2022,
arXiv 2204.04676).

It maps N×C×H×W in [0, 1] to the same shape, for any H and W.
"""  # noqa: D205

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from n2n.backbones.sizes import at_least_one, on_multiples
from n2n.errors import InputError

# Pixels from one window of the channel attention to the next; the means over large windows change slowly.
_GRID = 16


class LayerNorm2d(nn.Module):
    """Normalise the channels of each pixel: mean 0, variance 1, then a weight and a bias for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise N×C×H×W."""
        # In channels_last order this is a view. The kernel computes in float32, also for bfloat16.
        out = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6)
        out = out.permute(0, 3, 1, 2)
        # The exporter would derive the order from the strides, for which sides of 1 pixel are a special case.
        return out.clone(memory_format=torch.contiguous_format) if torch.compiler.is_exporting() else out


def _gate(x: Tensor) -> Tensor:
    """Multiply the first half of the channels by the second (SimpleGate): the only nonlinearity of the network."""
    first, second = x.chunk(2, dim=1)
    return first * second


def _scaled(layer: nn.Conv2d, x: Tensor, scale: Tensor) -> Tensor:
    """Scale the channels of a convolution's output by scaling its weights, which saves a pass over the image."""
    assert layer.bias is not None
    return F.conv2d(x, layer.weight * scale[:, None, None, None], layer.bias * scale)


class ChannelAttention(nn.Module):
    """Multiply each channel by a weighted sum of all channels' means: over the image, or over a window around each pixel.

    ``radius`` is the number of pixels from the centre of the window to its edge, None for the whole image. Windows are ``grid``
    pixels apart; between their centres the factors are interpolated.
    """

    def __init__(self, channels: int, radius: int | None, grid: int) -> None:
        super().__init__()
        self.radius, self.grid = radius, grid
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map N×C×H×W to the same shape."""
        H, W = x.shape[-2:]
        r, step = self.radius, self.grid
        # If every window covers the image, as it should for training patches, there is one mean.
        if r is None or (not torch.compiler.is_exporting() and r >= max(H, W) - 1):
            whole: Tensor = self.mix(x.mean((2, 3), keepdim=True))
            return x * whole
        # The mean over rows, then over columns, of the pixels that lie in the image.
        means = F.avg_pool2d(x, (2 * r + 1, 1), (step, 1), (r, 0), count_include_pad=False)
        means = F.avg_pool2d(means, (1, 2 * r + 1), (1, step), (0, r), count_include_pad=False)
        # Interpolate between the centres; beyond the last one repeat its factors, and cut what exceeds the image.
        factors = F.pad(self.mix(means), (0, 1, 0, 1), mode="replicate")
        h, w = (step * (n - 1) + 1 for n in factors.shape[-2:])
        factors = F.interpolate(factors, (h, w), mode="bilinear", align_corners=True)
        return x * F.pad(factors, (0, W - w, 0, H - h))


class NAFBlock(nn.Module):
    """Gated depthwise convolution with channel attention, then a gated pair of 1×1 convolutions; both residual."""

    def __init__(self, channels: int, radius: int | None = None, grid: int = 1) -> None:
        super().__init__()
        self.norm1, self.norm2 = LayerNorm2d(channels), LayerNorm2d(channels)
        self.widen = nn.Conv2d(channels, 2 * channels, 1)
        self.depthwise = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.attention = ChannelAttention(channels, radius, grid)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.expand, self.contract = nn.Conv2d(channels, 2 * channels, 1), nn.Conv2d(channels, channels, 1)
        # Both are 0 at first, so that an untrained block is the identity.
        self.beta, self.gamma = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map N×C×H×W to the same shape."""
        out = self.attention(_gate(self.depthwise(self.widen(self.norm1(x)))))
        x = x + _scaled(self.mix, out, self.beta)
        return x + _scaled(self.contract, _gate(self.expand(self.norm2(x))), self.gamma)


class NAFNet(nn.Module):
    """A U-Net of :class:`NAFBlock`, whose skip connections are sums; the network predicts what to add to the input.

    Conv(C → width, 3×3); for each number in ``enc_blocks`` that many blocks, then a 2×2 convolution with stride 2 that
    doubles the channels; ``middle_blocks``; for each number in ``dec_blocks`` a 1×1 convolution and a pixel shuffle that
    halve the channels, the sum with the encoder's output, and that many blocks; Conv(width → C, 3×3).

    In the paper, the channel attention takes the mean over the whole image, which differs between training patches, large
    images and tiles. Here it takes the mean over a window around each pixel, in training and in use. (Chu et al., "Improving
    Image Restoration by Revisiting Global Information Aggregation", ECCV 2022, arXiv 2112.04491, do so in use only.) A window
    of at least twice the patch size covers the whole patch from each pixel. Training is then the paper's, and as fast.

    The defaults make a small network (0.64 million parameters for colour). The paper's, for camera noise (SIDD; 116 million),
    is ``width=64, enc_blocks=[2, 2, 4, 8], middle_blocks=12, dec_blocks=[2, 2, 2, 2], window=None``.

    Args:
        channels: C of the images.
        width: channels at full resolution.
        enc_blocks: blocks before each halving of the resolution; images are padded to multiples of 2^len(enc_blocks) pixels.
        middle_blocks: blocks at the smallest resolution.
        dec_blocks: blocks after each doubling, from the smallest resolution up; as many numbers as in ``enc_blocks``.
        window: side, in pixels, of the window of the channel attention; None for the whole image.

    Raises:
        InputError: if ``dec_blocks`` and ``enc_blocks`` differ in length, or the window is too small.
    """

    def __init__(
        self,
        channels: int = 3,
        width: int = 32,
        enc_blocks: Sequence[int] = (1, 1),
        middle_blocks: int = 4,
        dec_blocks: Sequence[int] = (1, 1),
        window: int | None = 64,
    ) -> None:
        super().__init__()
        at_least_one(self, channels=channels, width=width)
        if min([middle_blocks, *enc_blocks, *dec_blocks]) < 0:
            raise InputError(
                f"NAFNet's enc_blocks, middle_blocks and dec_blocks are {list(enc_blocks)}, {middle_blocks} and "
                f"{list(dec_blocks)}: expected numbers of at least 0"
            )
        if len(enc_blocks) != len(dec_blocks):
            raise InputError(
                f"NAFNet's enc_blocks are {list(enc_blocks)} and its dec_blocks {list(dec_blocks)}: expected as many numbers "
                "in both, one for each resolution"
            )
        least = 2 * _GRID
        if window is not None and window < least:
            raise InputError(
                f"NAFNet's window is {window}: expected at least {least} pixels, or null for the whole image"
            )
        self.channels, self.width, self.middle_blocks, self.window = channels, width, middle_blocks, window
        self.enc_blocks, self.dec_blocks = list(enc_blocks), list(dec_blocks)
        levels = range(len(self.enc_blocks))
        widths = [width * 2**level for level in levels]
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.encoders = nn.ModuleList(map(self._blocks, self.enc_blocks, levels))
        self.downs = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths)
        self.middle = self._blocks(middle_blocks, len(levels))
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * w, 4 * w, 1, bias=False), nn.PixelShuffle(2)) for w in reversed(widths)
        )
        self.decoders = nn.ModuleList(map(self._blocks, self.dec_blocks, reversed(levels)))
        self.leave = nn.Conv2d(width, channels, 3, padding=1)

    def _blocks(self, count: int, level: int) -> nn.Sequential:
        # In pixels of the image, the window and the grid are the same at all levels.
        scale = 2**level
        radius = None if self.window is None else max(1, self.window // 2 // scale)
        grid = max(1, _GRID // scale)
        return nn.Sequential(*(NAFBlock(self.width * scale, radius, grid) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        """Denoise N×C×H×W."""
        return on_multiples(2 ** len(self.enc_blocks), self._denoise, x)

    def _denoise(self, x: Tensor) -> Tensor:
        out, skips = self.enter(x), []
        for blocks, down in zip(self.encoders, self.downs, strict=True):
            skips.append(blocks(out))
            out = down(skips[-1])
        out = self.middle(out)
        for up, blocks in zip(self.ups, self.decoders, strict=True):
            out = blocks(up(out) + skips.pop())
        return x + torch.as_tensor(self.leave(out))
