"""The denoisers that come with n2n, and how ``--ckpt_path`` finds them."""

from __future__ import annotations

import os
from pathlib import Path


def pretrained() -> dict[str, Path]:
    """Return the checkpoints that come with n2n by their names: in the package, or in the runs of a checkout."""
    package = Path(__file__).parents[1]
    folder = package / "pretrained"
    if not folder.is_dir():
        folder = package.parent / "lightning_logs" / "reference"
    return {path.parent.parent.name: path for path in sorted(folder.glob("*/checkpoints/best.ckpt"))}


def find_checkpoint(name: str | os.PathLike[str]) -> Path:
    """Find a checkpoint: a path first, then one that comes with n2n; what is neither is returned as it is."""
    path = Path(name)
    return path if path.exists() else pretrained().get(os.fspath(name), path)


def describe_checkpoint() -> str:
    """Say what ``--ckpt_path`` takes."""
    return f"a checkpoint written by n2n fit, or one that comes with n2n ({', '.join(pretrained())})"
