"""A backbone as plain data, {class_path, init_args}: what a checkpoint keeps of it, and how it is built again."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from n2n.errors import InputError, reason

# Types of the arguments that a checkpoint holds.
PLAIN = (bool, int, float, str, type(None))


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    return isinstance(value, PLAIN)


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


def build(spec: dict[str, Any]) -> nn.Module:
    """Build a backbone from ``class_path`` and ``init_args``.

    Those of a checkpoint go through :func:`n2n.checkpoints.rebuild.rebuild`, which checks them first.

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
        told = ": is the package that defines it installed?" if isinstance(error, ArgumentError) else ""
        raise InputError(f"cannot build the backbone {spec['class_path']} ({reason(error)}){told}") from None
    return backbone
