from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from n2n import backbones
from n2n.denoiser.receptive_field import ReceptiveField, measure
from n2n.denoiser.tiling import Tiling, denoise_bands, spans

CPU = torch.device("cpu")


class GlobalMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean((2, 3), keepdim=True)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Identity(), ReceptiveField(0, 1)),
        (nn.AvgPool2d(5, 1, 2), ReceptiveField(2, 1)),
        # It sees pixels on the right alone.
        (nn.Sequential(nn.ZeroPad2d((0, 4, 0, 0)), nn.AvgPool2d((1, 5), 1)), ReceptiveField(4, 1)),
        (nn.Sequential(nn.AvgPool2d((1, 2)), nn.Upsample(scale_factor=(1, 2))), ReceptiveField(0, 2)),
        (backbones.Model2(hidden=2), ReceptiveField(2, 1)),
        (backbones.Model6(hidden=2, inner=2), ReceptiveField(4, 1)),
        (backbones.ModelFinal(widths=[2, 2, 2, 2, 2]), ReceptiveField(6, 1)),
        # Upwards a pixel, a pool, two convolutions at half the resolution, and a pixel.
        (backbones.ModelPooling(hidden=8, inner=8), ReceptiveField(7, 2)),
        (backbones.DnCNN(depth=7, features=2), ReceptiveField(7, 1)),
        # Upwards three pixels of the head, two at half the resolution, a pool, and two pixels.
        (backbones.UNet(width=2, depth=1, head=(2, 2)), ReceptiveField(7, 2)),
        (backbones.UNet(width=2, depth=3, head=(2, 2)), ReceptiveField(31, 8)),
        (backbones.NAFNet(width=2), ReceptiveField(None, 32)),
        (GlobalMean(), ReceptiveField(None, 32)),
    ],
    ids=[
        "identity",
        "mean",
        "right",
        "columns",
        "model2",
        "model6",
        "final",
        "pooling",
        "dncnn",
        "unet1",
        "unet3",
        "nafnet",
        "global",
    ],
)
def test_receptive_field_is_measured(network: nn.Module, expected: ReceptiveField) -> None:
    for parameter in network.parameters():  # no layer is dead, whatever was drawn
        nn.init.uniform_(parameter, 0.01, 0.1, generator=torch.Generator().manual_seed(0))
    assert measure(network.eval(), 3) == expected


def test_the_papers_unet_fits_between_tiles() -> None:
    torch.manual_seed(0)
    field = measure(backbones.UNet(width=4).eval(), 3)
    assert field == ReceptiveField(127, 32)
    assert Tiling.plan(field, 256, None) == Tiling(256, 128, 127)


@pytest.mark.parametrize("length", [1, 47, 48, 64, 65, 79, 80, 81, 96, 150, 161, 1000])
@pytest.mark.parametrize(
    ("tile", "overlap", "margin"), [(48, 16, 6), (48, 16, 16), (48, 0, 0), (32, 16, 0), (64, 32, 31)]
)
def test_weights_add_up_to_1_and_discard_the_margin(length: int, tile: int, overlap: int, margin: int) -> None:
    total = torch.zeros(length)
    found = spans(length, tile, overlap, margin)
    for i, span in enumerate(found):
        assert span.start % 16 == 0
        total[span.start : span.stop] += span.weight
        assert i == 0 or (span.weight[:margin] == 0).all()
        assert i == len(found) - 1 or (span.weight[len(span.weight) - margin :] == 0).all()
    assert (found[0].start, found[-1].stop) == (0, length)
    assert torch.allclose(total, torch.ones(length), atol=1e-6)


def test_plans() -> None:
    assert Tiling.plan(ReceptiveField(6, 1), 256, None) == Tiling(256, 16, 6)
    assert Tiling.plan(ReceptiveField(40, 32), 48, None) == Tiling(128, 64, 40)
    # Too little overlap: half of it is discarded, the rest hides the seam.
    assert Tiling.plan(ReceptiveField(40, 1), 256, 32) == Tiling(256, 32, 16)
    assert Tiling.plan(ReceptiveField(None, 32), 256, None) == Tiling(256, 64, 32)


def test_every_row_is_read_once_and_given_once() -> None:
    image = torch.rand(1, 2, 301, 90)
    read: list[int] = []

    def rows(start: int, stop: int) -> Tensor:
        read.extend(range(start, stop))
        return image[:, :, start:stop]

    given = list(denoise_bands(rows, (301, 90), Tiling(48, 16, 4), nn.Identity(), 3))
    assert read == list(range(301))
    assert max(part.shape[2] for part in given) <= 48 + 16 + 16
    assert torch.allclose(torch.cat(given, dim=2), image, atol=1e-6)


def test_no_seam_shows_where_the_overlap_is_too_small() -> None:
    # A gradient less its mean: every tile is off by another constant.
    image = torch.linspace(0, 1, 600).expand(1, 1, 64, 600)
    tiling = Tiling.plan(ReceptiveField(None, 32), 128, None)
    given = torch.cat(list(denoise_bands(lambda a, b: image[:, :, a:b], (64, 600), tiling, GlobalMean(), 1)), dim=2)
    steps = given[0, 0, 0].diff().abs()
    hard = torch.cat(
        list(denoise_bands(lambda a, b: image[:, :, a:b], (64, 600), Tiling(128, 0, 0), GlobalMean(), 1)), dim=2
    )
    assert steps.max() < 0.05 * hard[0, 0, 0].diff().abs().max()
