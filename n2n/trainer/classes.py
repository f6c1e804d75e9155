"""The classes that ``n2n fit`` can be given by name, and those that a command line chooses."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from torch import nn, optim
from torch.optim.lr_scheduler import LRScheduler

from n2n.data.augmentation import Augmentation
from n2n.data.corruption import Corruption
from n2n.data.sources.arrays import Arrays
from n2n.data.sources.base import PairSource
from n2n.errors import InputError
from n2n.losses import NetworkLoss
from n2n.system.yaml_files import load_yaml

# The last part of an option's name; n2n's module of such classes, and what they are.
PARTS: dict[str, tuple[str, type]] = {
    "backbone": ("n2n.backbones", nn.Module),
    "loss": ("n2n.losses", nn.Module),
    "optimizer": ("n2n.optimizers", optim.Optimizer),
    "scheduler": ("n2n.schedules", LRScheduler),
    "source": ("n2n.data", PairSource),
    "val_source": ("n2n.data", PairSource),
    "corruption": ("n2n.data.corruption", Corruption),
    "augmentations": ("n2n.data.augmentation", Augmentation),
}
# A base class, and a source whose arguments can only be given in Python.
_NOT_BY_NAME = (NetworkLoss, Arrays)


def _is_choice(one: object, base: type) -> bool:
    return (
        inspect.isclass(one) and one is not base and issubclass(one, base) and not inspect.isabstract(one)
    ) and not (one.__name__.startswith("_") or one in _NOT_BY_NAME)


def own_classes(part: str) -> dict[str, type]:
    """Return n2n's classes for one of ``PARTS``, by their names."""
    home, base = PARTS[part]
    found = vars(import_module(home)).items()
    return {
        name: one for name, one in sorted(found) if _is_choice(one, base) and one.__module__.partition(".")[0] == "n2n"
    }


def all_classes(part: str) -> dict[str, type]:
    """Return the classes that can be given by name alone: all that are imported, n2n's in place of others of the same name."""
    _, base = PARTS[part]
    found: dict[str, type] = {}
    waiting = [base]
    while waiting:
        one = waiting.pop()
        waiting += one.__subclasses__()
        if _is_choice(one, base):
            found[one.__name__] = one
    return found | own_classes(part)


def find_named_class(part: str, name: str) -> type | None:
    """Return a class by its name or its import path; None if there is none."""
    if "." not in name:
        return all_classes(part).get(name)
    module, _, last = name.rpartition(".")
    try:
        found = getattr(import_module(module), last, None)
    except ImportError:
        return None
    return found if inspect.isclass(found) else None


def plain_key(option: str) -> str:
    """Return the name of an option without what may be left out: ``data.source.root`` of ``--data.source.init_args.root``."""
    return option.lstrip("-").rstrip("+").replace(".init_args", "").removesuffix(".class_path")


def _given(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the options of a command line, and their values."""
    waiting = ""
    for argument in args:
        if argument.startswith("-"):
            waiting, equals, value = argument.partition("=")
            if equals:
                yield waiting, value
        elif waiting:
            yield waiting, argument


def _content(option: str, value: str) -> Any:
    """Return what an option sets, as nested dicts."""
    content: Any = None
    if option == "--config" and os.path.isfile(value):  # noqa: PTH113  # Path.is_file fails for long texts
        return load_yaml(Path(value), "a configuration")
    try:
        content = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        content = value
    if option == "--config":
        return content
    for name in reversed(plain_key(option).split(".")):
        content = {name: content}
    return content


def chosen_class(args: Sequence[str], key: str) -> str | None:
    """Return the class that a command line chooses last for an option, such as ``data.source``, as it is written there."""
    chosen = None
    for option, value in _given(args):
        if option != "--config" and not f"{key}.".startswith(f"{plain_key(option)}."):
            continue
        try:
            content = _content(option, value)
        except InputError:
            continue
        for name in key.split("."):
            content = content.get("init_args", content) if isinstance(content, dict) else None
            content = content.get(name) if isinstance(content, dict) else None
        content = content.get("class_path") if isinstance(content, dict) else content
        chosen = content if isinstance(content, str) else chosen
    return chosen
