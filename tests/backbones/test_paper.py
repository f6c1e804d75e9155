from __future__ import annotations

import pytest
import torch
from torch import nn

from n2n import backbones
from n2n.backbones.spec import build, describe
from n2n.errors import InputError

# Weights and biases, by hand from Table I.
PARAMETERS = {
    "Model1": 32 * 128 + 128 + 128 * 32 + 32,
    "Model2": 2 * 27 * 32 + 32 + 3,
    "Model2v1": 2 * 27 * 32,
    "Model2v2": 2 * 27 * 32,
    "Model3": 2 * 27 * 32 + 32 + 3 + 2 * 32,
    "Model4": 2 * 27 * 64 + 64 + 3,
    "Model5": 2 * 27 * 128 + 128 + 3,
    "Model6": 2 * 27 * 32 + 2 * 9 * 32 * 128 + 32 + 128 + 32 + 3,
    "ModelPooling": 2 * 27 * 32 + 2 * 9 * 32 * 128 + 4 * 32 * 32,
    "ModelFinal": 100_224 + 64 + 48 + 48 + 48 + 64 + 3,
}


def make(name: str) -> nn.Module:
    network: nn.Module = getattr(backbones, name)()
    return network


@pytest.mark.parametrize("name", PARAMETERS)
def test_contract(name: str) -> None:
    network = make(name)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]
    sizes = [(32, 32), (33, 32)] if name == "Model1" else [(32, 32), (33, 47), (7, 5), (1, 1)]
    for size in sizes:
        x = torch.rand(2, 3, *size)
        assert network(x).shape == x.shape
    network(torch.rand(2, 3, 32, 32)).square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("name", PARAMETERS)
def test_description_builds_the_same_network(name: str) -> None:
    network = make(name).eval()
    again = build(describe(network)).eval()
    again.load_state_dict(network.state_dict())
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(network(x), again(x))


def test_layers_are_the_papers() -> None:
    kinds = [type(layer).__name__ for layer in backbones.Model3().layers]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "ConvTranspose2d", "ReLU"]
    assert [type(layer).__name__ for layer in backbones.Model2v2().layers][1] == "LeakyReLU"
    last = list(backbones.ModelFinal().layers)[-1]
    assert isinstance(last, nn.LeakyReLU)
    assert last.negative_slope == -0.1


def test_channels_can_be_chosen() -> None:
    for name in PARAMETERS.keys() - {"Model1"}:
        assert getattr(backbones, name)(channels=1)(torch.rand(1, 1, 9, 9)).shape == (1, 1, 9, 9)


def test_model1_says_that_it_is_bound_to_its_width() -> None:
    with pytest.raises(InputError, match="bound to images 32 pixels wide and got 33"):
        backbones.Model1()(torch.rand(1, 3, 32, 33))


def test_a_backbone_that_forgets_its_arguments_is_refused() -> None:
    with pytest.raises(InputError, match=r"add self\.in_channels"):
        describe(nn.Sequential()) and describe(
            type("Net", (nn.Module,), {"__init__": lambda self, in_channels: None})(1)
        )


@pytest.mark.parametrize("class_path", ["os.system", "no.such.Thing", "torch.optim.Adam"])
def test_only_modules_are_built(class_path: str) -> None:
    with pytest.raises(InputError, match="cannot build the backbone"):
        build({"class_path": class_path, "init_args": {}})
