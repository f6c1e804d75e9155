"""The arguments that a checkpoint may give to the classes that it names: plain values, and classes again."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Collection, Iterator, Sequence
from types import UnionType
from typing import Any, Literal, Union

from n2n.backbones.spec import PLAIN
from n2n.checkpoints.trust import HOMES, find_trusted_class, short
from n2n.errors import InputError

_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
# Protocols as fsspec reads them, servers as Windows does, and the character that ends a name for the system.
_ADDRESS = re.compile(r"://|::|^(//|\\\\)|\0")
_LARGEST = 2**63


def arguments(cls: type) -> Callable[[str], Any]:
    """Return a function that maps the name of a class's argument to its annotation, and raises InputError for other names."""
    known: dict[str, Any] = {}
    is_open = False
    for base in cls.__mro__:
        if (init := vars(base).get("__init__")) is None or base is object:
            continue
        try:
            signature = inspect.signature(init, eval_str=True)
        except Exception:  # names that are imported for type checkers alone
            signature = inspect.signature(init)
        # The first is self.
        parameters = list(signature.parameters.values())[1:]
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                known.setdefault(parameter.name, parameter.annotation)
        is_open = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters)
        if not is_open:
            break

    def annotation(name: str) -> Any:
        if name in known or (is_open and _NAME.fullmatch(name)):
            return known.get(name, Any)
        raise InputError(f"{cls.__name__} has no argument {short(name)}")

    return annotation


def _leaves(annotation: Any) -> Iterator[Any]:
    """Yield the types that a type is made of."""
    origin = typing.get_origin(annotation)
    if origin in (Union, UnionType, list, tuple, dict, Sequence):
        for inner in typing.get_args(annotation):
            yield from _leaves(inner)
    else:
        yield Literal if origin is Literal else annotation


def takes_text(annotation: Any) -> bool:
    """Whether an argument takes strings but no classes or functions, which a parser would import by their names."""
    leaves = list(_leaves(annotation))
    text = (str, Literal, Any, inspect.Parameter.empty)
    plain = (*text, bool, int, float, type(None), list, tuple, dict, ...)
    return all(leaf in plain for leaf in leaves) and any(leaf in text for leaf in leaves)


def check_arguments(cls: type, given: object, homes: Sequence[str], trust: Collection[str]) -> None:
    """Refuse arguments out of a checkpoint that are no plain values, and no classes that the checkpoint may name.

    Args:
        cls: that takes the arguments.
        given: the arguments by their names.
        homes: where the classes among them may be defined, unless ``HOMES`` says so by the argument's name.
        trust: packages where they may be defined, too.

    Raises:
        InputError: if an argument does not exist, or the checkpoint may not give its value.
    """
    if type(given) is not dict:
        raise InputError(f"the arguments of {cls.__name__} are {short(given)}: expected names and values")
    annotation = arguments(cls)
    for name, value in given.items():
        if not isinstance(name, str):
            raise InputError(f"{cls.__name__} has no argument {short(name)}")
        wanted = annotation(name)
        _check(value, f"{cls.__name__}'s {name}", takes_text(wanted), HOMES.get(name, homes), trust)
        # jsonargparse does not check the strings among the defaults.
        if typing.get_origin(wanted) is Literal and value not in (choices := typing.get_args(wanted)):
            raise InputError(
                f"{cls.__name__}'s {name} is {short(value)}: expected one of {', '.join(map(repr, choices))}"
            )


def _check(value: object, name: str, text: bool, homes: Sequence[str], trust: Collection[str]) -> None:
    if type(value) is dict and "class_path" in value:
        check_spec(value, homes, trust)
    elif type(value) is dict:
        for key, inner in value.items():
            if not isinstance(key, str) or not _NAME.fullmatch(key):
                raise InputError(f"{name} has the key {short(key)}: expected a name")
            _check(inner, name, text, homes, trust)
    elif type(value) in (list, tuple):
        assert isinstance(value, list | tuple)
        for inner in value:
            _check(inner, name, text, homes, trust)
    elif isinstance(value, str):
        if not text:
            raise InputError(f"{name} is {short(value)}, where no text belongs")
        if _ADDRESS.search(value):
            raise InputError(f"{name} is {short(value)}, an address: a checkpoint may name local files only")
    elif not isinstance(value, PLAIN):
        raise InputError(f"{name} holds {short(value)}: expected plain values")
    elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise InputError(f"{name} is a number of more than 64 bits")


def check_spec(spec: object, homes: Sequence[str], trust: Collection[str]) -> type:
    """Return the class that ``class_path`` and ``init_args`` out of a checkpoint name.

    Raises:
        InputError: if the checkpoint may not name the class or give the arguments, or the spec has other keys.
    """
    if type(spec) is not dict or "class_path" not in spec:
        raise InputError(f"it names a class by {short(spec)}: expected class_path and init_args")
    if odd := [key for key in spec if key not in ("class_path", "init_args", "dict_kwargs")]:
        raise InputError(f"beside class_path and init_args it has {short(odd[0])}")
    cls = find_trusted_class(spec["class_path"], homes, trust)
    for part in ("init_args", "dict_kwargs"):
        check_arguments(cls, {} if spec.get(part) is None else spec[part], homes, trust)
    return cls
