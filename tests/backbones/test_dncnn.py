from __future__ import annotations

import torch
from torch import nn

from n2n.backbones import DnCNN


def test_layers_are_the_papers() -> None:
    kinds = [type(layer).__name__ for layer in DnCNN(depth=4).layers]
    assert kinds == ["Conv2d", "ReLU", *["Conv2d", "BatchNorm2d", "ReLU"] * 2, "Conv2d"]
    # The authors' grey network.
    assert sum(p.numel() for p in DnCNN(1).parameters()) == 556_096
    plain = DnCNN(depth=4, batch_norm=False)
    biased = [layer.bias is not None for layer in plain.layers if isinstance(layer, nn.Conv2d)]
    assert biased == [True, True, True, False]
    assert not any("bias" in name for name in DnCNN(depth=4, batch_norm=False, bias=False).state_dict())


def test_output_is_the_input_less_the_noise() -> None:
    network = DnCNN(depth=3, features=4).eval()
    nn.init.zeros_(network.layers[-1].weight)  # type: ignore[arg-type]
    x = torch.rand(2, 3, 9, 8)
    assert torch.equal(network(x), x)
