from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from n2n.backbones import NAFNet
from n2n.cli import main
from n2n.errors import InputError
from n2n.optimizers import Muon, check_state, fused, orthogonal
from tests.conftest import write_course


def network() -> nn.Module:
    torch.manual_seed(0)
    return NAFNet(width=16, enc_blocks=[1], middle_blocks=1, dec_blocks=[1])


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> float:
    torch.manual_seed(1)
    loss = torch.tensor(0.0)
    for _ in range(steps):
        clean = torch.rand(8, 3, 1, 1).expand(8, 3, 16, 16)
        noisy, target = clean + 0.2 * torch.randn(2, 8, 3, 16, 16)
        loss = (net(noisy) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("shape", [(3, 64, 32), (2, 32, 64), (1, 32, 32)])
def test_singular_values_come_to_about_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert float(values.min()) > 0.3
    assert float(values.max()) < 1.3
    # Their singular vectors stay: the product with the matrix is symmetric and positive.
    product = matrices.mT @ orthogonal(matrices)
    assert torch.allclose(product, product.mT, atol=0.02 * float(product.abs().max()))


def test_a_step_of_a_matrix_is_orthogonal_whatever_its_gradient_weighs() -> None:
    layer = nn.Conv2d(32, 48, 3)
    before = layer.weight.detach().clone()
    optimizer = Muon(layer.parameters(), lr=0.01)
    for factor in (1e-6, 1e6):
        layer.weight.data.copy_(before)
        optimizer.state.clear()
        layer(factor * torch.rand(1, 32, 8, 8)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        step = (before - layer.weight.detach()).flatten(1) / (0.01 * 0.2 * (32 * 9) ** 0.5)
        assert float(torch.linalg.svdvals(step).max()) == pytest.approx(1.0, abs=0.3)


def test_matrices_follow_their_nesterov_momentum() -> None:
    torch.manual_seed(0)
    weight, gradients = nn.Parameter(torch.zeros(16, 20)), torch.randn(2, 16, 20)
    optimizer = Muon([weight], lr=1.0, momentum=0.9)
    for gradient in gradients:
        weight.grad = gradient.clone()
        before = weight.detach().clone()
        optimizer.step()
    momentum = 0.9 * 0.1 * gradients[0] + 0.1 * gradients[1]
    expected = orthogonal((0.1 * gradients[1] + 0.9 * momentum)[None])[0]
    step = (before - weight.detach()) / (0.2 * 20**0.5)
    # The iteration may run in bfloat16.
    assert torch.allclose(step, expected, atol=0.03)


def test_small_weights_are_adams() -> None:
    ours = nn.Sequential(nn.Conv2d(1, 32, 3), nn.Conv2d(32, 32, 3, groups=32), nn.Conv2d(32, 3, 3))
    theirs = copy.deepcopy(ours)
    for net, optimizer in (
        (ours, Muon(ours.parameters(), 0.01, betas=(0.8, 0.95), eps=0.1)),
        (theirs, torch.optim.Adam(theirs.parameters(), 0.01, (0.8, 0.95), eps=0.1)),
    ):
        torch.manual_seed(2)
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.rand(2, 1, 8, 8)).square().sum().backward()
            optimizer.step()
    for mine, adams in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, adams, atol=1e-6)


def test_it_goes_on_from_its_state() -> None:
    whole, halves = network(), network()
    optimizer = Muon(whole.parameters(), 0.003)
    first = train(whole, optimizer, 3)
    train(whole, optimizer, 3)
    before = Muon(halves.parameters(), 0.003)
    assert train(halves, before, 3) == first
    after = Muon(halves.parameters())
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    train(halves, after, 3)
    for a, b in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(a, b)


def test_step_comes_back_as_float32_on_the_weights_device() -> None:
    # The fused update reads nothing else.
    net = network()
    optimizer = Muon(net.parameters(), 0.003)
    train(net, optimizer, 1)
    state = copy.deepcopy(optimizer.state_dict())
    for one in state["state"].values():
        if "step" in one:
            one["step"] = one["step"].double()
    again = Muon(net.parameters())
    again.load_state_dict(state)
    steps = [one["step"] for one in again.state.values() if "step" in one]
    assert steps
    assert {step.dtype for step in steps} == {torch.float32}
    train(net, again, 1)


def test_the_command_trains_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_course(tmp_path / "data")
    options = ["--config", "nafnet.yaml", "--config", "data/ee559.yaml", "--data.source.root", str(root)]
    options += ["--model.backbone.width", "16", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
    assert main(["fit", *options, "--model.optimizer", "n2n.optimizers.Muon", "--model.optimizer.lr", "0.002"]) == 0
    assert main(["fit", *options, "--model.optimizer", "n2n.optimizers.Muon", "--model.optimizer.momentum", "1"]) == 2
    assert "Muon's lr is 0.001, momentum 1.0" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_the_fused_variant_keeps_what_the_parameter_group_says(kind: type[torch.optim.Optimizer]) -> None:
    groups = [{"params": list(network().parameters()), "lr": 1e-4, "weight_decay": 0.5}]
    made = fused(kind(groups, lr=1e-2))  # type: ignore[call-arg]
    (group,) = made.param_groups
    assert (type(made), group["fused"], group["lr"], group["weight_decay"]) == (kind, True, 1e-4, 0.5)


def test_a_state_that_shares_its_memory_is_copied() -> None:
    weight = nn.Parameter(torch.zeros(3, 4))
    optimizer = fused(torch.optim.Adam([weight]))
    optimizer.state[weight] = {"step": torch.zeros(()), "exp_avg": torch.zeros(1).expand(3, 4)}
    check_state(optimizer)
    assert optimizer.state[weight]["exp_avg"].untyped_storage().nbytes() == weight.nbytes


def test_a_negative_rate_is_refused() -> None:
    with pytest.raises(InputError, match="expected a rate"):
        Muon([nn.Parameter(torch.zeros(2))], lr=-1.0)
