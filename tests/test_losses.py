from __future__ import annotations

import pytest
import torch

from n2n.data.corruption import Impulse
from n2n.errors import InputError
from n2n.losses import AnnealedL0


def test_it_goes_from_squared_to_absolute_error_to_nothing() -> None:
    a, b = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    loss = AnnealedL0()
    expected = torch.nn.functional.mse_loss(a, b), torch.nn.functional.l1_loss(a, b), torch.tensor(1.0)
    for progress, value in zip((0.0, 0.5, 1.0), expected, strict=True):
        loss.progress = progress
        assert loss(a, b).item() == pytest.approx(value.item(), rel=1e-5)


@pytest.mark.parametrize("progress", [0.0, 0.5, 0.9, 0.999, 1.0])
def test_the_slope_is_finite_where_output_and_target_agree(progress: float) -> None:
    loss = AnnealedL0()
    loss.progress = progress
    output = torch.tensor([0.5, 0.5]).requires_grad_()
    loss(output, torch.tensor([0.5, 0.5 + 1e-7])).backward()
    assert output.grad is not None
    assert output.grad.isfinite().all()


def fitted(loss: torch.nn.Module) -> float:
    """Fit one image to noisy views of it, 70 % of whose pixels are replaced; returns the mean error."""
    clean = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    noise, generator = Impulse(0.7), torch.Generator().manual_seed(1)
    image = torch.full_like(clean, 0.5).requires_grad_()
    steps = 600
    optimizer = torch.optim.Adam([image], lr=0.02)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for step in range(steps):
        if isinstance(loss, AnnealedL0):
            loss.progress = step / steps
        views = noise(clean.expand(64, -1, -1, -1), generator)
        optimizer.zero_grad()
        loss(image.expand_as(views), views).backward()
        optimizer.step()
        decay.step()
    return (image.detach() - clean).abs().mean().item()


def test_it_finds_the_mode_where_the_mean_and_the_median_are_wrong() -> None:
    # The mean is off by 0.7·|0.5 − x|, 0.17 on average.
    assert fitted(torch.nn.MSELoss()) > 0.15
    assert fitted(torch.nn.L1Loss()) > 0.05
    assert fitted(AnnealedL0()) < 0.035
    assert fitted(AnnealedL0(1e-2)) < 0.005


def test_bad_eps_is_refused() -> None:
    with pytest.raises(InputError, match="eps is 0"):
        AnnealedL0(eps=0)
