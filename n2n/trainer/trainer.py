"""The Trainer of the command line."""

from __future__ import annotations

from typing import Any

import lightning as L


class Trainer(L.Trainer):
    """Lightning's Trainer, with whole numbers read as numbers of batches.

    In Python, ``limit_train_batches=1`` is one batch and 1.0 all of them. Lightning states ``Union[int, float]``, which
    Python may hand out as ``Union[float, int]`` if another module asked for that one first. Then jsonargparse reads 1 as 1.0,
    which is every batch. The types here keep their order.

    Args:
        limit_train_batches: batches of an epoch: a number of them (1, 2, ...), or their share (0.0 to 1.0).
        limit_val_batches: batches of a validation: a number of them (1, 2, ...), or their share (0.0 to 1.0).
        overfit_batches: batches to train on again and again: a number of them (1, 2, ...), or their share (0.0 to 1.0).
    """

    def __init__(
        self,
        *args: Any,
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        overfit_batches: int | float = 0.0,
        **kwargs: Any,
    ) -> None:
        counts: dict[str, Any] = {
            "limit_train_batches": limit_train_batches,
            "limit_val_batches": limit_val_batches,
            "overfit_batches": overfit_batches,
        }
        super().__init__(*args, **counts, **kwargs)
