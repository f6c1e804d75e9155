"""A backbone as plain data, {class_path, init_args}: what a checkpoint keeps of it, and how it is built again."""

from __future__ import annotations

import inspect
import pkgutil
import re
import sys
from typing import Any

from torch import nn

from n2n.errors import InputError

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_PLAIN = (bool, int, float, str, type(None))


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


def refuse_code(content: object, strings: bool = True) -> None:
    """Refuse what a configuration out of a checkpoint, which may be hostile, could run.

    It names classes, and no functions: jsonargparse calls a function that returns what is wanted, torch.fx.symbolic_trace for
    instance, which in turn calls whatever it is given. Nothing of Python's own library has a place in it, nor what a package
    runs as a program.

    Args:
        content: plain data.
        strings: whether its strings must not name such things either, since some classes take functions by their names.

    Raises:
        InputError: with what is wrong.
    """
    waiting: list[object] = [content]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, list | tuple | dict):
            # Lists of references to one another may claim any number of values.
            if id(value) not in seen:
                seen.add(id(value))
                waiting += value.values() if isinstance(value, dict) else value
            if isinstance(value, dict) and "class_path" in value:
                _refuse_function(value["class_path"])
        elif strings and isinstance(value, str) and _DOTTED.fullmatch(value) and _is_pythons(value):
            raise InputError(f"its configuration names {value}, which is no part of a network")


def _is_pythons(path: str) -> bool:
    first, *rest = path.split(".")
    return first in sys.stdlib_module_names or "__main__" in rest


def _refuse_function(path: object) -> None:
    if not (isinstance(path, str) and _DOTTED.fullmatch(path)):
        raise InputError(f"it names a class by {path!r:.80}: expected package.Class")
    if _is_pythons(path):
        raise InputError(f"it names {path}, which is no part of a network")
    try:
        found = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        return  # whoever builds it tells
    if not isinstance(found, type):
        raise InputError(f"it names {path}, which is no class")


def build(spec: dict[str, Any]) -> nn.Module:
    """Build a backbone from ``class_path`` and ``init_args``; those of a checkpoint go through :func:`refuse_code` before.

    Raises:
        InputError: if the class is not an importable ``torch.nn.Module``, or does not take the arguments.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--backbone", type=nn.Module)
    try:
        config = parser.parse_object({"backbone": spec})
        backbone: nn.Module = parser.instantiate(config).backbone
    except (ArgumentError, TypeError, KeyError) as error:
        name = spec.get("class_path") if isinstance(spec, dict) else spec
        reason = " ".join(str(error).split())
        raise InputError(
            f"cannot build the backbone {name} ({reason}): is the package that defines it installed?"
        ) from None
    return backbone
