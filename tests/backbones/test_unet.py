from __future__ import annotations

import math

import torch
from torch import nn

from n2n.backbones import UNet


def test_layers_are_the_papers() -> None:
    network = UNet()
    seen: list[tuple[int, int, int]] = []

    def note(layer: nn.Module, args: tuple[torch.Tensor], out: torch.Tensor) -> None:
        seen.append((args[0].shape[1], out.shape[1], out.shape[2]))

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(note)
    network(torch.rand(1, 3, 64, 64))
    down = [(3, 48, 64), (48, 48, 64), (48, 48, 32), (48, 48, 16), (48, 48, 8), (48, 48, 4), (48, 48, 2)]
    up = [layer for size in (8, 16, 32) for layer in ((144, 96, size), (96, 96, size))]
    assert seen == [*down, (96, 96, 4), (96, 96, 4), *up, (99, 64, 64), (64, 32, 64), (32, 3, 64)]
    slopes = {layer.negative_slope for layer in network.modules() if isinstance(layer, nn.LeakyReLU)}
    assert slopes == {0.1}


def test_weights_are_drawn_after_he() -> None:
    network = UNet()
    deep, last = network.bottom[0], network.last
    assert isinstance(deep, nn.Conv2d)
    assert abs(deep.weight.std().item() / math.sqrt(2 / 1.01 / (9 * 48)) - 1) < 0.05
    assert abs(last.weight.std().item() / math.sqrt(1 / (9 * 32)) - 1) < 0.1
    assert all(float(p.abs().max()) == 0 for name, p in network.named_parameters() if name.endswith("bias"))


def test_depth_and_head_can_be_chosen() -> None:
    for depth, head in ((1, ()), (2, (8,)), (7, (8, 8, 8))):
        x = torch.rand(1, 2, 5, 70)
        assert UNet(2, width=4, depth=depth, head=head)(x).shape == x.shape


def test_sizes_are_filled_up_at_the_end() -> None:
    network = UNet(width=4, depth=3).eval()
    x = torch.rand(1, 3, 13, 22)
    filled = nn.functional.pad(x, (0, 2, 0, 3), mode="replicate")
    assert torch.equal(network(x), network(filled)[..., :13, :22])
