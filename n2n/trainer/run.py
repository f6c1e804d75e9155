"""Runs one training or validation, as the commands start it."""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info

from n2n.checkpoints.on_disk import last_run, not_written
from n2n.errors import InputError
from n2n.system.config_files import resolve_configs
from n2n.system.hardware import keep_freed_memory
from n2n.system.options import option, without_option
from n2n.trainer.cli import TrainingCLI
from n2n.trainer.interrupts import StopAndSave
from n2n.trainer.parsing import ParsingOnly

# Warnings that do not concern the user, each with its reason.
_IRRELEVANT = (
    "Checkpoint directory .* exists and is not empty",  # a resumed run's own
    "The number of training batches .* is smaller than",  # nothing is logged per step
    "Precision .* is not supported by the model summary",  # concerns an estimate of megabytes
    "Be aware that when using `ckpt_path`, callbacks",  # validation needs no ModelCheckpoint
    "You're using the WeightAveraging callback with a model that overrides",  # no model of n2n needs sharding
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # between Lightning and PyTorch
)
# Lightning's error for a monitored figure that is not logged.
_NO_FIGURE = re.compile(r"ModelCheckpoint\(monitor='(.*?)'\)` could not find .*?: \[(.*?)\]")
# Errors of writing; others may come from a file that is read.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class _Quiet(logging.Filter):
    """Drops Lightning's advertising from its log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "Tip:" not in record.getMessage()


_QUIET = _Quiet()


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


def train(args: Sequence[str], folder: Path | None = None, callbacks: Sequence[Callback] = ()) -> None:
    """Run ``n2n fit`` or ``n2n validate``.

    Args:
        args: the subcommand and its arguments; configs may be given by their bundled names.
        folder: of the run, instead of the next ``lightning_logs/NAME/version_N``. If it holds a run that was interrupted,
            training resumes from its last checkpoint. ``--ckpt_path last`` does so from the newest run.
        callbacks: added to those of the configuration.

    Raises:
        InputError: for what the user can mend.
        Interrupted: on Ctrl-C, SIGTERM or SIGHUP.
    """
    # The same object each time, so that it is added once.
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_QUIET)
    keep_freed_memory()
    for message in _IRRELEVANT:
        warnings.filterwarnings("ignore", message)
    args = resolve_configs(list(args))
    if args[0] == "fit" and option(args, "--ckpt_path") == "last":
        args = without_option(args, "--ckpt_path")
        folder = _last_run(args)
    stop = StopAndSave()
    try:
        with stop.listening(), _quiet_threads():
            TrainingCLI(args, folder, [*callbacks, stop]).run()
    except MisconfigurationException as error:
        line = " ".join(str(error).split())
        if unknown := _NO_FIGURE.search(line):
            figures = ", ".join(name for name in re.findall(r"'(.*?)'", unknown[2]) if "/" in name)
            line = f"--checkpoint.monitor is {unknown[1]!r}: expected one of {figures}"
        raise InputError(line) from error
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise not_written(error.filename or "the run", error) from error


@contextlib.contextmanager
def _quiet_threads() -> Iterator[None]:
    """Hide the traceback of TensorBoard's thread if it cannot write; the next event raises the error in this thread."""

    def hook(failure: threading.ExceptHookArgs) -> None:
        if not isinstance(failure.exc_value, OSError):
            before(failure)

    before = threading.excepthook
    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def _last_run(args: list[str]) -> Path | None:
    """Return the newest saved run with the name that the command line gives; None, and a line, if there is none."""
    config = parse_fit(args[1:])
    folder = Path(config["trainer"]["default_root_dir"] or ".") / "lightning_logs" / config["name"]
    run = last_run(folder)
    rank_zero_info(f"Resuming {run}." if run else f"Nothing is saved in {folder} yet: the training starts anew.")
    return run


def parse_fit(args: Sequence[str], further_options: Sequence[str] = ()) -> dict[str, Any]:
    """Return the configuration that ``n2n fit`` would run.

    Args:
        args: of ``n2n fit``.
        further_options: options of the command that asks, which a misspelt option may have meant.

    Raises:
        InputError: if an argument is wrong.
    """
    return ParsingOnly(["fit", *resolve_configs(list(args))], further_options).resolved
