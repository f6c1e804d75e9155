"""What a resumed training takes from its checkpoint."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from n2n.errors import InputError
from n2n.system.config_files import differences

# What the state in a checkpoint belongs to, so that a resumed training goes on with it whatever a configuration says.
_KEPT = ("optimizer", "scheduler", "scheduler_interval")


def check_resumed(asked: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Refuse another optimiser or schedule than those of the checkpoint.

    Args:
        asked: the parsed arguments of the module.
        saved: the configuration in the checkpoint, by dotted names such as ``model.optimizer``; empty without a checkpoint.

    Raises:
        InputError: if they differ.
    """
    for part in _KEPT:
        key = f"model.{part}"
        for name, before, now in differences(saved[key], asked.get(part), key) if key in saved else ():
            option = name.replace(".init_args", "").removesuffix(".class_path")
            raise InputError(
                f"a resumed training keeps its optimiser and its schedule, and --{option} is {_short(now)} where the "
                f"checkpoint has {_short(before)}: leave it out, or start a new training from the weights, with "
                "--model.start_from in place of --ckpt_path"
            )


def _short(value: Any) -> Any:
    """Return the name of a class that is given with its arguments."""
    return value.get("class_path", value) if isinstance(value, dict) else value


def is_of_restored_state(error: Exception) -> bool:
    """Whether an error came while Lightning restored a checkpoint's state, or while the optimiser used that."""
    names = [frame.f_code.co_name.lstrip("_") for frame, _ in traceback.walk_tb(error.__traceback__)]
    # The optimiser calls the closure that computes the loss and the gradients; errors in there are others.
    parts = ("restore", "resume", "optimizer_step", "lr_scheduler_step")
    return "closure" not in names and any(name.startswith(parts) for name in names)
