"""Checkpoints of a training on disk: written whole or not at all, and found again."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from n2n.checkpoints.bundled import describe_checkpoint
from n2n.errors import InputError
from n2n.system.files import replacing
from n2n.system.torch_files import load_torch_file
from n2n.system.yaml_files import nested_values

LAST = "last.ckpt"
# The last checkpoint before the present one.
BEFORE = "before_last.ckpt"
# Where fsspec, which removes a run's older checkpoints for Lightning, looks for a protocol.
_PROTOCOL = re.compile("://|::")
# Keys of the states of n2n's own callbacks, which take the names of files and not their folders.
_REBASED = ("BestCheckpoint{", "LastCheckpoint{")


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file and renames it when it is on the disk, so that no checkpoint is half-written.

    The previous last checkpoint of a run is kept beside the new one, in case that is damaged.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            InputError: if the file cannot be written.
        """
        target = Path(path)
        # Not directly to the file: on a full disk, torch raises an error that does not say so.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        try:
            with replacing(target) as part:
                with part.open("wb") as file:
                    file.write(content.getbuffer())
                    file.flush()
                    os.fsync(file.fileno())
                if target.name == LAST and target.exists():
                    _keep(target, target.with_name(BEFORE))
        except OSError as error:
            raise not_written(target, error) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint to go on from, which may be hostile, also where a configuration names it.

        Raises:
            InputError: if it holds more than tensors and plain values, or names files of others.
        """
        content = load_torch_file(Path(path), describe_checkpoint())
        try:
            check_callbacks(content.get("callbacks") if isinstance(content, dict) else None)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        return super().load_checkpoint(path, map_location, weights_only=True)


def check_callbacks(states: object) -> None:
    """Refuse names of files by which Lightning would remove others than the run's own.

    Raises:
        InputError: if there is one.
    """
    for key, state in states.items() if isinstance(states, dict) else [("", states)]:
        is_checked = not str(key).startswith(_REBASED)
        for value in nested_values(state):
            if is_checked and isinstance(value, str) and (".." in Path(value).parts or _PROTOCOL.search(value)):
                raise InputError(f"its callbacks name a file outside its folder, {value:.80}")


def not_written(path: Path | str, error: OSError) -> InputError:
    """Return what to raise where a file of a run cannot be written."""
    is_saved = any(last_checkpoint(folder) for folder in list(Path(path).absolute().parents)[:2])
    kept = "; what was saved before is still there, and --ckpt_path last goes on from it" * is_saved
    return InputError(
        f"{path} cannot be written ({error.strerror or error}): make room, or let the folder be written{kept}"
    )


def _keep(path: Path, other: Path) -> None:
    """Give a file a second name and keep its first."""
    other.unlink(missing_ok=True)
    try:
        other.hardlink_to(path)
    except OSError:
        # A file system without links.
        path.replace(other)


def versions(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield the runs in ``lightning_logs/NAME``, the folders ``version_N``, with their numbers."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if (match := re.fullmatch(r"version_(\d+)", entry.name)) and entry.is_dir():
            yield int(match[1]), entry


def claim_version(folder: Path) -> int:
    """Create the next ``version_N`` in a folder, which no other process gets; return N.

    Raises:
        InputError: if the folder cannot be written.
    """
    number = max((number for number, _ in versions(folder)), default=-1) + 1
    while True:
        try:
            (folder / f"version_{number}").mkdir(parents=True)
        except FileExistsError:
            # Another process was faster.
            number += 1
        except OSError as error:
            raise InputError(
                f"the run cannot be written to {folder} ({error.strerror or error}): choose a folder that can be written "
                "with --trainer.default_root_dir"
            ) from error
        else:
            return number


def last_run(folder: Path) -> Path | None:
    """Return the newest run in ``lightning_logs/NAME`` that has a last checkpoint, or the one before it; None if none has."""
    found = [(number, run) for number, run in versions(folder) if last_checkpoint(run)]
    return max(found)[1] if found else None


def last_checkpoint(run: Path) -> Path | None:
    """Return ``last.ckpt`` of a run, ``before_last.ckpt`` if that is missing, or None."""
    paths = [run / "checkpoints" / name for name in (LAST, BEFORE)]
    return next((path for path in paths if path.is_file()), None)
