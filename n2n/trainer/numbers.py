"""Numbers that Lightning 2.6 accepts, though it then fails in the middle of a training or does something else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from n2n.errors import InputError

# The smallest value of each option.
_LEAST = {
    "trainer.min_epochs": 0,
    "trainer.min_steps": 0,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.num_sanity_val_steps": -1,
    "trainer.log_every_n_steps": 0,
    "trainer.accumulate_grad_batches": 1,
    "trainer.gradient_clip_val": 0,
}
# NumPy accepts only seeds below it.
_SEEDS = 2**32


def check_numbers(options: Mapping[str, Any]) -> None:
    """Check the numbers that neither Lightning nor the classes of the configuration check.

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
    if options.get("trainer.val_check_interval") == 0:
        raise InputError("--trainer.val_check_interval is 0: expected steps, or a part of an epoch, above 0")
    seed = options.get("seed_everything")
    if isinstance(seed, int) and not 0 <= seed < _SEEDS:
        raise InputError(f"--seed_everything is {seed}: expected 0 to {_SEEDS - 1}")
