"""The hyper-parameters of a run, flat and plain, as TensorBoard shows and sorts them."""

from __future__ import annotations

from typing import Any

from jsonargparse import Namespace
from torch import nn

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


def hyperparameters(config: Namespace, network: nn.Module) -> dict[str, Plain]:
    """Return what tells one run from another: network, loss, optimiser, schedule, data, budget and seed.

    Args:
        config: of ``n2n fit``, as it ran.
        network: whose parameters are counted.
    """
    content: dict[str, Any] = config.as_dict()
    flat: dict[str, Plain] = {}
    for part in ("model", "data"):
        for key, value in content[part].items():
            flat |= _flatten(key, value)
    trainer = content["trainer"]
    flat |= {
        "seed": content["seed_everything"],
        "epochs": trainer["max_epochs"],
        "precision": str(trainer["precision"]),
    }
    return flat | {"parameters": sum(p.numel() for p in network.parameters())}
