"""A backbone as plain data, {class_path, init_args}: what a checkpoint keeps of it, and how it is built again."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from n2n.errors import InputError

_PLAIN = (bool, int, float, str, type(None))
# Values in a configuration, far above any's: references to references may claim any number.
_MOST_VALUES = 10_000
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
# Parameters, buffers and layers for each tensor of a checkpoint: layers such as activations have none, and some replace others.
_MOST_PARTS = 64


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    return isinstance(value, _PLAIN)


def describe(backbone: nn.Module) -> dict[str, Any]:
    """Return the ``class_path`` and ``init_args`` that build a backbone like this one.

    The arguments are read from attributes of the same names, scikit-learn's convention for its estimators.

    Raises:
        InputError: if an argument has no such attribute, or is no plain value: then a checkpoint could not rebuild the
            backbone.
    """
    cls = type(backbone)
    init_args: dict[str, Any] = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        value = getattr(backbone, name, parameter.empty)
        if value is parameter.empty or not _is_plain(value):
            raise InputError(
                f"the backbone {cls.__name__} does not keep its argument {name!r} as a plain attribute of that name, so its "
                f"checkpoint could not rebuild it: add self.{name} = {name}"
            )
        init_args[name] = value
    return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": init_args}


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
        elif not isinstance(value, _PLAIN):
            raise InputError(f"its configuration holds a {type(value).__name__}")
        elif code and isinstance(value, str) and _DOTTED.fullmatch(value) and _is_own(value):
            raise InputError(f"its configuration names {value}, which is no part of a network")


def _short(value: object) -> str:
    return f"{value!r:.80}" if isinstance(value, _PLAIN) else f"a {type(value).__name__}"


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


def rebuild(spec: object, weights: Mapping[str, Any], most_bytes: int) -> nn.Module:
    """Build the backbone of a checkpoint, and load its weights.

    It is built without memory first, so that none is taken for more weights than the checkpoint has.

    Args:
        spec: its ``class_path`` and ``init_args``.
        weights: by name.
        most_bytes: that the weights may take.

    Raises:
        InputError: if the class is not an importable ``torch.nn.Module``, does not take the arguments, or has other weights.
    """
    if not isinstance(spec, dict) or "class_path" not in spec:
        raise InputError("it does not say what its backbone is")
    check_config(spec)
    if odd := [name for name, value in weights.items() if not _is_stored(value)]:
        raise InputError(f"its weight {odd[0]!r:.80} is not stored in full")
    if sum(value.nbytes for value in weights.values()) > most_bytes:
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
        reason = " ".join(str(error).split())
        raise InputError(f"the weights do not fit the backbone it names ({reason:.200})") from None


def build(spec: dict[str, Any]) -> nn.Module:
    """Build a backbone from ``class_path`` and ``init_args``.

    What comes from a checkpoint is given to :func:`rebuild`.

    Raises:
        InputError: if the class is not an importable ``torch.nn.Module``, or does not take the arguments.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--backbone", type=nn.Module)
    try:
        config = parser.parse_object({"backbone": spec})
        backbone: nn.Module = parser.instantiate(config).backbone
    except InputError:
        raise
    except Exception as error:  # constructors fail in many ways on what they were not made for
        reason = " ".join(str(error).split()) or type(error).__name__
        told = ": is the package that defines it installed?" if isinstance(error, ArgumentError) else ""
        raise InputError(f"cannot build the backbone {spec['class_path']} ({reason:.200}){told}") from None
    return backbone
