"""How a checkpoint's network and data were configured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from n2n.checkpoints.bundled import describe_checkpoint
from n2n.checkpoints.on_disk import BEFORE
from n2n.checkpoints.rebuild import check_config, load_checkpoint, rebuild
from n2n.errors import InputError
from n2n.system.nested import nested_values


def read_checkpoint(path: str) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        InputError: if the file is not a checkpoint of n2n.
    """
    before = Path(path).with_name(BEFORE)
    advice = {"advice": f"go on from the one before it, --ckpt_path {before}"} if before.is_file() else {}
    return load_checkpoint(Path(path), **advice)


def _check_callbacks(states: object) -> None:
    """Refuse names of files by which Lightning would remove others than the run's own.

    Raises:
        InputError: if there is one.
    """
    for value in nested_values(states):
        if isinstance(value, str) and ".." in Path(value).parts:
            raise InputError(f"its callbacks name a file outside its folder, {value:.80}")


def checkpoint_config(path: str) -> dict[str, Any]:
    """Read from a checkpoint how its network and its data were configured.

    Raises:
        InputError: if the file is not a checkpoint of n2n.
    """
    content = read_checkpoint(path)
    config = {"model": content["hyper_parameters"], "data": content.get("datamodule_hyper_parameters") or {}}
    if not isinstance(config["data"], dict):
        raise InputError(f"{path} does not say what it was trained on: expected {describe_checkpoint()}")
    try:
        check_config(config["model"])
        # A folder may have any name, and what reads the data calls nothing that a string names.
        check_config(config["data"], strings=False)
        for value in nested_values(config["data"]):
            if isinstance(value, dict):
                value.pop("cache_dir", None)  # a checkpoint does not say where to write
        rebuild(content)
        _check_callbacks(content.get("callbacks"))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return {
        key: {name: value for name, value in part.items() if name != "_instantiator"}
        for key, part in config.items()
        if part
    }
