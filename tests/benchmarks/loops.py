"""Ways to train one network on the same pairs: n2n's command, a plain loop, and Lightning as its manual has it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from n2n.backbones.trimmed import Trimmed
from n2n.cli import main as n2n
from tests.benchmarks.clock import Clock, Stopwatch
from tests.benchmarks.setting import Setting, quietly


def write_pairs(folder: Path, first: Tensor, second: Tensor, noisy: Tensor, clean: Tensor) -> None:
    """Write training and validation pairs, uint8 N×C×H×W, as the course's two files."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save((first, second), folder / "train_data.pkl")
    torch.save((noisy, clean), folder / "val_data.pkl")


def fit(setting: Setting, root: Path, backbone: str, epochs: int, callback: type[L.Callback], *options: str) -> None:
    """Run ``n2n fit --config final.yaml`` in this process.

    Args:
        setting: of the benchmark.
        root: the folder of the course's two files.
        backbone: import path of its class, or JSON with ``class_path`` and ``init_args``.
        epochs: to train for.
        callback: looks on.
        options: further ones of the command.
    """
    args = [
        *("--config", "final.yaml", "--config", "data/ee559.yaml", "--data.source.init_args.root", str(root)),
        *("--model.backbone", backbone, "--data.batch_size", str(setting.batch_size)),
        *("--trainer.max_epochs", str(epochs), "--trainer.accelerator", setting.accelerator),
        *("--trainer.devices", "1", "--trainer.default_root_dir", str(setting.folder)),
        *("--trainer.callbacks+", f"{callback.__module__}.{callback.__qualname__}", *options),
    ]
    with quietly() as log:
        status = n2n(["fit", *args])
    if status:
        raise RuntimeError(f"n2n fit: {log.getvalue()}")


def as_written(network: nn.Module) -> nn.Module:
    """Let the layers of a network do all that they say, as in the paper's code; in place."""
    for name, child in network.named_children():
        if isinstance(child, Trimmed):
            setattr(network, name, nn.Sequential(*child))
    return network


def plain_loop(
    network: nn.Module,
    first: Tensor,
    second: Tensor,
    orders: Iterable[Tensor],
    batch_size: int,
    clock: Clock | None = None,
    bf16: bool = False,
    order_in_memory: torch.memory_format = torch.contiguous_format,
) -> None:
    """Train as the paper did, with nothing around the steps: Adam, rate 1e-3, float32, N×C×H×W in memory.

    Args:
        network: trained in place, on the device of the pairs.
        first: N×C×H×W uint8, the noisy images.
        second: the same, the noisy targets.
        orders: one permutation of the pairs an epoch.
        batch_size: pairs a step.
        clock: counts the steps.
        bf16: autocast, as ``n2n fit`` trains where the hardware multiplies that.
        order_in_memory: of the values of an image; ``n2n fit`` has them channels_last.
    """
    network = as_written(network).to(first.device, memory_format=order_in_memory)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    loss_function = nn.MSELoss()
    for order in orders:
        for indices in torch.split(order, batch_size):
            noisy, target = first[indices].float().div_(255), second[indices].float().div_(255)
            with torch.autocast(first.device.type, torch.bfloat16, enabled=bf16):
                denoised = network(noisy.contiguous(memory_format=order_in_memory))
            loss = loss_function(denoised.float(), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if clock is not None:
                clock.step(len(indices))
    if clock is not None:
        clock.pause()


class _Textbook(L.LightningModule):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        noisy, target = batch
        loss = nn.functional.mse_loss(self.network(noisy), target)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def textbook(setting: Setting, network: nn.Module, pairs: TensorDataset, workers: int) -> None:
    """Train for one epoch as Lightning's manual shows it, with a DataLoader over float32 pairs; Stopwatch looks on."""
    loader = DataLoader(pairs, setting.batch_size, shuffle=True, num_workers=workers)
    with quietly():
        trainer = L.Trainer(
            accelerator=setting.accelerator,
            devices=1,
            max_epochs=1,
            default_root_dir=setting.folder,
            callbacks=[Stopwatch()],
        )
        trainer.fit(_Textbook(as_written(network)), loader)
