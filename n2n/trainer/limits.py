"""Numbers that mean something: Lightning takes any, and fails in the middle of a training, or does something else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from n2n.errors import InputError

# The least that each option may be; -1 is "all" or "without end" where it is the least.
_LEAST = {
    "trainer.num_nodes": 1,
    "trainer.fast_dev_run": 0,
    "trainer.max_epochs": -1,
    "trainer.min_epochs": 0,
    "trainer.max_steps": -1,
    "trainer.min_steps": 0,
    "trainer.limit_train_batches": 0,
    "trainer.limit_val_batches": 0,
    "trainer.limit_test_batches": 0,
    "trainer.limit_predict_batches": 0,
    "trainer.overfit_batches": 0,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.num_sanity_val_steps": -1,
    "trainer.log_every_n_steps": 0,
    "trainer.accumulate_grad_batches": 1,
    "trainer.gradient_clip_val": 0,
    "trainer.reload_dataloaders_every_n_epochs": 0,
    "checkpoint.save_top_k": -1,
    "checkpoint.every_n_train_steps": 0,
    "checkpoint.every_n_epochs": 0,
}
# What seeds all generators at once, of which numpy's takes the least.
_SEEDS = 2**32


def check_numbers(options: Mapping[str, Any]) -> None:
    """Refuse numbers that mean nothing.

    Args:
        options: of the command, by their names.

    Raises:
        InputError: naming the option.
    """
    for name, value in options.items():
        if any(isinstance(one, float) and math.isnan(one) for one in (value if isinstance(value, list) else [value])):
            raise InputError(f"--{name} is {value}: expected a number")
    for name, least in _LEAST.items():
        value = options.get(name)
        if isinstance(value, int | float) and not least <= value < math.inf:
            raise InputError(f"--{name} is {value}: expected a number of at least {least}")
    interval = options.get("trainer.val_check_interval")
    if isinstance(interval, int | float) and not 0 < interval < math.inf:
        raise InputError(
            f"--trainer.val_check_interval is {interval}: expected steps, at least 1, or a part of an epoch, above 0"
        )
    seed = options.get("seed_everything")
    if isinstance(seed, int) and not 0 <= seed < _SEEDS:
        raise InputError(f"--seed_everything is {seed}: expected 0 to {_SEEDS - 1}")
