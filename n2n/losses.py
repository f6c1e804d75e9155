"""Losses that PyTorch does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from n2n.errors import InputError


class AnnealedL0(nn.Module):
    """Annealed L0 loss: the mean of (|f − y| + ε)^γ, where γ falls from 2 to 0 during training.

    The squared error leads to the mean of the noisy targets, the absolute error to their median, and γ near 0 to their mode.
    For random-valued impulse noise of more than half of the pixels, the mode is the clean image; mean and median are not.
    From Lehtinen et al. 2018 (section 3.2), with their ε. γ starts at 2, because far from the mode the loss with γ near 0 has
    no gradient.

    Args:
        eps: keeps the gradient finite where output and target agree.

    Attributes:
        progress: fraction of the training that is done. :class:`n2n.DenoisingModule` sets it before each step.

    Raises:
        InputError: unless eps is above 0.
    """

    progress = 0.0

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        if not eps > 0:
            raise InputError(f"eps is {eps}: expected a number above 0")
        self.eps = eps

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compare two tensors of one shape; returns a scalar."""
        gamma = 2.0 * (1.0 - self.progress)
        return ((output - target).abs() + self.eps).pow(gamma).mean()


class HDR(nn.Module):
    """L_HDR: the mean of (f − y)² / (max(f, 0) + ε)², whose denominator counts as a constant for the gradient.

    Each pixel weighs about as much as its relative error. So dark parts are learnt as well as bright ones, whose noise and
    squared error are larger: in renderings of high dynamic range, and in photon noise. The mean of the noisy targets is still
    the minimum, because the weight depends on the output alone. From Lehtinen et al. 2018, section 3.3.

    Args:
        eps: brightness below which pixels weigh alike, in the range [0, 1] of images.

    Raises:
        InputError: unless eps is above 0.
    """

    def __init__(self, eps: float = 0.01) -> None:
        super().__init__()
        if not eps > 0:
            raise InputError(f"eps is {eps}: expected a number above 0")
        self.eps = eps

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compare two tensors of one shape; returns a scalar."""
        brightness = output.detach().clamp(min=0) + self.eps
        return ((output - target) / brightness).square().mean()


class PSNRLoss(nn.Module):
    """The negative PSNR in dB, averaged over the images of the batch: 10 · log₁₀(mean over the image of (f − y)² + ε).

    A training on images of all noise levels minimises their summed squared error, which is mostly that of the noisiest. With
    this loss each image weighs alike. The mean of the noisy targets stays the minimum, because the weight of an image hardly
    depends on the noise of a single pixel. Used by Chen et al., "Simple Baselines for Image Restoration" (ECCV 2022).

    Args:
        eps: squared error below which images weigh less, in the range [0, 1] of images.

    Raises:
        InputError: unless eps is above 0.
    """

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        if not eps > 0:
            raise InputError(f"eps is {eps}: expected a number above 0")
        self.eps = eps

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compare two tensors N×C×H×W of one shape; returns a scalar."""
        return 10 * ((output - target).square().mean((1, 2, 3)) + self.eps).log10().mean()


class Halves(NamedTuple):
    """The noisy images from which a batch took half-size pairs.

    Attributes:
        images: N×C×H×W in [0, 1].
        take: takes the pair's pixels out of images of this shape: N×C×H×W -> two tensors N×C×H/2×W/2.
    """

    images: Tensor
    take: Callable[[Tensor], tuple[Tensor, Tensor]]


class NetworkLoss(nn.Module):
    """Base class of losses that call the network.

    In training, :class:`n2n.DenoisingModule` calls ``loss(denoised, target, network, halves)``: ``network`` maps N×C×H×W in
    [0, 1] to the same shape, and ``halves`` says where half-size pairs come from, or is None. In validation, it calls
    ``loss(denoised, target)``.
    """


class Neighbor2Neighbor(NetworkLoss):
    """Mean squared error plus the regularizer of Neighbor2Neighbor (Huang et al., CVPR 2021, section 4.2).

    The two half-size images g₁(y), g₂(y) of a pair are neighbouring pixels of one image y, so they differ by more than noise.
    The regularizer subtracts the difference that the denoised image has at the same places:
    weight · progress · mean(((φ(g₁(y)) − g₂(y)) − (g₁(φ(y)) − g₂(φ(y))))²).

    Args:
        weight: weight of the regularizer at the end of training; it grows from 0. The paper uses 2 for synthetic noise, and 8
            or 16 for the noise of cameras.

    Attributes:
        progress: as for :class:`AnnealedL0`.

    Raises:
        InputError: if the weight is negative; in training, if the source is not :class:`n2n.data.SingleImages`.
    """

    progress = 0.0

    def __init__(self, weight: float = 2.0) -> None:
        super().__init__()
        if not weight >= 0:
            raise InputError(f"weight is {weight}: expected 0 or more")
        self.weight = weight

    def forward(
        self,
        denoised: Tensor,
        target: Tensor,
        network: Callable[[Tensor], Tensor] | None = None,
        halves: Halves | None = None,
    ) -> Tensor:
        """Return the loss; without a network the mean squared error alone."""
        error = denoised - target
        loss = error.square().mean()
        if network is None:
            return loss
        if halves is None:
            raise InputError(
                "the loss Neighbor2Neighbor needs pairs of neighbouring pixels: set --data.source n2n.data.SingleImages, or "
                "choose another loss"
            )
        with torch.no_grad():
            one, other = halves.take(network(halves.images).float())
        return loss + self.weight * self.progress * (error - (one - other)).square().mean()
