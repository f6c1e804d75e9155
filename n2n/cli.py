"""The ``n2n`` command."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import io
import os
import sys

from n2n import __version__
from n2n.errors import InputError, Interrupted, one_line, reason
from n2n.system.config_files import bundled_names
from n2n.system.text import command_line

# The environment variable that turns on tracebacks.
DEBUG = "N2N_DEBUG"

COMMANDS = {
    "fit": "train a denoiser on pairs of noisy images",
    "validate": "measure a checkpoint on noisy and clean images",
    "predict": "denoise images with a checkpoint",
    "compare": "train several networks under one budget, and write one table",
    "search": "search for the best values of a configuration",
    "export": "write a checkpoint as ONNX or torch.export",
    "report": "draw the curves and pictures of runs",
}


def _parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:<10}{what}" for name, what in COMMANDS.items())
    parser = argparse.ArgumentParser(
        "n2n",
        description="Train a denoiser from noisy images alone, then denoise any image from the checkpoint.",
        epilog=f"commands:\n{commands}\n\nn2n COMMAND --help lists a command's options. Configs that come with n2n, for "
        f"n2n fit --config NAME:\n  {', '.join(bundled_names())}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="n2n [--help] [--version] COMMAND ...",
    )
    parser.add_argument("--version", action="version", version=f"n2n {__version__}")
    parser.add_argument("command", metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _run(args: list[str]) -> int:
    if args[0] not in COMMANDS:
        close = difflib.get_close_matches(args[0], COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else "n2n --help describes them"
        raise InputError(f"there is no command {args[0]}: expected one of {', '.join(COMMANDS)} ({hint})")
    # Each command imports only what it needs: help does not wait for torch.
    if args[0] in ("fit", "validate"):
        from n2n.trainer.help import asks_for_help, help_screen

        if asks_for_help(args[1:]):
            print(help_screen(args[0]))
            return 0
        from n2n.trainer.run import train

        train(args)
        return 0
    module = "n2n.trainer.predict" if args[0] == "predict" else f"n2n.commands.{args[0]}.command"
    status: int = importlib.import_module(module).main(args[1:])
    return status


def main(args: list[str] | None = None) -> int:
    """Run the ``n2n`` command.

    Args:
        args: the command line after ``n2n``; that of the process if None.

    Returns:
        The exit status: 0; 2 if something given was wrong, which one line on the standard error says; 1 if the command failed
        otherwise, or some of the networks of a comparison did; 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """
    args = sys.argv[1:] if args is None else args
    # In place of letters that a pipe of Windows cannot take, such as ×.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if not args:
        _parser().print_help()
        return 2
    if args[0] in ("-h", "--help", "--version"):
        _parser().parse_args(args[:1])
    name = f"n2n {args[0]}" if args[0] in COMMANDS else "n2n"
    try:
        return _run(args)
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get(DEBUG):
            raise
        line, status = _explain(error)
        # The terminal may have been closed.
        with contextlib.suppress(OSError):
            print(f"{name}: {line}", file=sys.stderr)
        return status


def _explain(error: BaseException) -> tuple[str, int]:
    """Return one line on what ended a command, and the exit status."""
    if isinstance(error, KeyboardInterrupt):
        stop = error if isinstance(error, Interrupted) else Interrupted()
        return _stopped(stop), 128 + stop.signum
    if isinstance(error, InputError):
        return f"error: {error}", 2
    if isinstance(error, OSError) and error.filename is not None:
        # A name that is too long, no permission, ...
        return f"error: {one_line(str(error.filename))} cannot be used ({error.strerror}): name another", 2
    if isinstance(error, OSError):
        return f"error: {reason(error)}", 1
    return f"error: {type(error).__name__}: {reason(error)} ({DEBUG}=1 in the environment shows where)", 1


def _stopped(stop: Interrupted) -> str:
    if stop.saved is None:
        return "stopped"
    config = stop.saved.parent.parent / "config.yaml"
    command = command_line(["n2n", "fit", "--config", str(config), "--ckpt_path", "last"])
    return f"stopped {stop.where}, saved in {stop.saved}; to go on: {command}"
