"""One training or validation, as the commands start it."""

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
from n2n.trainer.processes import together

# Warnings that tell n2n's user nothing, each with its reason.
_NO_NEWS = (
    "Checkpoint directory .* exists and is not empty",  # it is a resumed run's own
    "The number of training batches .* is smaller than",  # nothing is logged by the step
    "Precision .* is not supported by the model summary",  # concerns an estimate of megabytes
    "Be aware that when using `ckpt_path`, callbacks",  # validation needs no ModelCheckpoint
    "You're using the WeightAveraging callback with a model that overrides",  # no model of n2n needs sharding
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # between Lightning and PyTorch
)
# Lightning's words for a figure to choose checkpoints by that is not there.
_NO_FIGURE = re.compile(r"ModelCheckpoint\(monitor='(.*?)'\)` could not find .*?: \[(.*?)\]")
# Of writing alone; what else the system refuses may be about a file that is read.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class _Quiet(logging.Filter):
    """Drops Lightning's advertising from its log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "Tip:" not in record.getMessage()


_QUIET = _Quiet()


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep Lightning and n2n from telling what they do meanwhile; warnings are still shown."""
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
        folder: where the run goes, instead of the next ``lightning_logs/NAME/version_N``. If it holds a run that was
            interrupted, training goes on from its last checkpoint; so it does for ``--ckpt_path last``, from the newest run.
        callbacks: further ones.

    Raises:
        InputError: for what the user can mend.
        Interrupted: on Ctrl-C or SIGTERM.
    """
    # The same object each time, which is added once.
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_QUIET)
    keep_freed_memory()
    for message in _NO_NEWS:
        warnings.filterwarnings("ignore", message)
    args = resolve_configs(list(args))
    if args[0] == "fit" and option(args, "--ckpt_path") == "last":
        args = without_option(args, "--ckpt_path")
        folder = _last_run(args)
    stop = StopAndSave()
    try:
        with stop.listening(), _quiet_threads(), together(args[0]):
            TrainingCLI(args, folder, [*callbacks, stop])
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
    """Let TensorBoard's thread fail in silence where it cannot write: the next event fails in our own, which tells."""

    def look(failure: threading.ExceptHookArgs) -> None:
        if not isinstance(failure.exc_value, OSError):
            before(failure)

    before = threading.excepthook
    threading.excepthook = look
    try:
        yield
    finally:
        threading.excepthook = before


def _last_run(args: list[str]) -> Path | None:
    """Return the newest run of the name that the command line gives; None, and a line, where nothing is saved of any."""
    config = parse_fit(args[1:])
    folder = Path(config["trainer"]["default_root_dir"] or ".") / "lightning_logs" / config["name"]
    run = last_run(folder)
    rank_zero_info(f"Going on with {run}." if run else f"Nothing is saved in {folder} yet: the training starts anew.")
    return run


def parse_fit(args: Sequence[str], further_options: Sequence[str] = ()) -> dict[str, Any]:
    """Return the whole configuration that ``n2n fit`` would run with, as it would save it.

    Args:
        args: of ``n2n fit``.
        further_options: of the command that asks, which a misspelt one may have meant.

    Raises:
        InputError: if they are wrong.
    """
    return ParsingOnly(["fit", *resolve_configs(list(args))], further_options).resolved
