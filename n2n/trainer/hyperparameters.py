"""The hyper-parameters and the cost of a run, as TensorBoard shows and sorts them."""

from __future__ import annotations

from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from n2n.module.probe import device_of, evaluating
from n2n.system.config_files import flatten


def hyperparameters(config: Namespace) -> dict[str, Any]:
    """Return what tells one run from another: network, loss, optimiser, schedule, data, budget and seed.

    Args:
        config: of ``n2n fit``, as it ran.
    """
    content: dict[str, Any] = config.as_dict()
    trainer = content["trainer"]
    return {
        **{name: content[name] for name in ("model", "data")},
        "seed": content["seed_everything"],
        "epochs": trainer["max_epochs"],
        "precision": trainer["precision"],
    }


def log_hyperparameters(logger: TensorBoardLogger, params: dict[str, Any], step: int) -> None:
    """Show hyper-parameters in TensorBoard's HParams tab, one column each.

    The figures of the best epoch belong to ``params`` too. HParams can show them as metrics, but reads those from scalars, each
    of which would get a chart of its own in the other tabs.

    Args:
        logger: of the run.
        params: may be nested; the columns are named ``model/optimizer/init_args/lr`` and so on.
        step: of the training.
    """
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    columns = {
        key.replace(".", "/"): value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in flatten(params).items()
    }
    # The logger has closed its own writer by the end of the training.
    with SummaryWriter(logger.log_dir) as writer:
        for summary in hparams(columns, {}):  # type: ignore[no-untyped-call]
            writer.file_writer.add_summary(summary, step)


def network_cost(network: nn.Module, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Count a network's parameters, and the multiplications it takes for each pixel of an image.

    Args:
        network: maps N×C×H×W to the same shape.
        shape: C, H, W of the image: networks that pad compute more for each pixel of a small one.

    Returns:
        ``parameters`` and ``macs_per_pixel`` (multiply-accumulates of convolutions and matrix products).
    """
    C, H, W = shape
    with torch.no_grad(), evaluating(network), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, C, H, W, device=device_of(network)))
    macs = counter.get_total_flops() / 2 / (H * W)
    return {"parameters": sum(p.numel() for p in network.parameters()), "macs_per_pixel": round(macs, 1)}
