"""The hyper-parameters of a run, flat and plain, as TensorBoard shows and sorts them."""

from __future__ import annotations

from typing import Any

import torch
from jsonargparse import Namespace
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

Plain = bool | int | float | str

# Of the data's arguments those that say where files lie, and nothing of what is learnt from them.
_PLACES = {"cache_dir", "root", "roots", "val_root", "clean"}


def _flatten(name: str, value: Any) -> dict[str, Plain]:
    """Flatten a value of the configuration: a class becomes its name, and its arguments follow under it."""
    if isinstance(value, bool | int | float | str):
        return {name: value}
    if not isinstance(value, dict):
        return {} if value is None else {name: str(value)}
    flat: dict[str, Plain] = {}
    if "class_path" in value:
        flat[name] = str(value["class_path"]).rpartition(".")[2]
        value = value.get("init_args") or {}
    for key, inner in value.items():
        if key not in _PLACES:
            flat |= _flatten(f"{name}.{key}", inner)
    return flat


def hyperparameters(config: Namespace) -> dict[str, Plain]:
    """Return what tells one run from another: network, loss, optimiser, schedule, data, budget and seed.

    Args:
        config: of ``n2n fit``, as it ran.
    """
    content: dict[str, Any] = config.as_dict()
    flat: dict[str, Plain] = {}
    for part in ("model", "data"):
        for key, value in content[part].items():
            flat |= _flatten(key, value)
    trainer = content["trainer"]
    return flat | {
        "seed": content["seed_everything"],
        "epochs": trainer["max_epochs"],
        "precision": trainer["precision"],
    }


def network_cost(network: nn.Module, shape: tuple[int, int, int]) -> dict[str, Plain]:
    """Count a network's parameters, and the multiplications it takes for each pixel of an image.

    Args:
        network: maps N×C×H×W to the same shape.
        shape: C, H, W of the image: networks that pad compute more for each pixel of a small one.

    Returns:
        ``parameters`` and ``macs_per_pixel`` (multiply-accumulates of convolutions and matrix products).
    """
    C, H, W = shape
    training = network.training
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, C, H, W, device=device))
    network.train(training)
    macs = counter.get_total_flops() / 2 / (H * W)
    return {"parameters": sum(p.numel() for p in network.parameters()), "macs_per_pixel": round(macs, 1)}
