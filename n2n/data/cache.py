"""Arrays that are made once, kept in the user's cache folder, and mapped into memory from then on."""

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
from numpy.typing import DTypeLike, NDArray

from n2n.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Bytes read at a time for the checksum: large enough to run at memory speed, small enough to stay in cache.
_BLOCK = 1 << 22


def default_cache() -> Path:
    """Return the user's cache folder for n2n; the environment variable ``N2N_CACHE`` names another."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("N2N_CACHE") or user_cache_dir("n2n"))


def _checksum(array: NDArray[Any], note: object) -> int:
    """Sum up an array, what tells its bytes apart into numbers, and the note on it."""
    flat = array.reshape(-1).view(np.uint8)
    value = zlib.crc32(json.dumps([array.shape, array.dtype.str, note], sort_keys=True).encode())
    for start in range(0, flat.size, _BLOCK):
        value = zlib.crc32(flat[start : start + _BLOCK].data, value)
    return value


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Wait until no other process holds the lock of this name, and hold it; a process that is killed holds none.

    Gives whether it is held: there are file systems without locks, where nothing is waited for.
    """
    with contextlib.ExitStack() as stack:
        held = fcntl is not None and _lock(path, stack)
        try:
            yield held
        finally:
            if held:
                path.unlink(missing_ok=True)


def _lock(path: Path, stack: contextlib.ExitStack) -> bool:
    while True:
        file = stack.enter_context(path.open("a"))
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Denoising needs no Lightning, and imports this module.
                from lightning.pytorch.utilities import rank_zero_info

                rank_zero_info("Another process makes these images at the moment: waiting for it.")
                fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever held it has removed its file, and another may hold the next of this name.
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return True
        except FileNotFoundError:
            continue
        except OSError:
            return False


@dataclass(frozen=True)
class Kept:
    """What the cache keeps under one name.

    Attributes:
        array: mapped from disk; writable in memory, never on disk.
        note: what ``build`` returned: plain JSON values, among them ``remarks``, lines for the user.
    """

    array: NDArray[Any]
    note: dict[str, Any]


Allocate = Callable[[tuple[int, ...], DTypeLike], NDArray[Any]]
Build = Callable[[Allocate], dict[str, Any]]


class Cache:
    """An array on disk, made once and found again under a name that changes with its recipe.

    A folder ``<name>-<digest>`` holds ``array.npy`` and ``recipe.json``. It is written under another name and renamed when
    whole, so an interrupted build leaves no half array. Of processes that want the same one at once, one builds it and the
    others wait for that, where the file system has locks.

    Args:
        name: what the array is, for people who look into the cache folder.
        recipe: everything that the values depend on, as plain JSON values.
        folder: the cache folder; the user's own if None.
    """

    def __init__(self, name: str, recipe: Mapping[str, Any], folder: str | os.PathLike[str] | None = None) -> None:
        self.recipe = dict(recipe)
        digest = hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()[:12]
        self.folder = Path(folder).expanduser() if folder is not None else default_cache()
        self.path = self.folder / f"{name}-{digest}"

    def find(self) -> Kept | None:
        """Map the array, or return None if it is missing or damaged; reads all of it once."""
        try:
            # "c": writable in memory, never on disk; torch warns about read-only arrays.
            files = [self.path / name for name in ("array.npy", "recipe.json")]
            if not all(file.is_file() for file in files):  # opening a pipe would wait for ever
                return None
            array = np.load(files[0], mmap_mode="c", allow_pickle=False)
            content = json.loads(files[1].read_text(encoding="utf-8"))
            note = dict(content["note"])
            return Kept(array, note) if content["crc32"] == _checksum(array, note) else None
        except Exception:  # damaged files fail in many ways
            return None

    def open(self, build: Build) -> Kept:
        """Map the array; make it first, unless it is there and whole.

        Args:
            build: calls the function it is given once, with a shape and a dtype, fills the array that it returns, and
                returns what is to be known about it as plain JSON values.

        Raises:
            InputError: if the cache folder cannot be written or has not enough room; whatever ``build`` raises, as it is.
        """
        kept = self.find()
        if kept is not None:
            return kept
        with contextlib.ExitStack() as stack:
            prefix = f".building-{self.path.name}-"
            with self._writing():
                self.folder.mkdir(parents=True, exist_ok=True)
                if stack.enter_context(_locked(self.folder / f"{prefix}lock")):
                    if (kept := self.find()) is not None:
                        return kept
                    # Of a process that was killed.
                    for left in self.folder.glob(f"{prefix}*/"):
                        shutil.rmtree(left, ignore_errors=True)
                name = stack.enter_context(
                    tempfile.TemporaryDirectory(dir=self.folder, prefix=prefix, ignore_cleanup_errors=True)
                )
            note = self._write(Path(name), build)
            with self._writing():
                self._install(Path(name))
                array = np.load(self.path / "array.npy", mmap_mode="c", allow_pickle=False)
        return Kept(array, note)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Blame the cache folder for what fails meanwhile: nothing but the cache's own writing."""
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
                        "free some, or name another folder with the environment variable N2N_CACHE"
                    )
                made.append(np.lib.format.open_memmap(folder / "array.npy", "w+", dtype, shape))
            return made[0]

        note = build(allocate)
        (array,) = made
        with self._writing():
            array.flush()  # type: ignore[attr-defined]  # a memmap, which NDArray does not say
            content = {"recipe": self.recipe, "note": note, "crc32": _checksum(array, note)}
            (folder / "recipe.json").write_text(json.dumps(content, indent=1))
        return note

    def _install(self, folder: Path) -> None:
        whole = folder / "whole"
        whole.mkdir()
        for file in ("array.npy", "recipe.json"):
            (folder / file).rename(whole / file)
        if self.path.exists():
            # Damaged, or made meanwhile by another process; move it aside, since a folder cannot be renamed over one.
            self.path.rename(folder / "replaced")
        whole.rename(self.path)
