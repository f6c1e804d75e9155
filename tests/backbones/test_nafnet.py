from __future__ import annotations

import pytest
import torch
from torch import nn

from n2n import Denoiser
from n2n.backbones import NAFNet
from n2n.backbones.nafnet import ChannelAttention, LayerNorm2d, NAFBlock


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
    attended = gated * block.attention.mix(nn.functional.adaptive_avg_pool2d(gated, 1))
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


def test_attention_is_to_the_mean_of_a_window() -> None:
    x = torch.rand(2, 4, 9, 12)
    windows = [[x[..., max(0, i - 3) : i + 4, max(0, j - 3) : j + 4].mean((2, 3)) for j in range(12)] for i in range(9)]
    every = ChannelAttention(4, radius=3, grid=1)
    means = torch.stack([torch.stack(row, -1) for row in windows], -2)
    assert torch.allclose(every(x), x * every.mix(means), atol=1e-6)
    # On a grid, exactly in the middle of each window and halfway between two elsewhere.
    some = ChannelAttention(4, radius=3, grid=4)
    some.load_state_dict(every.state_dict())
    assert torch.allclose(some(x)[..., ::4, ::4], every(x)[..., ::4, ::4], atol=1e-6)
    between = (every.mix(means)[..., 0:8:4, 0] + every.mix(means)[..., 4:12:4, 0]) / 2
    assert torch.allclose(some(x)[..., 2:8:4, 0], x[..., 2:8:4, 0] * between, atol=1e-6)
    assert torch.allclose(some(x)[..., 8:, 9:], x[..., 8:, 9:] * every.mix(means)[..., 8:, 8:9], atol=1e-6)


@pytest.mark.parametrize("side", [20, 32])
def test_window_of_twice_the_patch_is_the_papers_mean(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    ours, papers = awake(NAFNet(width=4)), NAFNet(width=4, window=None)
    papers.load_state_dict(ours.state_dict())
    x = torch.rand(2, 3, side, 32)
    assert torch.equal(ours(x), papers(x))
    # Nor is it another where the windows are computed one by one, as in an exported graph.
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert torch.allclose(ours(x), papers(x), atol=1e-5)
    assert not torch.allclose(awake(NAFNet(width=4, window=32))(x), papers(x), atol=1e-3)


def test_tiles_leave_hardly_a_trace_of_windows() -> None:
    torch.manual_seed(0)
    noisy = torch.rand(1, 3, 64, 300) * torch.linspace(0.2, 1, 300)
    networks = [awake(NAFNet(width=4, window=window)) for window in (64, None)]
    networks[1].load_state_dict(networks[0].state_dict())
    traces = []
    for network in networks:
        whole, tiled = (Denoiser(network, 3, "cpu", tile=tile).denoise(noisy) for tile in (304, 128))
        traces.append(float((whole - tiled).abs().max()))
    # Means over a whole tile differ from tile to tile; windows are cut short by its edge alone, where the overlap hides it.
    assert 0 < traces[0] < 0.1 * traces[1]
