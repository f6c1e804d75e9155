"""Losses that PyTorch does not have."""

from __future__ import annotations

from torch import Tensor, nn

from n2n.errors import InputError


class AnnealedL0(nn.Module):
    """The mean of (|f − y| + ε)^γ, γ falling from 2 to 0 in the course of training: it seeks the mode of the targets.

    Squared error leads to the mean of the noisy targets, absolute error to the median, and γ near 0 to their most frequent
    value. That is the clean image for random-valued impulse noise, whose mean and median are not. From Lehtinen et al.
    2018 (section 3.2), with their ε; γ starts at 2 because the loss of γ near 0 has no slope to follow far from the mode.

    The loss does not count steps: whoever trains sets ``progress``, a float from 0 (start) to 1 (end), if a loss has it.

    Args:
        eps: keeps the slope finite where output and target agree.

    Raises:
        InputError: unless eps is above 0.
    """

    # Trained for longer it would have been another loss from the start.
    anneals = True

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        if not eps > 0:
            raise InputError(f"eps is {eps}: expected a number above 0")
        self.eps = eps
        self.progress = 0.0

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compare two tensors of one shape; returns a scalar."""
        gamma = 2.0 * (1.0 - self.progress)
        return ((output - target).abs() + self.eps).pow(gamma).mean()
