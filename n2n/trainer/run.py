"""Runs one training or validation, as the commands start it."""

from __future__ import annotations

import contextlib
import errno
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import set_dumper
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info

from n2n.checkpoints.on_disk import last_checkpoint, last_run, not_written
from n2n.errors import InputError
from n2n.system.config_files import config_contents, named_configs, overridden, resolve_configs
from n2n.system.hardware import keep_freed_memory
from n2n.system.options import option, without_option
from n2n.system.yaml_files import dump_yaml
from n2n.trainer.cli import TrainingCLI
from n2n.trainer.interrupts import StopAndSave
from n2n.trainer.parsing_only import ParsingOnly
from n2n.trainer.quiet import drop_irrelevant

# Lightning's error for a monitored figure that is not logged.
_NO_FIGURE = re.compile(r"ModelCheckpoint\(monitor='(.*?)'\)` could not find .*?: \[(.*?)\]")
# Errors of writing; others may come from a file that is read.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}

# Of config.yaml, and of what jsonargparse writes and reads again in between.
set_dumper("yaml", dump_yaml)


def train(args: Sequence[str], folder: Path | None = None, callbacks: Sequence[Callback] = ()) -> None:
    """Run ``n2n fit`` or ``n2n validate``.

    Args:
        args: the subcommand and its arguments; configs may be given by their bundled names.
        folder: of the run, instead of the next ``lightning_logs/NAME/version_N``. If it holds a run that was interrupted,
            training resumes from its last checkpoint. ``--ckpt_path last`` does so from the newest run.
        callbacks: added to those of the configuration.

    Raises:
        InputError: if something given by the user is wrong.
        Interrupted: on Ctrl-C, SIGTERM or SIGHUP.
    """
    drop_irrelevant()
    keep_freed_memory()
    args = resolve_configs(list(args))
    for line in overridden(args):
        rank_zero_info(f"Warning: {line}")
    if option(args, "--ckpt_path") is None and (named := _configured_checkpoint(args)) is not None:
        args = [*args, "--ckpt_path", named]
    if args[0] == "fit" and option(args, "--ckpt_path") == "last":
        args = without_option(args, "--ckpt_path")
        folder = _last_run(args)
        # The configurations may name another one, which is not meant if nothing is saved yet.
        args += ["--config", "ckpt_path: null"]
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


def _configured_checkpoint(args: Sequence[str]) -> str | None:
    """Return the ``ckpt_path`` of the configurations on a command line: that of the last one that has this key."""
    named = [content["ckpt_path"] for content in config_contents(args) if "ckpt_path" in content]
    return str(named[-1]) if named and named[-1] is not None else None


def _last_run(args: list[str]) -> Path | None:
    """Return the saved run to go on with; None, and a line, if there is none.

    It is the run whose ``config.yaml`` the command line gives, or else the newest one of the name.
    """
    config = parse_fit(args[1:])
    root, below = config["trainer"]["default_root_dir"], Path("lightning_logs", config["name"])
    folder = Path(root or ".") / below
    run = last_run(folder)
    for file in named_configs(args):
        *above, _, name = file.resolve().parts
        is_saved = name == "config.yaml" and last_checkpoint(file.parent) is not None
        # A run that was moved goes on where it is now, but not under another name.
        if is_saved and (Path(*above) == folder.resolve() if root else Path(*above[-len(below.parts) :]) == below):
            run = file.parent
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
