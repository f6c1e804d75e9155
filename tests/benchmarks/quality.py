"""PSNR of ``n2n fit`` against the plain float32 loop after equal epochs: same initial weights, same order of pairs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import ClassVar

import lightning as L
import torch
from torch import Tensor, nn

from n2n import backbones
from n2n.data import CourseFiles, DeadLeaves, PairStore
from n2n.data.sources.base import PairSource
from n2n.metrics import PSNR, PSNRPerImage
from tests.benchmarks.loops import fit, plain_loop, write_pairs
from tests.benchmarks.setting import Setting, table


class Witness(L.Callback):
    """Keeps what a training started from, the order of its pairs, and what it came to."""

    before: ClassVar[dict[str, Tensor]]
    after: ClassVar[dict[str, Tensor]]
    orders: ClassVar[list[Tensor]]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        Witness.before, Witness.orders = _weights(pl_module), []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert trainer.train_dataloader is not None
        Witness.orders.append(torch.cat(list(trainer.train_dataloader.sampler)))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        Witness.after = _weights(pl_module)


def _weights(module: L.LightningModule) -> dict[str, Tensor]:
    assert isinstance(module.backbone, nn.Module)
    return copy.deepcopy(module.backbone.state_dict())


def _score(network: nn.Module, noisy: Tensor, clean: Tensor) -> tuple[float, float]:
    """PSNR per image and over all pixels, in dB, of a network in float32 on uint8 N×C×H×W."""
    device = next(network.parameters()).device
    per_image, overall = PSNRPerImage().to(device), PSNR().to(device)
    network.eval()
    with torch.no_grad():
        for x, y in zip(torch.split(noisy, 250), torch.split(clean, 250), strict=True):
            denoised, target = network(x.to(device).float() / 255), y.to(device).float() / 255
            per_image.update(denoised, target)
            overall.update(denoised, target)
    return float(per_image.compute()), float(overall.compute())


def run(setting: Setting) -> Iterator[str]:
    """Give one table."""
    source: PairSource = DeadLeaves(setting.pairs, setting.val_pairs)
    if setting.data is not None:
        source = CourseFiles(str(setting.data))
    train, val = source.train_pairs(), source.val_pairs()
    assert isinstance(train, PairStore)
    assert isinstance(val, PairStore)
    assert train.second is not None
    assert val.clean is not None
    root = setting.folder / "images"
    write_pairs(root, train.first, train.second, val.first, val.clean)
    rows = []
    for name in setting.networks:
        fit(setting, root, f"n2n.backbones.{name}", setting.psnr_epochs, Witness)
        ours, plain = (getattr(backbones, name)().to(setting.device) for _ in range(2))
        plain.load_state_dict(Witness.before)
        pairs = train.first.to(setting.device), train.second.to(setting.device)
        orders = [order.to(setting.device) for order in Witness.orders]
        plain_loop(plain, *pairs, orders, setting.batch_size)
        ours.load_state_dict(Witness.after)
        scores = [_score(network, val.first, val.clean) for network in (ours, plain)]
        gaps = [ours_dB - plain_dB for ours_dB, plain_dB in zip(*scores, strict=True)]
        cells = (f"{per_image:.3f} \\| {overall:.3f}" for per_image, overall in scores)
        rows.append([name, *cells, f"{gaps[0]:+.3f} \\| {gaps[1]:+.3f}"])
    yield (
        f"PSNR in dB, per image | over all pixels, after {setting.psnr_epochs} epochs of {len(train):,} pairs from the same "
        f"weights in the same order; {len(val):,} validation pairs."
    )
    yield table(["network", "n2n fit", "plain loop, fp32", "difference"], rows)
