"""The one screen of help of ``n2n fit`` and ``n2n validate``. Imports no torch, so that it comes at once."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from n2n.system.config_files import bundled_names, describe_config

# Asks for all options.
HELP_ALL = "--help-all"
# Columns of a terminal, and those of the names.
_COLUMNS, _NAMES = 80, 26
_FIRST = ("quick.yaml", "own.yaml", "final.yaml", "best.yaml", "speedrun.yaml")
# Folders of configurations that are not listed one by one.
_FOLDERS = {
    "table1/*": "the ten networks of the paper's Table I",
    "ingredients/*": "the parts of a recipe, for n2n compare",
    "search/*": "spaces of values, for n2n search",
}


_FIT = {
    "-c, --config NAME": "a config (below), or your file; the later one wins",
    "--root PATH": "the images, a folder or file; --root A --root B",
    "--epochs N": "epochs to train (30, or the config's)",
    "--name NAME": "the run goes to lightning_logs/NAME/version_N",
    "--ckpt_path FILE": "resume that run; last: the newest run of this NAME",
    "--data.source CLASS": "the kind of images: Folders, Captures, Stack, ...",
    "--data.source.clean PATH": "clean images, to measure the PSNR with",
    "--data.source.axes LETTERS": "the axes of stacks, such as TCYX",
    "--data.batch_size N": "pairs a step",
    "--model.backbone CLASS": "the network: UNet, DnCNN, NAFNet, ModelFinal, ...",
    "--model.optimizer.lr RATE": "the learning rate",
    "--model.start_from FILE": "first weights: a checkpoint, such as gaussian",
    "--trainer.accelerator NAME": "cpu, cuda or mps (a GPU if there is one)",
    "--trainer.devices N": "GPUs, or CPU processes",
    "--print_config": "print all options as YAML, and stop",
    HELP_ALL: "all options",
    "--data.source.help CLASS": "its arguments; as well --model.backbone.help, ...",
}
_VALIDATE = {
    "--ckpt_path FILE": "best.ckpt of a run, or a name such as gaussian",
    "--root PATH": "the images, a folder or file; --root A --root B",
    "-c, --config NAME": "other images: a config (below), or your file",
    "--data.source CLASS": "the kind of images: Folders, Captures, Stack, ...",
    "--data.source.clean PATH": "clean images, to measure the PSNR with",
    "--data.source.axes LETTERS": "the axes of stacks, such as TCYX",
    "--data.source.val_fraction": "part of the scenes to measure on; 1 for all",
    "--data.val_batch_size N": "images at once",
    "--trust PACKAGE": "a package whose classes the checkpoint may name",
    "--trainer.accelerator NAME": "cpu, cuda or mps (a GPU if there is one)",
    "--trainer.precision P": "32-true, bf16-mixed, 16-mixed",
    "--print_config": "print all options as YAML, and stop",
    HELP_ALL: "all options",
    "--data.source.help CLASS": "the arguments of a class",
}
_EXAMPLES = {
    "fit": (
        "n2n fit --config quick",
        "n2n fit --config own --config data/folders --root first/ --root second/",
        "n2n fit --config final --config data/photos --root photos/ --epochs 10",
        "n2n fit --config own --config data/stack --root stack.tif --name cells",
        "n2n fit --config lightning_logs/cells/version_0/config.yaml --ckpt_path last",
    ),
    "validate": (
        "n2n validate --ckpt_path lightning_logs/cells/version_0/checkpoints/best.ckpt",
        "n2n validate --ckpt_path course --config data/folders --root a/ --root b/",
        "n2n validate --ckpt_path quick --config data/gaussian --root clean/",
    ),
}
_PURPOSE = {
    "fit": "Train a denoiser on pairs of noisy images; without options on generated ones.",
    "validate": "Measure a checkpoint: its own validation images, or those that are named.",
}


def asks_for_help(args: Sequence[str]) -> bool:
    """Return whether a command line asks for the one screen of help."""
    return any(argument in ("-h", "--help") for argument in args)


def _rows(rows: dict[str, str], width: int = _NAMES) -> Iterator[str]:
    for name, text in rows.items():
        yield f"  {name:<{width}} {textwrap.shorten(text, _COLUMNS - width - 3, placeholder='…')}"


def help_screen(command: str) -> str:
    """Return the help of ``fit`` or ``validate``: at most 60 lines of 80 columns."""
    names = bundled_names()
    networks = [*_FIRST, *(name for name in names if "/" not in name and name not in _FIRST)]
    data = [name for name in names if name.startswith("data/")]
    fit = command == "fit"
    configs = {name.removesuffix(".yaml"): describe_config(name) for name in [*networks * fit, *data]}
    lines = [
        f"usage: n2n {command} [--config NAME ...] [options]",
        "",
        _PURPOSE[command],
        "",
        "options:",
        *_rows(_FIT if fit else _VALIDATE),
        "",
        "configs:",
        *_rows(configs | (_FOLDERS if fit else {}), max(map(len, configs))),
        "",
        "examples:",
        *(f"  {example}" for example in _EXAMPLES[command]),
    ]
    return "\n".join(lines)
