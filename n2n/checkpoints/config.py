"""How a checkpoint's network and data were configured."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from n2n.checkpoints.arguments import check_arguments
from n2n.checkpoints.bundled import describe_checkpoint
from n2n.checkpoints.on_disk import BEFORE, check_callbacks
from n2n.checkpoints.rebuild import check_backbone, load_checkpoint
from n2n.errors import InputError
from n2n.system.yaml_files import nested_values


def read_checkpoint(path: str) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        InputError: if the file is not a checkpoint of n2n.
    """
    before = Path(path).with_name(BEFORE)
    advice = {"advice": f"go on from the one before it, --ckpt_path {before}"} if before.is_file() else {}
    return load_checkpoint(Path(path), **advice)


def checkpoint_config(path: str, parts: Mapping[str, type], trust: Collection[str] = ()) -> dict[str, Any]:
    """Read from a checkpoint how its network and its data were configured.

    What is returned can be parsed and built: it names only classes of n2n, PyTorch's losses, optimisers and schedulers, and
    classes of trusted packages. Everything else in it is a plain value.

    Args:
        path: the checkpoint.
        parts: the classes that are built from its ``model`` and its ``data``.
        trust: packages where the classes that it names may be defined, too.

    Returns:
        The arguments by their names in a configuration, such as ``model.backbone``.

    Raises:
        InputError: if the file is not a checkpoint of n2n, or names a class or a value that it may not.
    """
    content = read_checkpoint(path)
    given = {"model": content["hyper_parameters"], "data": content.get("datamodule_hyper_parameters") or {}}
    if type(given["data"]) is not dict:
        raise InputError(f"{path} does not say what it was trained on: expected {describe_checkpoint()}")
    config: dict[str, Any] = {}
    try:
        for part, values in given.items():
            for value in nested_values(values):
                if type(value) is dict:
                    value.pop("cache_dir", None)  # a checkpoint does not say where to write
            # Lightning's own, by which load_from_checkpoint would build the class.
            values.pop("_instantiator", None)
            check_arguments(parts[part], values, (), trust)
            config |= {f"{part}.{name}": value for name, value in values.items()}
        check_backbone(content, trust)
        check_callbacks(content.get("callbacks"))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except RecursionError:
        raise InputError(f"{path}: its configuration is nested too deeply") from None
    return config
