"""The ten networks of Table I in Januszek, Parshikov and Roust, "Mini-project 1: PyTorch implementation of
Noise2Noise model" (EE-559, EPFL, 2022), after Lehtinen et al., "Noise2Noise" (ICML 2018).

Every network maps N×C×H×W in [0, 1] to the same shape. The defaults are the paper's. Each argument is kept as an attribute of
the same name, so that a checkpoint can describe how to rebuild the network.
"""  # noqa: D205

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from n2n.backbones.sizes import at_least_one, on_multiples
from n2n.backbones.trimmed import Trimmed
from n2n.errors import InputError


class _Layers(nn.Module):
    """A network that is one sequence of layers."""

    layers: nn.Sequential

    def forward(self, x: Tensor) -> Tensor:
        """Denoise N×C×H×W."""
        return torch.as_tensor(self.layers(x))


def _with_relu(
    kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], before: int, after: int, bias: bool
) -> tuple[nn.Module, nn.ReLU]:
    """Return a 3×3 convolution with padding 3, and a ReLU that works in place, which saves a pass over the memory."""
    return kind(before, after, 3, padding=3, bias=bias), nn.ReLU(inplace=True)


class Model1(nn.Module):
    """Linear(width → hidden), Linear(hidden → width) along the width axis, without activation.

    It takes images of one width only, because it has weights for each column.

    Args:
        width: W of every image, in pixels.
        hidden: features between the two layers.
        bias: whether the layers have biases.

    Raises:
        InputError: from ``forward``, if the images are not ``width`` pixels wide.
    """

    def __init__(self, width: int = 32, hidden: int = 128, bias: bool = True) -> None:
        super().__init__()
        at_least_one(self, width=width, hidden=hidden)
        self.width, self.hidden, self.bias = width, hidden, bias
        self.encode = nn.Linear(width, hidden, bias=bias)
        self.decode = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Denoise N×C×H×width."""
        if x.shape[-1] != self.width:
            raise InputError(
                f"Model1 is bound to images {self.width} pixels wide and got {x.shape[-1]}: set its width to "
                "that of the training images, or choose a convolutional backbone, which takes any size"
            )
        return torch.as_tensor(self.decode(self.encode(x)))


def _activation(negative_slope: float) -> nn.Module:
    """Return a ReLU if the slope is 0 (the paper's layer, and faster), else a LeakyReLU."""
    # In place, LeakyReLU has no gradient for a negative slope.
    inplace = negative_slope >= 0
    return nn.ReLU(inplace) if negative_slope == 0 else nn.LeakyReLU(negative_slope, inplace)


class Model2(_Layers):
    """Conv(C → hidden), activation, transposed Conv(hidden → C), ReLU; kernels 3×3, padding 3.

    Args:
        channels: C of the images.
        hidden: channels between the two layers.
        bias: whether the convolutions have biases.
        negative_slope: of the activation in the middle; 0 for a ReLU.
        batch_norm: whether BatchNorm follows the first convolution.
    """

    def __init__(
        self,
        channels: int = 3,
        hidden: int = 32,
        bias: bool = True,
        negative_slope: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        at_least_one(self, channels=channels, hidden=hidden)
        self.channels, self.hidden, self.bias = channels, hidden, bias
        self.negative_slope, self.batch_norm = negative_slope, batch_norm
        self.layers = Trimmed(
            nn.Conv2d(channels, hidden, 3, padding=3, bias=bias),
            *([nn.BatchNorm2d(hidden)] if batch_norm else []),
            _activation(negative_slope),
            *_with_relu(nn.ConvTranspose2d, hidden, channels, bias),
        )


class Model2v1(Model2):
    """Model2 without biases."""

    def __init__(self, channels: int = 3, hidden: int = 32, bias: bool = False) -> None:
        super().__init__(channels, hidden, bias)


class Model2v2(Model2):
    """Model2v1 with a LeakyReLU in the middle (PyTorch's slope of 0.01; the paper does not state one)."""

    def __init__(self, channels: int = 3, hidden: int = 32, bias: bool = False, negative_slope: float = 0.01) -> None:
        super().__init__(channels, hidden, bias, negative_slope)


class Model3(Model2):
    """Model2 with BatchNorm after the first convolution."""

    def __init__(self, channels: int = 3, hidden: int = 32, bias: bool = True, batch_norm: bool = True) -> None:
        super().__init__(channels, hidden, bias, batch_norm=batch_norm)


class Model4(Model2):
    """Model2 with 64 hidden channels."""

    def __init__(self, channels: int = 3, hidden: int = 64, bias: bool = True) -> None:
        super().__init__(channels, hidden, bias)


class Model5(Model2):
    """Model2 with 128 hidden channels."""

    def __init__(self, channels: int = 3, hidden: int = 128, bias: bool = True) -> None:
        super().__init__(channels, hidden, bias)


class Model6(_Layers):
    """Conv(C → 32), Conv(32 → 128), transposed Conv(128 → 32), transposed Conv(32 → C), each 3×3 with padding 3 and ReLU.

    Args:
        channels: C of the images.
        hidden: channels after the first and the third layer.
        inner: channels in the middle.
        bias: whether the convolutions have biases.
    """

    def __init__(self, channels: int = 3, hidden: int = 32, inner: int = 128, bias: bool = True) -> None:
        super().__init__()
        at_least_one(self, channels=channels, hidden=hidden, inner=inner)
        self.channels, self.hidden, self.inner, self.bias = channels, hidden, inner, bias
        self.layers = Trimmed(
            *_with_relu(nn.Conv2d, channels, hidden, bias),
            *_with_relu(nn.Conv2d, hidden, inner, bias),
            *_with_relu(nn.ConvTranspose2d, inner, hidden, bias),
            *_with_relu(nn.ConvTranspose2d, hidden, channels, bias),
        )


class ModelPooling(nn.Module):
    """Conv(C → 32), max-pooling by 2, Conv(32 → 128), back by three transposed convolutions; ReLU last.

    Conv(C → hidden), ReLU, MaxPool2, Conv(hidden → inner), ReLU, ConvT(inner → hidden), ReLU,
    ConvT(hidden → hidden, 2×2, stride 2), ConvT(hidden → C), ReLU; all but the fourth 3×3 with padding 3. Images of odd size
    are padded by repeating the last row or column, and the output is cropped.

    Args:
        channels: C of the images.
        hidden: channels after the first convolution.
        inner: channels at half the resolution.
        bias: whether the convolutions have biases.
    """

    def __init__(self, channels: int = 3, hidden: int = 32, inner: int = 128, bias: bool = False) -> None:
        super().__init__()
        at_least_one(self, channels=channels, hidden=hidden, inner=inner)
        self.channels, self.hidden, self.inner, self.bias = channels, hidden, inner, bias
        self.layers = Trimmed(
            *_with_relu(nn.Conv2d, channels, hidden, bias),
            nn.MaxPool2d(2),
            *_with_relu(nn.Conv2d, hidden, inner, bias),
            *_with_relu(nn.ConvTranspose2d, inner, hidden, bias),
            nn.ConvTranspose2d(hidden, hidden, 2, stride=2, bias=bias),
            *_with_relu(nn.ConvTranspose2d, hidden, channels, bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Denoise N×C×H×W."""
        return on_multiples(2, self.layers, x)


class ModelFinal(_Layers):
    """The paper's final network: six 3×3 convolutions, hidden widths 64-48-48-48-64, ReLU between, LeakyReLU last.

    The slope of the last activation is negative, so that negative outputs become positive: the paper chose it by a grid search.

    Args:
        channels: C of the images.
        widths: channels after each convolution but the last, any number. The authors' published weights have 64-48-48-64.
        bias: whether the convolutions have biases.
        negative_slope: of the last activation.
    """

    def __init__(
        self,
        channels: int = 3,
        widths: Sequence[int] = (64, 48, 48, 48, 64),
        bias: bool = True,
        negative_slope: float = -0.1,
    ) -> None:
        super().__init__()
        at_least_one(self, channels=channels, widths=min(widths, default=1))
        self.channels, self.widths, self.bias = channels, list(widths), bias
        self.negative_slope = negative_slope
        layers: list[nn.Module] = []
        for before, width in pairwise([channels, *self.widths, channels]):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=bias), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-1], nn.LeakyReLU(negative_slope))
