from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from n2n import DenoisingModule
from n2n.backbones import Model2
from n2n.cli import main
from n2n.data.corruption import Impulse
from n2n.errors import InputError
from n2n.losses import HDR, AnnealedL0, Halves, Neighbor2Neighbor, PSNRLoss
from n2n.module.divergence import check_validation_loss
from tests.conftest import fit, write_course


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


def test_hdr_is_the_relative_error_with_a_constant_denominator() -> None:
    output, target = torch.tensor([0.5, 0.09, -0.2]).requires_grad_(), torch.tensor([0.25, 0.04, 0.0])
    loss = HDR(0.01)(output, target)
    brightness = torch.tensor([0.51, 0.1, 0.01])
    assert loss.item() == pytest.approx(((output - target) / brightness).square().mean().item())
    loss.backward()
    assert output.grad is not None
    assert torch.allclose(output.grad, 2 * (output.detach() - target) / brightness**2 / 3)


def test_hdr_finds_the_mean_of_noisy_targets() -> None:
    targets = torch.tensor([0.0, 0.0, 0.0, 0.4]).view(4, 1)
    image = torch.full((1, 1), 0.5).requires_grad_()
    optimizer = torch.optim.Adam([image], lr=0.01)
    for _ in range(400):
        optimizer.zero_grad()
        HDR()(image.expand(4, 1), targets).backward()
        optimizer.step()
    assert image.item() == pytest.approx(0.1, abs=2e-3)


def test_psnr_loss_is_the_negative_psnr_of_each_image() -> None:
    target = torch.rand(2, 3, 4, 4)
    output = target + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    assert PSNRLoss()(output, target).item() == pytest.approx(-(20 + 40) / 2, abs=0.01)
    assert PSNRLoss(eps=1)(target, target).item() == 0


def test_with_psnr_loss_weak_and_strong_noise_weigh_alike() -> None:
    noise = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    output, strength = torch.zeros(2, 1, 16, 16).requires_grad_(), torch.tensor([0.01, 0.1]).view(2, 1, 1, 1)
    PSNRLoss()(output, strength * noise).backward()
    assert output.grad is not None
    # Of an error as large as the noise, the gradient's product with the error does not depend on the strength.
    weak, strong = (output.grad * strength * noise).flatten(1).sum(1).tolist()
    assert weak == pytest.approx(strong, rel=1e-3)
    assert weak < 0


def test_a_loss_below_0_that_rises_has_not_diverged() -> None:
    trainer = L.Trainer(accelerator="cpu", logger=False)
    check_validation_loss(-10.2, -12.0, trainer)
    check_validation_loss(0.5, -12.0, trainer)
    check_validation_loss(0.09, 0.01, trainer)
    for loss, lowest in ((0.11, 0.01), (math.nan, 0.01), (math.nan, -12.0), (math.inf, -12.0)):
        with pytest.raises(InputError, match="the training diverged"):
            check_validation_loss(loss, lowest, trainer)


def test_each_loss_is_compared_with_the_lowest_of_all_before(monkeypatch: pytest.MonkeyPatch) -> None:
    module = DenoisingModule(Model2())
    module.trainer = L.Trainer(accelerator="cpu", logger=False)
    module.trainer.state.fn = TrainerFn.FITTING
    losses = iter((1.0, 5.0, 9.0, 11.0, 11.0))
    monkeypatch.setattr(DenoisingModule, "log_scores", lambda self, stage: next(losses))
    for _ in range(3):
        module.on_validation_epoch_end()
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    resumed = DenoisingModule(Model2())
    resumed.trainer = module.trainer
    resumed.on_load_checkpoint(checkpoint)
    for one in (module, resumed):
        with pytest.raises(InputError, match="val/loss is 11 after epoch 1, and was 1 before"):
            one.on_validation_epoch_end()


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


def test_regularizer_vanishes_for_a_network_that_returns_its_input() -> None:
    images = torch.rand(2, 1, 8, 8)
    halves = Halves(images, lambda x: (x[..., ::2, ::2], x[..., 1::2, ::2]))
    noisy, target = halves.take(images)
    loss = Neighbor2Neighbor(2.0)
    loss.progress = 0.5
    squared = (noisy - target).square().mean()
    assert loss(noisy, target, lambda x: x, halves).item() == pytest.approx(squared.item())
    # A network that returns zeros expects no difference: the regularizer is the error itself, here with half the weight of 2.
    zero = loss(torch.zeros_like(target), target, torch.zeros_like, halves)
    assert zero.item() == pytest.approx(2 * target.square().mean().item())
    # As in the paper, no gradient flows through the whole image.
    weight = torch.ones(()).requires_grad_()
    assert not loss(noisy, target, lambda x: weight * x, halves).requires_grad
    # In validation there is no network.
    assert loss(noisy, target).item() == pytest.approx(squared.item())
    with pytest.raises(InputError, match=r"set --data\.source n2n\.data\.SingleImages"):
        loss(noisy, target, lambda x: x, None)


def write_noise(folder: Path) -> str:
    folder.mkdir()
    for i in range(4):
        np.save(folder / f"{i}.npy", np.random.default_rng(i).integers(0, 256, (40, 40), np.uint8))
    return str(folder)


def test_loss_and_source_of_neighbor2neighbor_belong_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    root = write_noise(tmp_path / "noise")
    single = [
        "--config",
        "data/single.yaml",
        "--data.source.init_args.root",
        root,
        "--data.source.init_args.patch",
        "16",
    ]
    single += ["--data.source.init_args.patches", "10"]
    common = ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
    base = ["fit", "--config", "table1/model2.yaml", *common]
    assert main([*base, *single, "--name", "both"]) == 0
    assert not [one for one in recwarn if "does not lead to the clean image" in str(one.message)]
    assert main([*base, *single, "--model.loss", "torch.nn.MSELoss", "--name", "other"]) == 0
    (warning,) = [str(one.message) for one in recwarn if "does not lead to the clean image" in str(one.message)]
    assert "MSELoss" in warning
    assert "use --model.loss n2n.losses.Neighbor2Neighbor" in warning
    loss = ["--model.loss", "n2n.losses.Neighbor2Neighbor"]
    assert fit(*loss, root=write_course(tmp_path / "data")) == 2
    assert "the loss Neighbor2Neighbor needs pairs of neighbouring pixels" in capsys.readouterr().err


def test_bad_numbers_are_refused() -> None:
    for kind in (AnnealedL0, HDR, PSNRLoss):
        with pytest.raises(InputError, match="eps is 0"):
            kind(eps=0)
    with pytest.raises(InputError, match="weight is -1"):
        Neighbor2Neighbor(-1)
