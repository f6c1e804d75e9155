"""State that Lightning does not save, so that a resumed training gives the result of an uninterrupted one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor

from n2n.data.loader import PairLoader
from n2n.optimizers import check_state


class Resume:
    """State of the random numbers and of the loader, also in the middle of an epoch.

    Dropout, for instance, uses the process's generator. On several devices, each process would need its own state; only that
    of the first is kept.
    """

    def __init__(self) -> None:
        self._random: Tensor | None = None
        self._loader: dict[str, int] | None = None

    @staticmethod
    def save(trainer: L.Trainer) -> dict[str, Any]:
        """Return the state as plain values."""
        loader = trainer.train_dataloader
        state = loader.state_dict() if isinstance(loader, PairLoader) else None
        if state is not None and state["batches"] >= trainer.num_training_batches:
            # The epoch is complete, although the loader has more batches: limit_train_batches.
            state = {"batches": 0}
        return {"random": torch.get_rng_state(), "loader": state}

    def load(self, state: Mapping[str, Any]) -> None:
        """Read a state, which may be hostile: an error here blames the checkpoint."""
        self._random, loader = state["random"], state["loader"]
        torch.Generator().set_state(self._random)
        self._loader = None if loader is None else {"batches": int(loader["batches"])}

    def restore(self, trainer: L.Trainer) -> None:
        """Apply the state; an error in a function of this name blames the checkpoint."""
        for optimizer in trainer.optimizers:
            check_state(optimizer)
        if self._random is not None:
            torch.set_rng_state(self._random)
            self._random = None
        # Lightning does it too, unless a schedule has asked for the number of steps before.
        if self._loader is not None and isinstance(loader := trainer.train_dataloader, PairLoader):
            loader.load_state_dict(self._loader)
            self._loader = None
