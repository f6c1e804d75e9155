"""Optimisers that update all weights in one go."""

from __future__ import annotations

import inspect

from torch.optim import Optimizer


def fused(optimizer: Optimizer) -> Optimizer:
    """Build an optimiser again so that it updates all weights in one go, where its class can and nothing else was chosen.

    Args:
        optimizer: just built, of one group of parameters; on CPUs and GPUs of NVIDIA.
    """
    defaults = optimizer.defaults
    if any(defaults.get(name, True) is not None for name in ("fused", "foreach")) or defaults.get("differentiable"):
        return optimizer
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if len(optimizer.param_groups) > 1 or not all(
        p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters
    ):
        return optimizer
    # A class keeps in its defaults also what it does not take as an argument.
    known = inspect.signature(type(optimizer)).parameters
    return type(optimizer)(parameters, **{k: v for k, v in defaults.items() if k in known} | {"fused": True})
