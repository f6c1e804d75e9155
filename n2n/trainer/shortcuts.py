"""Shorter options of ``n2n fit`` for what is given most: ``--root`` and ``--epochs``."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from n2n.errors import InputError
from n2n.system.config_files import config_contents
from n2n.system.options import options, without_option
from n2n.trainer.classes import chosen_class, find_named_class

_EPOCHS = "--trainer.max_epochs"
_ALIASES = {"--epochs": _EPOCHS, "--trainer.epochs": _EPOCHS}
# The source without a configuration.
DEFAULT_SOURCE = "n2n.data.DeadLeaves"


def expand(args: Sequence[str], checkpoint: Mapping[str, Any]) -> list[str]:
    """Return a command line with ``--epochs`` and ``--root`` replaced by the options that they stand for.

    Args:
        args: the command line.
        checkpoint: the configuration of the checkpoint that it names.

    Raises:
        InputError: if ``--root`` has no value, or the source takes no images.
    """
    expanded = []
    for argument in args:
        name, equals, value = argument.partition("=")
        expanded.append(f"{_ALIASES.get(name, name)}{equals}{value}" if name.startswith("--") else argument)
    if not any(argument.partition("=")[0] == "--root" for argument in expanded):
        return expanded
    roots = options(expanded, "--root")
    if not roots or any(not root or root.startswith("--") for root in roots):
        raise InputError("--root has no value: expected a folder of images, or an image")
    # At the end, when the source is known.
    return [*without_option(expanded, "--root"), *_root_options(roots, _source(expanded, checkpoint))]


def _source(args: Sequence[str], checkpoint: Mapping[str, Any]) -> str:
    """Return the source that a command line chooses."""
    kept = checkpoint.get("data.source")
    before = kept.get("class_path") if isinstance(kept, Mapping) else None
    return chosen_class(args, "data.source") or before or DEFAULT_SOURCE


def _root_options(roots: list[str], source: str) -> list[str]:
    found = find_named_class("source", source)
    # A source that there is not gets its line from the parser.
    parameters = inspect.signature(found).parameters if found is not None else {}
    if found is not None and not {"root", "roots"} & parameters.keys():
        raise InputError(
            f"--root is {', '.join(roots)}, and the source {source.rpartition('.')[2]} takes no images: choose one that does "
            "with --config data/photos, data/folders, data/captures, data/stack or data/single"
        )
    # Not as an option of its own, whose value is read as YAML: [raw] would be a list, and null nothing. Where a list may stand,
    # [raw] must be in one.
    lists = "root" in parameters and "list" in str(parameters["root"].annotation)
    alone = len(roots) == 1 and not (lists and roots[0].startswith("["))
    given = {"roots": roots} if "roots" in parameters else {"root": roots[0] if alone else roots}
    return [f"--data.source.init_args={json.dumps(given, ensure_ascii=False)}"]


def names_images(args: Sequence[str]) -> bool:
    """Whether a command line, or a configuration on it, chooses a source of images and no ``val_source`` beside it."""
    named = {argument.partition("=")[0] for argument in args}
    for content in config_contents(args):
        if isinstance(data := content.get("data"), dict):
            named |= {f"--data.{part}" for part in data}
    parts = {name.removeprefix("--data.").partition(".")[0] for name in named}
    return "val_source" not in parts and ("source" in parts or "--root" in parts)
