from __future__ import annotations

import pytest
import torch
from torch import nn

from n2n import backbones
from n2n.backbones.spec import build, describe
from n2n.errors import InputError


def test_layers_are_the_papers() -> None:
    kinds = [type(layer).__name__ for layer in backbones.Model3().layers]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "ConvTranspose2d", "ReLU"]
    assert [type(layer).__name__ for layer in backbones.Model2v2().layers][1] == "LeakyReLU"
    last = list(backbones.ModelFinal().layers)[-1]
    assert isinstance(last, nn.LeakyReLU)
    assert last.negative_slope == -0.1


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
