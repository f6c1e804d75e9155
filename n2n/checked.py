"""What a checkpoint, which may be hostile, says of its network: checked before anything is built by it."""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from n2n.backbones.spec import PLAIN, build
from n2n.errors import InputError, reason

_PREFIX = "backbone."
# How often the layers of a network may share a weight, which a checkpoint holds once.
_MOST_SHARED = 16
# Values in a configuration, far above any's: references to references may claim any number.
_MOST_VALUES = 10_000
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
# Parameters, buffers and layers for each tensor of a checkpoint: layers such as activations have none, and some replace others.
_MOST_PARTS = 64


def _named(path: str) -> object:
    """Import what a dotted path names, or return None."""
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            found = getattr(found, part, None)
        return found
    return None


def check_config(content: object, code: bool = True) -> None:
    """Refuse what a configuration out of a checkpoint must not have, before anything is built by it.

    It names classes, and no functions: jsonargparse calls a function that returns what is wanted, torch.fx.symbolic_trace for
    instance, which in turn calls whatever it is given. Nothing of Python's own library has a place in it.

    Args:
        content: plain data.
        code: whether functions may be arguments, so that strings are looked at, too.

    Raises:
        InputError: with what is wrong.
    """
    waiting, count = [content], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > _MOST_VALUES:
            raise InputError(f"its configuration holds more than {_MOST_VALUES:,} values")
        if isinstance(value, list | tuple):
            waiting += value[:_MOST_VALUES]
        elif isinstance(value, dict):
            if odd := [key for key in value if not (isinstance(key, str) and key.isidentifier())]:
                raise InputError(f"its configuration has a key that is no name, {_short(odd[0])}")
            if "class_path" in value:
                _check_class(value["class_path"])
            waiting += list(value.values())[:_MOST_VALUES]
        elif not isinstance(value, PLAIN):
            raise InputError(f"its configuration holds a {type(value).__name__}")
        elif code and isinstance(value, str) and _DOTTED.fullmatch(value) and _is_own(value):
            raise InputError(f"its configuration names {value}, which is no part of a network")


def _short(value: object) -> str:
    return f"{value!r:.80}" if isinstance(value, PLAIN) else f"a {type(value).__name__}"


def _is_own(path: str) -> bool:
    """Whether a dotted path begins in Python's own library, or names what a package runs as a program."""
    parts = path.split(".")
    return parts[0] in sys.stdlib_module_names or "__main__" in parts


def _check_class(path: object) -> None:
    if not (isinstance(path, str) and len(path) < 200 and _DOTTED.fullmatch(path)):
        raise InputError(f"it names a class by {_short(path)}: expected package.Class")
    if _is_own(path):
        raise InputError(f"it names {path}, which is no part of a network")
    # What cannot be imported is told by whoever builds it.
    if (found := _named(path)) is not None and not isinstance(found, type):
        raise InputError(f"it names {path}, which is no class")


@contextmanager
def _bounded(tensors: int) -> Iterator[None]:
    """Refuse to build more parameters, buffers and layers than so many tensors of a checkpoint can belong to."""
    left = _MOST_PARTS * (tensors + 1)

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise InputError("it has more layers than there are weights")

    handles = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
        hooks.register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def rebuild(content: Mapping[str, Any], size: int) -> nn.Module:
    """Build the backbone of a checkpoint, and load its weights.

    It is built without memory first, so that none is taken for more weights than the checkpoint has.

    Args:
        content: of the checkpoint.
        size: of the file in bytes.

    Raises:
        InputError: if the class is not an importable ``torch.nn.Module``, does not take the arguments, or has other weights;
            if there are none.
    """
    try:
        spec = content["hyper_parameters"]["backbone"]
        weights = {k.removeprefix(_PREFIX): v for k, v in content["state_dict"].items() if k.startswith(_PREFIX)}
    except (KeyError, TypeError, AttributeError, IndexError):
        raise InputError("it holds no backbone") from None
    if not isinstance(spec, dict) or "class_path" not in spec:
        raise InputError("it does not say what its backbone is")
    check_config(spec)
    if odd := [name for name, value in weights.items() if not _is_stored(value)]:
        raise InputError(f"its weight {odd[0]!r:.80} is not stored in full")
    if sum(value.nbytes for value in weights.values()) > _MOST_SHARED * size:
        raise InputError("its weights take more memory than the file has bytes")
    with _bounded(len(weights)):
        try:
            with torch.device("meta"):
                hollow = build(spec)
        except InputError:
            raise
        except Exception:  # there are networks that cannot do without memory
            hollow = None
        if hollow is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it says that nothing is copied
                _load(hollow, weights)
        backbone = build(spec)
    _load(backbone, weights)
    return backbone


def _is_stored(value: object) -> bool:
    """Whether a value is a tensor all of whose elements are there: others may claim any size over a few bytes."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.nbytes <= value.untyped_storage().nbytes()
    )


def _load(backbone: nn.Module, weights: Mapping[str, Tensor]) -> None:
    try:
        backbone.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise InputError(f"the weights do not fit the backbone it names ({reason(error)})") from None
