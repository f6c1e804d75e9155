"""Checkpoints, which may be hostile: what they say is checked before anything is built by it."""

from __future__ import annotations

import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy

from n2n.backbones.spec import PLAIN, build
from n2n.checkpoints.bundled import describe_checkpoint
from n2n.errors import InputError, reason
from n2n.system.nested import nested_values
from n2n.system.torch_files import load_torch_file

_PREFIX = "backbone."
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
# Bytes of parameters that a constructor may make for each that the checkpoint has, since some replace others; and beside them.
_MOST_RATIO, _SPARE = 16, 2**22


def load_checkpoint(path: Path, **advice: str) -> dict[str, Any]:
    """Read a checkpoint; its ``n2n``, ``hyper_parameters`` and ``state_dict`` are dicts, and nothing else is checked.

    Args:
        path: the file.
        advice: as of :func:`n2n.system.torch_files.load_torch_file`.

    Raises:
        InputError: if the file is not a checkpoint of n2n.
    """
    wanted = describe_checkpoint()
    content = load_torch_file(path, wanted, **advice)
    parts = ("n2n", "hyper_parameters", "state_dict")
    if not isinstance(content, dict) or not all(isinstance(content.get(part), dict) for part in parts):
        raise InputError(f"{path} is a PyTorch file of another kind: expected {wanted}")
    return content


def check_config(content: object, strings: bool = True) -> None:
    """Refuse what a configuration out of a checkpoint could run, or what is no configuration.

    It names classes, and no functions: jsonargparse calls a function that returns what is wanted, torch.fx.symbolic_trace for
    instance, which in turn calls whatever it is given. Nothing of Python's own library has a place in it, nor what a package
    runs as a program.

    Args:
        content: plain data.
        strings: whether its strings must not name such things either, since some classes take functions by their names.

    Raises:
        InputError: with what is wrong.
    """
    for value in nested_values(content):
        if isinstance(value, dict):
            if odd := [key for key in value if not (isinstance(key, str) and key.isidentifier())]:
                raise InputError(f"its configuration has a key that is no name, {_short(odd[0])}")
            if "class_path" in value:
                _check_class(value["class_path"])
        elif not isinstance(value, (*PLAIN, list, tuple)):
            raise InputError(f"its configuration holds a {type(value).__name__}")
        elif strings and isinstance(value, str) and _DOTTED.fullmatch(value) and _is_pythons(value):
            raise InputError(f"its configuration names {value}, which is no part of a network")


def _short(value: object) -> str:
    return f"{value!r:.80}" if isinstance(value, PLAIN) else f"a {type(value).__name__}"


def _is_pythons(path: str) -> bool:
    first, *rest = path.split(".")
    return first in sys.stdlib_module_names or "__main__" in rest


def _check_class(path: object) -> None:
    if not (isinstance(path, str) and _DOTTED.fullmatch(path)):
        raise InputError(f"it names a class by {_short(path)}: expected package.Class")
    if _is_pythons(path):
        raise InputError(f"it names {path}, which is no part of a network")
    try:
        found = pkgutil.resolve_name(path)
    except Exception:  # whoever builds it tells
        return
    if not isinstance(found, type):
        raise InputError(f"it names {path}, which is no class")


@contextmanager
def _bounded(most: int) -> Iterator[None]:
    """Refuse to make more bytes of parameters, before their memory is filled."""
    left = most

    def count(_module: nn.Module, _name: str, parameter: Tensor | None) -> None:
        nonlocal left
        left -= 0 if parameter is None or is_lazy(parameter) else parameter.nbytes
        if left < 0:
            raise InputError("the weights do not fit the backbone it names (it has many more)")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def rebuild(content: Mapping[str, Any]) -> nn.Module:
    """Build the backbone of a checkpoint, and load its weights.

    Args:
        content: of the checkpoint, as :func:`load_checkpoint` returns it.

    Raises:
        InputError: if the class is not an importable ``torch.nn.Module``, does not take the arguments, or has other weights;
            if there are none.
    """
    spec = content["hyper_parameters"].get("backbone")
    if not isinstance(spec, dict) or "class_path" not in spec:
        raise InputError("it does not say what its backbone is")
    check_config(spec)
    weights = {
        name.removeprefix(_PREFIX): value
        for name, value in content["state_dict"].items()
        if isinstance(name, str) and name.startswith(_PREFIX)
    }
    if odd := [name for name, value in weights.items() if not _is_stored(value)]:
        raise InputError(f"its weight {odd[0]!r:.80} is not stored in full")
    # Names may share what is stored.
    stored = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in weights.values()}
    with _bounded(_MOST_RATIO * sum(stored.values()) + _SPARE):
        backbone = build(spec)
    try:
        backbone.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"the weights do not fit the backbone it names ({reason(error)})") from None
    return backbone


def _is_stored(value: object) -> bool:
    """Whether a value is a tensor all of whose elements are there: others may claim any size over a few bytes."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.nbytes <= value.untyped_storage().nbytes()
    )
