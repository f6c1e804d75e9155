"""The ``n2n`` command."""

from __future__ import annotations

import argparse
import importlib
import sys

from n2n import __version__
from n2n.config_files import bundled_names
from n2n.errors import InputError, one_line

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
    parser.add_argument("command", metavar="COMMAND", choices=list(COMMANDS), help=", ".join(COMMANDS))
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _run(args: list[str]) -> int:
    # Imported here, so that each command waits for what it needs alone: predicting and asking for help not for Lightning.
    if args[0] in ("fit", "validate"):
        from n2n.training import train

        train(args)
        return 0
    status: int = importlib.import_module(f"n2n.{args[0]}").main(args[1:])
    return status


def main(args: list[str] | None = None) -> int:
    """Run the ``n2n`` command.

    Args:
        args: the command line after ``n2n``; that of the process if None.

    Returns:
        The exit status: 0; 2 for what the user can mend, which is printed in one line; 1 for a comparison some of whose
        networks failed; 130 for what was interrupted.
    """
    args = sys.argv[1:] if args is None else args
    if not args:
        _parser().print_help()
        return 2
    # Only the command itself is parsed here: what follows it belongs to the command's own parser.
    command = _parser().parse_args(args[:1]).command
    try:
        return _run(args)
    except InputError as error:
        print(f"n2n {command}: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        # The system refused: a name too long, no permission, a full disk. What is no file's fault is n2n's own.
        if error.filename is None:
            raise
        place = one_line(str(error.filename))
        print(f"n2n {command}: error: {place} cannot be used ({error.strerror}): name another", file=sys.stderr)
        return 2
