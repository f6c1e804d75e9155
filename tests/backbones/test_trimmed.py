from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from n2n.backbones.trimmed import Trimmed

C, T, R = nn.Conv2d, nn.ConvTranspose2d, nn.ReLU

STACKS: dict[str, Callable[[], tuple[nn.Module, ...]]] = {
    "model2": lambda: (C(3, 4, 3, padding=3), R(), T(4, 3, 3, padding=3), nn.LeakyReLU(0.1)),
    "model6": lambda: (
        *(C(3, 4, 3, padding=3), R(), C(4, 6, 3, padding=3), R()),
        *(T(6, 4, 3, padding=3), R(), T(4, 3, 3, padding=3)),
    ),
    "batch norm between": lambda: (C(3, 4, 3, padding=3), nn.BatchNorm2d(4), R(), T(4, 3, 3, padding=3)),
    "stride 2 between": lambda: (
        *(C(3, 4, 3, padding=3), nn.MaxPool2d(2), C(4, 5, 3, padding=3), T(5, 4, 3, padding=3)),
        *(T(4, 4, 2, stride=2), T(4, 3, 3, padding=3)),
    ),
    "more cut than padded": lambda: (C(3, 4, 3), R(), T(4, 5, 3, padding=4), R(), T(5, 3, 3, padding=2)),
    "transposed first": lambda: (T(3, 4, 3, padding=3, bias=False), T(4, 3, 5, padding=4), C(3, 3, 3, padding=4)),
    "no square kernel": lambda: (C(3, 4, (3, 5), padding=(1, 2)), T(4, 3, 3, padding=2, output_padding=0)),
}


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("size", [(32, 32), (13, 18)])
def test_trimmed_layers_give_what_the_layers_give(name: str, size: tuple[int, int]) -> None:
    layers = STACKS[name]()
    plain, trimmed = nn.Sequential(*layers).double(), Trimmed(*layers)
    assert plain.state_dict().keys() == trimmed.state_dict().keys()
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    expected, found = plain(x), trimmed(x)
    torch.testing.assert_close(found, expected)
    weights = list(plain.parameters())
    gradients = [torch.autograd.grad(out.square().sum(), weights) for out in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_no_pixel_is_computed_that_is_cut_off() -> None:
    layers = STACKS["model6"]()
    sizes: list[int] = []
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            layer.register_forward_hook(lambda _layer, _inputs, out: sizes.append(out.shape[-1]))
    Trimmed(*layers)(torch.rand(1, 3, 32, 32))
    assert sizes == [36, 36, 34]
