"""DnCNN, from Zhang, Zuo, Chen, Meng and Zhang, "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image
Denoising" (IEEE Transactions on Image Processing 2017, arXiv 1608.03981).

It maps N×C×H×W in [0, 1] to the same shape, for any H and W.
"""  # noqa: D205

from __future__ import annotations

from torch import Tensor, nn

from n2n.backbones.sizes import at_least_one
from n2n.errors import InputError


class DnCNN(nn.Module):
    """3×3 convolutions that predict the noise; the output is the input minus the noise.

    Conv(C → features), ReLU; depth − 2 times Conv(features → features), BatchNorm, ReLU; Conv(features → C). The paper has
    17 layers for one noise level, and 20 for its blind networks. Weights are initialised after He et al. (2015), biases are 0.

    Args:
        channels: C of the images.
        depth: number of convolutions.
        features: channels between them.
        batch_norm: whether BatchNorm follows all convolutions but the first and the last.
        bias: whether convolutions have a bias: the first, and the middle ones if there is no BatchNorm. The last has none, as
            in the authors' code.

    Raises:
        InputError: if ``depth`` is less than 2.
    """

    def __init__(
        self, channels: int = 3, depth: int = 17, features: int = 64, batch_norm: bool = True, bias: bool = True
    ) -> None:
        super().__init__()
        at_least_one(self, channels=channels, features=features)
        if depth < 2:
            raise InputError(f"DnCNN's depth is {depth}: expected at least 2, the first convolution and the last")
        self.channels, self.depth, self.features = channels, depth, features
        self.batch_norm, self.bias = batch_norm, bias
        layers: list[nn.Module] = [nn.Conv2d(channels, features, 3, padding=1, bias=bias), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [
                nn.Conv2d(features, features, 3, padding=1, bias=bias and not batch_norm),
                *([nn.BatchNorm2d(features)] if batch_norm else []),
                nn.ReLU(inplace=True),
            ]
        layers.append(nn.Conv2d(features, channels, 3, padding=1, bias=False))
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Denoise N×C×H×W."""
        noise: Tensor = self.layers(x)
        return x - noise
