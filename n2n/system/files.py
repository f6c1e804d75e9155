"""Files that are whole, or not there."""

from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from n2n.errors import InputError


def file_size(path: Path, wanted: str = "an image") -> int:
    """Return a file's size in bytes, with one line for what is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise InputError(f"{path} is not there: expected {wanted}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): expected {wanted}") from None
    if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
        raise InputError(f"{path} is a {'folder' if stat.S_ISDIR(found.st_mode) else 'device'}: expected {wanted}")
    return found.st_size


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path in the same folder to write to, and put what was written there in the place of ``path``.

    If the body fails or is interrupted, what it wrote is removed and ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=".n2n-"))
    try:
        part = folder / path.name
        yield part
        if path.is_dir():  # a folder cannot be replaced in one step
            path.replace(folder / "old")
        part.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, content: str) -> None:
    """Write a text file, whole or not at all; several processes may write it.

    Raises:
        InputError: if it cannot be written.
    """
    try:
        with replacing(path) as part:
            part.write_text(content, encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}): name another folder") from None
