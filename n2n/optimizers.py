"""Muon, and PyTorch's optimisers in their fused variants."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.adam import adam

from n2n.errors import InputError
from n2n.system.hardware import CUDA, has_fast_bf16

# Matrices with a smaller side (depthwise filters, layers to the image's channels) are too flat to orthogonalise.
_LEAST_SIDE = 16
# Coefficients of the polynomial a·x + b·x³ + c·x⁵, which maps singular values between 0 and 1 to about 1 (Jordan et al. 2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315
_STEPS = 5


def orthogonal(matrices: Tensor) -> Tensor:
    """Map the singular values of matrices, B×rows×columns, to about 1 by Newton–Schulz iteration.

    Most end between 0.7 and 1.2; those that are far below the largest one stay smaller.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT.contiguous() if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=_B, alpha=_C), x, beta=_A)
    return x.mT if tall else x


@cache
def _iterated_in(device_type: str) -> torch.dtype:
    # The iteration need not be exact. In float32 it takes a fifth of a small network's step on a CPU.
    return torch.bfloat16 if has_fast_bf16(device_type) else torch.float32


class Muon(Optimizer):
    """Muon for weights that are matrices, Adam for all others.

    The matrix of a convolution has a row for each entry of the first axis of its weight: an output channel, or an input
    channel if it is transposed. Muon orthogonalises its momentum before the step, so that weak directions of the gradient
    count as much as strong ones (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon). Its step has the root mean
    square of Adam's step (Liu et al. 2025, arXiv 2502.16982), so that both use one learning rate. Adam updates biases,
    depthwise filters, layers to few channels, and layers whose kernels have fewer than 16 entries for each output channel.

    Args:
        params: as for all optimisers.
        lr: learning rate.
        momentum: Nesterov momentum of the matrices.
        betas: as for Adam.
        eps: as for Adam.

    Raises:
        InputError: if an argument is out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.9),
        eps: float = 1e-8,
    ) -> None:
        if not lr >= 0 or not all(0 <= decay < 1 for decay in (momentum, *betas)):
            raise InputError(
                f"Muon's lr is {lr}, momentum {momentum} and betas {tuple(betas)}: expected a rate of at least 0, and "
                "the others from 0 to below 1"
            )
        if not eps > 0:
            raise InputError(f"Muon's eps is {eps}: expected a number above 0, since gradients are divided by it")
        super().__init__(params, {"lr": lr, "momentum": momentum, "betas": tuple(betas), "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # overloaded there
        """Update the weights; returns the loss if a ``closure`` computes it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            matrices = [p for p in weights if p.ndim >= 2 and min(len(p), p[0].numel()) >= _LEAST_SIDE]
            mine = {id(p) for p in matrices}
            self._step_matrices(matrices, group)
            self._step_others([p for p in weights if id(p) not in mine], group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; PyTorch would leave ``step`` on the CPU, where the fused update cannot read it."""
        super().load_state_dict(state_dict)
        for p, state in self.state.items():
            if isinstance(step := state.get("step"), Tensor):
                state["step"] = step.to(p.device, torch.float32)

    def _step_matrices(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for p in weights:
            alike[p.shape].append(p)
        # One kernel for all weights of one shape: on a GPU, launching kernels would take longer than the work.
        for shape, same in alike.items():
            gradients = torch.stack([p.grad for p in same if p.grad is not None])
            for p in same:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            momenta = torch.stack([self.state[p]["momentum"] for p in same]).lerp_(gradients, 1 - group["momentum"])
            for p, momentum in zip(same, momenta, strict=True):
                self.state[p]["momentum"] = momentum
            directions = gradients.lerp_(momenta, group["momentum"]).flatten(2)
            steps = orthogonal(directions.to(_iterated_in(directions.device.type)))
            scale = -group["lr"] * 0.2 * max(directions.shape[1:]) ** 0.5
            for p, step in zip(same, steps, strict=True):
                p.add_(step.reshape(shape), alpha=scale)

    def _step_others(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        if not weights:
            return
        for p in weights:
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        names = ("exp_avg", "exp_avg_sq", "step")
        averages, squares, counts = ([self.state[p][name] for p in weights] for name in names)
        gradients = [p.grad for p in weights if p.grad is not None]
        options: dict[str, Any] = {
            "amsgrad": False,
            "maximize": False,
            "weight_decay": 0.0,
            "lr": group["lr"],
            "eps": group["eps"],
        }
        options |= {"beta1": group["betas"][0], "beta2": group["betas"][1]}
        fused = all(p.device.type in {"cpu"} | CUDA for p in weights)
        adam(weights, gradients, averages, squares, [], counts, fused=fused, **options)


def fused(optimizer: Optimizer) -> Optimizer:
    """Return a new Adam, AdamW or SGD in its fused variant, which updates all weights in one kernel.

    Other optimisers are returned as they are: of another class or device, with several parameter groups, or with a variant that
    the user has chosen.
    """
    if type(optimizer) not in (Adam, AdamW, SGD) or len(optimizer.param_groups) > 1:
        return optimizer
    options = dict(optimizer.param_groups[0])
    parameters = options.pop("params")
    if any(options.get(name) is not None for name in ("fused", "foreach")) or options.get("differentiable"):
        return optimizer
    if not all(p.device.type in {"cpu"} | CUDA and p.is_floating_point() for p in parameters):
        return optimizer
    # They also contain values that the class does not take as arguments.
    known = inspect.signature(type(optimizer)).parameters
    return type(optimizer)(parameters, **{k: v for k, v in options.items() if k in known} | {"fused": True})


def keep_variant(optimizer: Optimizer) -> None:
    """Let an optimiser with a state from a checkpoint stay fused, or not fused, as it was built: that state says otherwise."""
    if "fused" not in optimizer.defaults:
        return
    for group in optimizer.param_groups:
        group["fused"] = optimizer.defaults["fused"]
        for p in group["params"]:
            state = optimizer.state.get(p, {})
            if isinstance(step := state.get("step"), Tensor):
                state["step"] = step.to(p.device if group["fused"] else "cpu", torch.float32)


def check_state(optimizer: Optimizer) -> None:
    """Check the state from a checkpoint, which may be hostile: fused updates write beyond tensors smaller than the weights.

    Raises:
        ValueError: if a tensor does not have the shape of its weight.
    """
    for group in optimizer.param_groups:
        # Other optimisers check their state themselves, and may keep tensors of other shapes.
        if not (group.get("fused") or isinstance(optimizer, Muon)):
            continue
        for p in group["params"]:
            state = optimizer.state.get(p, {})
            for name, value in [item for item in state.items() if isinstance(item[1], Tensor)]:
                if value.shape != (() if name == "step" else p.shape):
                    raise ValueError(f"{name} is {tuple(value.shape)} for a weight of {tuple(p.shape)}")
                # Elements of an expanded tensor share their memory.
                state[name] = value.clone()
