"""Short trainings on a device and on the CPU, compared."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from n2n.data.datamodule import PairDataModule
from n2n.data.sources.course import CourseFiles
from n2n.module import DenoisingModule
from tests.devices.target import Target, all_is_swept

Class = TypeVar("Class")
# Relative and absolute tolerance of figures: of float32 on one machine, where nothing differs but the order of sums; of half
# precision and of another device's kernels; of other random numbers.
EXACT, ROUNDED, RANDOM = (1e-3, 2e-4), (0.1, 0.02), (0.3, 1.0)
# How far the steps of half precision, or of another device, may be apart, as a part of their length.
STEPS = 0.1


class Small(nn.Module):
    """Two convolutions: as much network as most tests need."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.channels = channels
        self.first, self.last = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x - self.last(nn.functional.leaky_relu(self.first(x)))
        return out


@dataclass(frozen=True)
class Trained:
    """What a training gave: the weights before and after, on the CPU, and the figures that it logged."""

    before: dict[str, Tensor]
    weights: dict[str, Tensor]
    figures: dict[str, float]

    @property
    def step(self) -> Tensor:
        """How far all weights moved, in one vector."""
        pairs = [(self.before[name], x) for name, x in self.weights.items() if x.is_floating_point()]
        return torch.cat([(after.float() - before.float()).flatten() for before, after in pairs])


def _on_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def classes(module: ModuleType, base: type[Class]) -> list[type[Class]]:
    """Find the classes of a module that can be built, its imports from other packages left out."""
    found = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, base)]
    package = module.__name__.partition(".")[0]
    return sorted(
        {
            one
            for one in found
            if not inspect.isabstract(one) and one is not base and one.__module__.startswith(package)
        },
        key=lambda one: one.__name__,
    )


def pairs(ones: Iterable[Any], others: Iterable[Any]) -> list[Any]:
    """Return pairs of parameters, named in the test's name: each of one kind with the first of the other kind.

    All pairs if all is swept.
    """
    one, other = ([x if hasattr(x, "values") else pytest.param(x, id=str(x)) for x in kind] for kind in (ones, others))
    few = [*((a, other[0]) for a in one), *((one[0], b) for b in other[1:])]
    chosen = itertools.product(one, other) if all_is_swept() else few
    return [pytest.param(*a.values, *b.values, id=f"{a.id}-{b.id}") for a, b in chosen]


def by_name(found: Iterable[type[Any]]) -> Any:
    """Parametrise a test by classes, named in the test's name."""
    return [pytest.param(one, id=one.__name__) for one in found]


def data(files: Path, **options: Any) -> PairDataModule:
    """Return a data module of the course's files; options are the data module's."""
    source = CourseFiles(str(files / "course"), "train_data.pkl", "val_data.pkl")
    given: dict[str, Any] = {"source": source, "batch_size": 8, "val_batch_size": 8}
    return PairDataModule(**given | options)


def train(
    device: Target | None,
    datamodule: PairDataModule,
    backbone: Callable[[], nn.Module] = Small,
    ckpt_path: Path | None = None,
    save: Path | None = None,
    module: dict[str, Any] | None = None,
    precision: str = "32-true",
    **trainer: Any,
) -> Trained:
    """Train a backbone for an epoch of three steps, then validate it.

    Args:
        device: None for the CPU.
        datamodule: of the pairs.
        backbone: makes it.
        ckpt_path: a checkpoint to resume from.
        save: where to save one at the end.
        module: further arguments of the module. The default optimiser is SGD, because its steps are as exact as the
            gradients, and a plain loop over the weights, because other implementations round bfloat16 weights elsewhere.
        precision: of the Trainer; the CPU takes "32-true" for "16-mixed", which it does not have.
        **trainer: further arguments of the Trainer.
    """
    torch.manual_seed(0)
    sgd: dict[str, Any] = {"optimizer": lambda parameters: torch.optim.SGD(parameters, 0.05, foreach=False)}
    network = DenoisingModule(backbone(), **sgd | (module or {}))
    options: dict[str, Any] = {"max_epochs": 1, "limit_train_batches": 3, "limit_val_batches": 2, "devices": 1}
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    where = {"accelerator": "cpu"} if device is None else device.trainer
    options |= {**quiet, **where, "num_sanity_val_steps": 1, "precision": precision, **trainer}
    if precision == "16-mixed":
        # The CPU has none.
        options |= {"precision": "32-true"} if device is None else {"precision": None, "plugins": device.half()}
    before = _on_cpu(network.state_dict())
    runner = L.Trainer(**options)
    runner.fit(network, datamodule, ckpt_path=ckpt_path, weights_only=True)
    if save is not None:
        runner.save_checkpoint(save)
    assert runner.strategy.root_device.type == ("cpu" if device is None else device.device.type)
    figures = {name: float(value) for name, value in runner.callback_metrics.items()}
    return Trained(before, _on_cpu(network.state_dict()), figures)


def check(got: Trained, wanted: Trained, target: Target, rounded: bool = False, random: bool = False) -> None:
    """Compare a training on the device to one on the CPU.

    Args:
        got: on the device.
        wanted: on the CPU.
        target: the device.
        rounded: whether the two rounded in another way: half precision.
        random: whether random numbers were drawn on the device, where they are others than the CPU's.
    """
    assert got.figures.keys() == wanted.figures.keys()
    assert got.weights.keys() == wanted.weights.keys()
    assert all(torch.isfinite(value).all() for value in got.weights.values())
    random = random and not target.exact
    figures = RANDOM if random else ROUNDED if rounded or not target.exact else EXACT
    for name, value in wanted.figures.items():
        assert got.figures[name] == pytest.approx(value, rel=figures[0], abs=figures[1]), name
    if random:
        return
    if rounded or not target.exact:
        apart = float((got.step - wanted.step).norm() / wanted.step.norm())
        assert apart < STEPS, f"the weights moved elsewhere: by {apart:.2f} of the CPU's steps"
        return
    for name, weights in wanted.weights.items():
        assert torch.allclose(got.weights[name], weights, rtol=1e-3, atol=2e-5), name


def same_as_cpu(
    target: Target,
    make_data: Callable[[], PairDataModule],
    trainer: Callable[[], dict[str, Any]] = dict,
    random: bool = False,
    **options: Any,
) -> Trained:
    """Train on the device and on the CPU and compare.

    Args:
        target: the device.
        make_data: makes the data module of one training.
        trainer: makes further arguments of one Trainer, such as callbacks.
        random: as for :func:`check`.
        **options: as for :func:`train`.

    Returns:
        What the device gave.
    """
    got = train(target, make_data(), **options, **trainer())
    wanted = train(None, make_data(), **options, **trainer())
    precision = options.get("precision", "32-true")
    # Another device's kernels round bfloat16 weights elsewhere, by as much as a step.
    check(got, wanted, target, precision != "32-true", random or precision == "bf16-true")
    return got
