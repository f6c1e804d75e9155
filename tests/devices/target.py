"""Which device the tests in ``tests/devices/sweep`` run on: the environment variable ``N2N_DEVICE`` names it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import torch
from lightning.pytorch.plugins import MixedPrecision

from tests.devices import pretend

VARIABLE = "N2N_DEVICE"
# If this one is 1, the sweep tries all combinations also on the pretended device.
ALL = "N2N_TEST_ALL"
NAMES = ("pretend-cuda", "pretend-mps", "cuda", "mps", "cpu")


@dataclass(frozen=True)
class Target:
    """A device to test.

    Attributes:
        name: one of ``NAMES``.
        device: for tensors.
    """

    name: str
    device: torch.device

    @property
    def pretended(self) -> bool:
        """Whether the device is made of the CPU: then it draws the CPU's random numbers and rounds as the CPU does."""
        return self.name.startswith(pretend.NAME)

    @property
    def exact(self) -> bool:
        """Whether its results are the CPU's but for the order of sums."""
        return self.pretended or self.device.type == "cpu"

    @property
    def trainer(self) -> dict[str, str]:
        """Arguments of ``lightning.Trainer``."""
        return {"accelerator": self.device.type} | ({"strategy": self.device.type} if self.pretended else {})

    def half(self) -> MixedPrecision:
        """Return "16-mixed" with a scale at which no test's gradients overflow: else the first steps would be left out."""
        device = self.device.type
        scaler = pretend.scaler(256.0) if self.pretended else torch.amp.GradScaler(device, 256.0)
        return MixedPrecision("16-mixed", device, scaler)

    def options(self, command: str) -> list[str]:
        """Options that make an ``n2n`` command run there."""
        return options(command, self.device.type)


def options(command: str, device: str) -> list[str]:
    """Options that make an ``n2n`` command run on a device of this type; none for commands that run on the CPU."""
    if command not in ("fit", "validate", "predict"):
        return []
    return ["--trainer.accelerator", device, *(["--trainer.strategy", device] if device == pretend.NAME else [])]


def all_is_swept() -> bool:
    """Whether the sweep tries all combinations: on a real device, and if it was asked to."""
    return os.environ.get(ALL) == "1" or not os.environ.get(VARIABLE, "").startswith(pretend.NAME)


def find(name: str | None = None) -> Target | None:
    """Return the device of a name, by default that of the environment; None if there is no name.

    The pretended device is made here.

    Raises:
        ValueError: for another name, and for a device that is not there.
    """
    name = name or os.environ.get(VARIABLE)
    if not name:
        return None
    if name not in NAMES:
        raise ValueError(f"{VARIABLE} is {name}: expected one of {', '.join(NAMES)}")
    if name.startswith(pretend.NAME):
        profile = cast(Literal["cuda", "mps"], name.removeprefix(f"{pretend.NAME}-"))
        return Target(name, pretend.install(profile))
    there: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if not there[name]():
        raise ValueError(f"{VARIABLE} is {name}: torch cannot use such a device here")
    return Target(name, torch.device(name, 0) if name != "cpu" else torch.device("cpu"))
