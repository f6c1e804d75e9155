"""What hostile files hold, and how a command is run on them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from n2n.backbones import ModelFinal
from n2n.backbones.spec import describe
from n2n.cli import main


class Hostile:
    """Unpickling this leaves a mark."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("code-ran",)


class Takes:
    """Unpickling this takes as much memory as there is, by something that torch lets pass."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return bytearray, (2**38,)


def everything() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, list[str]]:
    """Run the command; returns its status and its lines of errors and warnings."""
    capsys.readouterr()
    status = main(list(args))
    return status, [line for line in capsys.readouterr().err.splitlines() if "error: " in line or "warning: " in line]


def content(**changed: Any) -> dict[str, Any]:
    """What a checkpoint of a small network holds, with other values somewhere."""
    network = ModelFinal(3, (4,))
    return {
        "pytorch-lightning_version": "2.6.0",
        "hyper_parameters": {"backbone": describe(network)} | changed.pop("hyper_parameters", {}),
        "datamodule_hyper_parameters": {},
        "state_dict": {f"backbone.{name}": value for name, value in network.state_dict().items()}
        | changed.pop("state_dict", {}),
        "n2n": {"image_channels": 3, "range": [0.0, 255.0], "dtype": "uint8"} | changed.pop("n2n", {}),
        **changed,
    }


def spec(class_path: object, **init_args: object) -> dict[str, Any]:
    """Another backbone for ``content``."""
    return {"hyper_parameters": {"backbone": {"class_path": class_path, "init_args": init_args}}}


def doubled(times: int) -> list[Any]:
    """Lists of lists, of which a few hold any number of values."""
    value: list[Any] = [1]
    for _ in range(times):
        value = [value, value]
    return value


# What would leave a mark if it were built or called.
POPEN = {"class_path": "torch.utils.cpp_extension.subprocess.Popen", "init_args": {"args": ["mkdir", "code-ran"]}}
SHELL = {"root": "subprocess.getoutput", "concrete_args": {"cmd": "mkdir code-ran", "encoding": None, "errors": None}}
SHELL_BY_TRACING = {"class_path": "torch.fx.symbolic_trace", "init_args": SHELL}
