"""Checking files, and writing them as a whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from n2n.errors import InputError


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
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=".n2n-"))
    try:
        part = folder / path.name
        yield part
        if path.is_dir() and part.is_dir():  # a folder cannot be replaced in one step
            path.replace(folder / "old")
        part.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, content: str) -> None:
    """Write a text file as a whole or not at all; several processes may write it at once."""
    try:
        with replacing(path) as part:
            part.write_text(content, encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}): name another folder") from None
