"""Checking files, and writing them as a whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from n2n.errors import InputError

WINDOWS = os.name == "nt"


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with the home folder in place of ``~``; names of no user, such as ``~a.png``, stay as they are."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  # Path.expanduser raises an error for these


def file_size(path: Path, wanted: str = "an image") -> int:
    """Return a file's size in bytes; raises InputError, which names what was wanted, if it is missing or no regular file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise InputError(f"{path} is not there: expected {wanted}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): expected {wanted}") from None
    if not stat.S_ISREG(found.st_mode):  # opening a pipe could block for ever
        raise InputError(f"{path} is a {'folder' if stat.S_ISDIR(found.st_mode) else 'device'}: expected {wanted}")
    return found.st_size


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; the file or folder written there replaces ``path`` at the end, or is removed if the body fails.

    Raises:
        OSError: if a folder stands in the place of a file, or the other way round; it stays there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by tempfile: on Windows, what it makes, and what is moved out of it, can be read by its owner alone.
    folder = path.parent / f".n2n-{secrets.token_hex(6)}"
    folder.mkdir()
    try:
        part = folder / path.name
        yield part
        if path.is_dir() and part.is_dir():  # a folder cannot be replaced in one step
            _replace(path, folder / "old")
        _replace(part, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace(source: Path, target: Path) -> None:
    """Rename a file or folder. On Windows, wait up to two seconds for a virus scanner that has just opened it."""
    for _ in range(20 if WINDOWS else 0):
        try:
            source.replace(target)
            return
        except PermissionError:
            time.sleep(0.1)
    source.replace(target)


def write_text(path: Path, content: str) -> None:
    """Write a text file as a whole or not at all; several processes may write it at once."""
    try:
        with replacing(path) as part:
            part.write_text(content, encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}): name another folder") from None
