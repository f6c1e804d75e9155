"""Optimisers: Muon, and how those of PyTorch update all weights in one go."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adam import adam

from n2n.errors import InputError
from n2n.system.hardware import has_fast_bf16

# Smaller sides are those of depthwise filters and of an image's channels: there is nothing to orthogonalise.
_LEAST_SIDE = 16
# Of the polynomial a·x + b·x³ + c·x⁵ that brings singular values between 0 and 1 to about 1 (Jordan et al. 2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of matrices, B×rows×columns, to between 0.7 and 1.2, by Newton and Schulz's iteration."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT.contiguous() if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=_B, alpha=_C), x, beta=_A)
    return x.mT if tall else x


@cache
def _iterated_in(device_type: str) -> torch.dtype:
    # The iteration need not be exact, and is a fifth of a small network's step in float32 on a CPU.
    return torch.bfloat16 if has_fast_bf16(device_type) else torch.float32


class Muon(Optimizer):
    """Muon for weights that are matrices, Adam for the others.

    The matrix of a convolution has a row for each output channel. Its momentum is made orthogonal before the step, so that
    the weak directions of the gradient count as much as the strong ones (Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon). The step's root mean square is that of Adam's (Liu et al. 2025, arXiv
    2502.16982), so that one rate serves both. Biases, depthwise filters, and the layers to and from few channels are Adam's.

    Args:
        params: as for all optimisers.
        lr: the rate.
        momentum: of the matrices (Nesterov's).
        betas: of Adam.
        eps: of Adam.

    Raises:
        InputError: for a rate or momentum out of bounds.
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
        """Change the weights by their gradients; returns the loss that ``closure`` gives, if any."""
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

    def _step_matrices(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        alike: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for p in weights:
            assert p.grad is not None
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            momentum = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
            direction = p.grad.lerp(momentum, group["momentum"]).flatten(1)
            alike[len(p), direction.shape[1]].append((p, direction))
        for shape, pairs in alike.items():
            steps = orthogonal(
                torch.stack([direction for _, direction in pairs]).to(_iterated_in(pairs[0][0].device.type))
            )
            for (p, _), step in zip(pairs, steps, strict=True):
                p.add_(step.reshape(p.shape), alpha=-group["lr"] * 0.2 * max(shape) ** 0.5)

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
        adam(
            weights,
            [p.grad for p in weights if p.grad is not None],
            averages,
            squares,
            [],
            counts,
            fused=all(p.device.type in ("cpu", "cuda") for p in weights),
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )


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


def check_state(optimizer: Optimizer) -> None:
    """Check a state out of a checkpoint, which may be hostile: fused updates write beyond tensors smaller than the weights.

    Raises:
        ValueError: if a tensor has not the shape of its weight.
    """
    for group in optimizer.param_groups:
        # Others look themselves, and may keep tensors of other shapes.
        if not (group.get("fused") or isinstance(optimizer, Muon)):
            continue
        for p in group["params"]:
            state = optimizer.state.get(p, {})
            for name, value in state.items():
                if not isinstance(value, Tensor):
                    continue
                if value.shape != (() if name == "step" else p.shape):
                    raise ValueError(f"{name} is {tuple(value.shape)} for a weight of {tuple(p.shape)}")
                # One number may stand for many in the file.
                state[name] = value.clone()
