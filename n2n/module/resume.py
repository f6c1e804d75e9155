"""State that Lightning does not save, so that a resumed training gives the result of an uninterrupted one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor

from n2n.data.loader import PairLoader
from n2n.optimizers import check_state, keep_variant


class Resume:
    """State of the random numbers and of the loader, also in the middle of an epoch.

    Dropout, for instance, uses the generator of its device. On several devices, each process would need its own state; only
    that of the first is kept.
    """

    def __init__(self) -> None:
        self._random: Tensor | None = None
        self._cuda_random: Tensor | None = None
        self._loader: dict[str, int] | None = None

    @staticmethod
    def save(trainer: L.Trainer, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
        """Return the state as plain values, and let a checkpoint say that an epoch is unfinished which a limit has cut."""
        loader = trainer.train_dataloader
        state = loader.state_dict() if isinstance(loader, PairLoader) else None
        if state is not None and state["batches"] >= trainer.num_training_batches:
            # The epoch is complete, although the loader has more batches: limit_train_batches.
            state = {"batches": 0}
        if state is not None and state["batches"]:
            # After max_steps or max_time, Lightning counts the epoch, and would leave out the rest of its pairs.
            for count in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
                count["processed"] = count["completed"]
        device = trainer.strategy.root_device
        on_cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return {"random": torch.get_rng_state(), "cuda_random": on_cuda, "loader": state}

    def load(self, state: Mapping[str, Any]) -> None:
        """Read a state, which may be hostile: an error here blames the checkpoint."""
        self._random, loader = state["random"], state["loader"]
        torch.Generator().set_state(self._random)
        # Checkpoints of older versions have none; a GPU is needed to check it.
        self._cuda_random = state.get("cuda_random")
        self._loader = None if loader is None else {"batches": int(loader["batches"])}

    def restore(self, trainer: L.Trainer) -> None:
        """Apply the state; an error in a function of this name blames the checkpoint."""
        for optimizer in trainer.optimizers:
            keep_variant(optimizer)
            check_state(optimizer)
        if self._random is not None:
            torch.set_rng_state(self._random)
            self._random = None
        # Another kind of device draws other numbers in any case.
        if self._cuda_random is not None and (device := trainer.strategy.root_device).type == "cuda":
            torch.cuda.set_rng_state(self._cuda_random, device)
        self._cuda_random = None
        # Lightning does it too, unless a schedule has asked for the number of steps before.
        if self._loader is not None and isinstance(loader := trainer.train_dataloader, PairLoader):
            loader.load_state_dict(self._loader)
            self._loader = None
