"""Keeps Lightning's log and warnings to what concerns the user."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

from n2n.errors import one_line

# Warnings that do not concern the user, each with its reason.
_IRRELEVANT = (
    "Checkpoint directory .* exists and is not empty",  # a resumed run's own
    "The number of training batches .* is smaller than",  # nothing is logged per step
    "Precision .* is not supported by the model summary",  # concerns an estimate of megabytes
    "GPU available but not used",  # the user chose the CPU
    "Be aware that when using `ckpt_path`, callbacks",  # validation needs no ModelCheckpoint
    "You're using the WeightAveraging callback with a model that overrides",  # no model of n2n needs sharding
    "Grad strides do not match bucket view strides",  # 1×1 filters look alike in both memory formats (pytorch#157862)
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # between Lightning and PyTorch
)


# Packages whose warnings about a damaged file say what n2n's one line on it says.
_READERS = ("astropy", "mrcfile", "nd2", "zarr")


# Parts of lines in Lightning's log: advertising, what a machine does not have, its own preparations, and advice on float32,
# which n2n does not choose on such GPUs.
_UNWANTED = ("Tip:", "vailable: False", "estimate number of stepping batches", "that has Tensor Cores")


def _is_wanted(record: logging.LogRecord) -> bool:
    return not any(part in record.getMessage() for part in _UNWANTED)


def drop_irrelevant() -> None:
    """Hide warnings and lines of Lightning that do not concern the user."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_wanted)  # the same each time: once
    for message in _IRRELEVANT:
        warnings.filterwarnings("ignore", message)
    for module in _READERS:
        warnings.filterwarnings("ignore", module=module)
    # The line of code that warns means nothing to whoever types a command.
    warnings.formatwarning = lambda message, *_, **__: f"warning: {one_line(str(message))}\n"


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Hide the information that Lightning and n2n log; warnings are still shown."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
