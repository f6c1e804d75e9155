"""The ``n2n`` command."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings

from n2n import __version__
from n2n.config_files import bundled_names, resolve_configs
from n2n.errors import InputError

COMMANDS = {
    "fit": "train a denoiser on pairs of noisy images",
    "validate": "measure a checkpoint on noisy and clean images",
    "predict": "denoise images with a checkpoint",
    "export": "write a checkpoint as ONNX or torch.export",
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


# Warnings that tell n2n's user nothing, each with its reason.
_NO_NEWS = (
    "Checkpoint directory .* exists and is not empty",  # it is a resumed run's own
    "The number of training batches .* is smaller than",  # nothing is logged by the step
    "Precision .* is not supported by the model summary",  # concerns an estimate of megabytes
    "Be aware that when using `ckpt_path`, callbacks",  # validation needs no ModelCheckpoint
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # between Lightning and PyTorch
)


class _Quiet(logging.Filter):
    """Drops Lightning's advertising from its log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "Tip:" not in record.getMessage()


def _train(args: list[str]) -> None:
    # Imported here, so that predicting and asking for help do not wait for Lightning.
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from n2n.training_cli import TrainingCLI

    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_Quiet())
    for message in _NO_NEWS:
        warnings.filterwarnings("ignore", message)
    try:
        TrainingCLI(resolve_configs(args))
    except MisconfigurationException as error:
        raise InputError(" ".join(str(error).split())) from error


def _run(args: list[str]) -> int:
    if args[0] == "predict":
        from n2n.predict import main as predict

        return predict(args[1:])
    if args[0] == "export":
        from n2n.export import main as export

        return export(args[1:])
    _train(args)
    return 0


def main(args: list[str] | None = None) -> int:
    """Run the ``n2n`` command.

    Args:
        args: the command line after ``n2n``; that of the process if None.

    Returns:
        The exit status: 0, or 2 for what the user can mend, which is printed in one line.
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
