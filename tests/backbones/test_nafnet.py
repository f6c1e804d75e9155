from __future__ import annotations

import torch
from torch import nn

from n2n.backbones import NAFNet
from n2n.backbones.nafnet import LayerNorm2d, NAFBlock


def awake(network: nn.Module) -> nn.Module:
    """Blocks do nothing before they are trained: let them."""
    for block in network.modules():
        if isinstance(block, NAFBlock):
            nn.init.normal_(block.beta, std=0.3)
            nn.init.normal_(block.gamma, std=0.3)
    return network


def test_sizes_are_the_papers() -> None:
    with torch.device("meta"):
        for width, blocks, middle, millions in ((32, [1, 1, 1, 28], 1, 17.1), (64, [2, 2, 4, 8], 12, 116.0)):
            network = NAFNet(3, width, blocks, middle, [2 if middle > 1 else 1] * 4)
            assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == millions


def test_norm_is_over_the_channels_of_each_pixel() -> None:
    norm = LayerNorm2d(6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    for order in (torch.contiguous_format, torch.channels_last):
        x = (torch.randn(2, 6, 5, 4) * 3 + 100).contiguous(memory_format=order)
        centred = x - x.mean(1, keepdim=True)
        expected = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
        expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
        assert torch.allclose(norm(x), expected, atol=1e-4)


def test_block_is_the_papers() -> None:
    block = NAFBlock(4)
    x = torch.randn(2, 4, 6, 5)
    assert torch.equal(block(x), x)
    awake(block)
    first, second = block.depthwise(block.widen(block.norm1(x))).chunk(2, 1)
    gated = first * second
    attended = gated * block.attention(nn.functional.adaptive_avg_pool2d(gated, 1))
    middle = x + block.mix(attended) * block.beta[:, None, None]
    first, second = block.expand(block.norm2(middle)).chunk(2, 1)
    assert torch.allclose(block(x), middle + block.contract(first * second) * block.gamma[:, None, None], atol=1e-5)


def test_every_weight_learns() -> None:
    network = awake(NAFNet(width=4))
    network(torch.rand(2, 3, 15, 10)).square().mean().backward()
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in network.parameters())


def test_levels_can_be_chosen() -> None:
    x = torch.rand(1, 2, 9, 11)
    for enc, dec in (((), ()), ((1,), (2,)), ((0, 1, 1), (1, 0, 0))):
        assert NAFNet(2, 4, enc, 1, dec)(x).shape == x.shape
