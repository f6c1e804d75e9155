"""What a corruption is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor


# Not a Protocol as a source is: jsonargparse takes one whose __call__ returns a class (a Tensor) for a factory of that class.
class Corruption(ABC):
    """Draws noise for clean images, on whatever device they are.

    Every call draws anew and independently for each image, so two calls on the same images give the two views that
    Noise2Noise needs. What comes out is never clipped: clipping would bias the noise.

    A class of your own inherits from this one, writes ``__call__``, changes the attributes that do not hold, and is
    chosen by its import path (``class_path``), with no registration.

    Attributes:
        zero_mean: whether the mean of the noisy images is ``clean(images)``. Only then does the squared error (MSE) to a
            noisy target have its minimum at the clean image (Lehtinen et al. 2018, section 2).
        suited_loss: import path of the loss that leads to the clean image.
        scale: how many times smaller a noisy image is than the image it was made from; 1 for all that keep the size.
    """

    zero_mean: ClassVar[bool] = True
    suited_loss: ClassVar[str] = "torch.nn.MSELoss"

    @property
    def scale(self) -> int:
        """Noisy images are H/scale×W/scale."""
        return 1

    @abstractmethod
    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Make images noisy: N×C×H×W float32 in [0, 1] -> N×C×(H/scale)×(W/scale), in no range.

        Args:
            clean: the images; they are left as they are.
            generator: of the random numbers, on the device of ``clean``; the same seed gives the same noise on the
                same kind of device. None for PyTorch's own.
        """

    def clean(self, images: Tensor) -> Tensor:
        """Give what a denoiser of the noisy images should return: N×C×H×W -> N×C×(H/scale)×(W/scale)."""
        return images
