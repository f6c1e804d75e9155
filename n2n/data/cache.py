"""Arrays that are made once, kept in the user's cache folder, and memory-mapped from then on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import DTypeLike, NDArray

from n2n.errors import InputError
from n2n.system.files import expanded

# Bytes per step of the checksum: enough to run at memory speed, few enough to stay in the CPU's cache.
_BLOCK = 1 << 22


def default_cache() -> Path:
    """Return the user's cache folder for n2n; the environment variable ``N2N_CACHE`` names another."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("N2N_CACHE") or user_cache_dir("n2n"))


def stamp(path: Path) -> list[Any] | None:
    """Return values that change when a file is written or replaced, for the recipe of an array that is made from it.

    These are the size in bytes, the times of the last change of content and of inode in ns, and the inode; for a folder that is
    one image (a zarr array) the number of its entries and a digest of their stamps; None for a missing file.
    """

    def of(file: Path) -> list[int]:
        stat = file.stat()
        return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]

    try:
        if not path.is_dir():
            return of(path)
        entries = [[file.relative_to(path).as_posix(), *of(file)] for file in sorted(path.rglob("*"))]
        return [len(entries), hashlib.sha256(json.dumps(entries).encode()).hexdigest()]
    except (OSError, RuntimeError):  # RuntimeError: a loop of links
        return None


def _checksum(array: NDArray[Any], note: object) -> int:
    """Return a checksum of an array's bytes, shape and dtype, and of the note on it."""
    flat = array.reshape(-1).view(np.uint8)
    value = zlib.crc32(json.dumps([array.shape, array.dtype.str, note], sort_keys=True).encode())
    for start in range(0, flat.size, _BLOCK):
        value = zlib.crc32(flat[start : start + _BLOCK].data, value)
    return value


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock file, after waiting for the process that holds it, and yield True; on file systems without locks False."""
    lock = FileLock(path)
    with contextlib.suppress(OSError, NotImplementedError):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            # Imported here: denoising imports this module and needs no Lightning.
            from lightning.pytorch.utilities import rank_zero_info

            rank_zero_info("Another process is preparing the same images: waiting for it.")
            lock.acquire()
    try:
        yield lock.is_locked
    finally:
        if lock.is_locked:
            # Removed while it is held: a process that waits for it notices, and locks a new file. Windows refuses this, and
            # filelock removes the file there.
            with contextlib.suppress(OSError):
                path.unlink()
            lock.release()


@dataclass(frozen=True)
class Kept:
    """One entry of the cache.

    Attributes:
        array: memory-mapped copy-on-write: changes stay in memory.
        note: what ``build`` returned: plain JSON values, among them ``remarks``, lines for the user.
    """

    array: NDArray[Any]
    note: dict[str, Any]


Allocate = Callable[[tuple[int, ...], DTypeLike], NDArray[Any]]
Build = Callable[[Allocate], dict[str, Any]]


class Cache:
    """An array on disk, made once and found again by its name and its recipe.

    The folder ``<name>-<digest of the recipe>`` holds ``array.npy`` and ``recipe.json``. It is written under a temporary name
    and renamed when complete, so an interrupted build leaves no partial array. If several processes want the same array, one
    builds it and the others wait, provided that the file system has locks.

    Args:
        name: describes the array to a user who opens the cache folder.
        recipe: everything that the values depend on, as plain JSON values.
        folder: the cache folder; the user's own if None.
    """

    def __init__(self, name: str, recipe: Mapping[str, Any], folder: str | os.PathLike[str] | None = None) -> None:
        self.recipe = dict(recipe)
        digest = hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()[:12]
        self.folder = expanded(folder) if folder is not None else default_cache()
        self.path = self.folder / f"{name}-{digest}"

    def find(self) -> Kept | None:
        """Map the array, or return None if it is missing or damaged. Reads all of it once, for its checksum."""
        try:
            recipe = self.path / "recipe.json"
            if not (recipe.is_file() and (self.path / "array.npy").is_file()):  # opening a pipe would block
                return None
            array, content = self._map(), json.loads(recipe.read_text(encoding="utf-8"))
            note = dict(content["note"])
            return Kept(array, note) if content["crc32"] == _checksum(array, note) else None
        except Exception:  # damaged files fail in many ways
            return None

    def _map(self) -> NDArray[Any]:
        # "c": copy-on-write. torch warns about read-only arrays.
        array: NDArray[Any] = np.load(self.path / "array.npy", mmap_mode="c", allow_pickle=False)
        return array

    def open(self, build: Build) -> Kept:
        """Map the array, and make it first if it is missing or damaged.

        Args:
            build: is called with ``allocate``. It calls ``allocate(shape, dtype)`` once, fills the returned array, and returns
                a note on it as plain JSON values.

        Raises:
            InputError: if the cache folder cannot be written or is too full. Exceptions of ``build`` pass unchanged.
        """
        if (kept := self.find()) is not None:
            return kept
        with contextlib.ExitStack() as stack:
            prefix = f".building-{self.path.name}-"
            with self._writing():
                self.folder.mkdir(parents=True, exist_ok=True)
                if stack.enter_context(_locked(self.folder / f"{prefix}lock")):
                    if (kept := self.find()) is not None:
                        return kept
                    # Left by a process that was killed.
                    for left in self.folder.glob(f"{prefix}*/"):
                        shutil.rmtree(left, ignore_errors=True)
                temporary = tempfile.TemporaryDirectory(dir=self.folder, prefix=prefix, ignore_cleanup_errors=True)
                name = Path(stack.enter_context(temporary))
                (whole := name / "whole").mkdir()
            note = self._write(whole, build)
            with self._writing():
                if self.path.exists():
                    # Damaged, or made by another process in the meantime. A folder cannot be renamed over one: move it aside.
                    self.path.rename(name / "replaced")
                whole.rename(self.path)
                return Kept(self._map(), note)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn an OSError of the cache's own writing into an InputError that names the cache folder."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"cannot keep the images in {self.folder} ({error.strerror or error}): name a folder that can be "
                "written with the environment variable N2N_CACHE"
            ) from error

    def _write(self, folder: Path, build: Build) -> dict[str, Any]:
        made: list[NDArray[Any]] = []

        def allocate(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
            with self._writing():
                free = shutil.disk_usage(folder).free
                size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
                if free < size:
                    raise InputError(
                        f"the images need {size / 1e6:.0f} MB and {self.folder} has {free / 1e6:.0f} MB free: "
                        "free disk space, or name another folder with the environment variable N2N_CACHE"
                    )
                made.append(np.lib.format.open_memmap(folder / "array.npy", "w+", dtype, shape))
            return made[0]

        note = build(allocate)
        (array,) = made
        with self._writing():
            array.flush()  # type: ignore[attr-defined]  # a memmap
            content = {"recipe": self.recipe, "note": note, "crc32": _checksum(array, note)}
            (folder / "recipe.json").write_text(json.dumps(content, indent=1))
        return note
