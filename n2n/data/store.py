"""The memory-mapped store of pairs, its cache on disk, and the batches cut from it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from n2n.errors import InputError

# Bytes read at a time for the checksum: large enough to run at memory speed, small enough to stay in cache.
_BLOCK = 1 << 22


class PairStore:
    """N pairs of images of one size, uint8, usually memory-mapped.

    Args:
        first: the first view of each pair, N×C×H×W uint8 (noisy).
        second: the other view, of the same shape (noisy for training, clean for validation).
        remark: a line for the user on where the pairs came from.

    Raises:
        InputError: if the two are not uint8 N×C×H×W of one shape, or hold nothing.
    """

    def __init__(self, first: Tensor, second: Tensor, remark: str = "") -> None:
        for tensor in (first, second):
            if tensor.dtype != torch.uint8 or tensor.ndim != 4 or tensor.numel() == 0:
                raise InputError(f"expected uint8 images N×C×H×W, got {tensor.dtype} of shape {tuple(tensor.shape)}")
        if first.shape != second.shape:
            raise InputError(f"the two views differ in shape: {tuple(first.shape)} and {tuple(second.shape)}")
        self.first, self.second, self.remark = first, second, remark

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.first)

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H, W of every image."""
        C, H, W = self.first.shape[1:]
        return C, H, W

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Cut pairs out by index, in one go: int64 N -> two uint8 N×C×H×W."""
        return self.first[indices], self.second[indices]


class PairSampler:
    """Which pairs make which batch: shuffled anew each epoch, shared out among the processes without repetition.

    Lightning finds it as the loader's ``sampler`` and calls ``set_epoch``, so that a resumed run goes on in the order in
    which the uninterrupted one would have.

    Args:
        pairs: how many there are.
        batch_size: pairs a batch and process.
        shuffle: draw a new order each epoch. Then every process gets the same number of batches of the same size, as
            training needs, at the cost of at most ``world_size - 1`` pairs an epoch. Without it every pair is used once.
        seed: of the order.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(
        self, pairs: int, batch_size: int, shuffle: bool, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        self.pairs, self.batch_size, self.shuffle, self.seed = pairs, batch_size, shuffle, seed
        self.rank, self.world_size, self.epoch = rank, world_size, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    @property
    def _share(self) -> int:
        """Pairs of this process."""
        if self.shuffle:
            return self.pairs // self.world_size
        return len(range(self.rank, self.pairs, self.world_size))

    def __len__(self) -> int:
        """Return the number of batches of this process."""
        return -(-self._share // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        """Give the indices of one batch after another, int64."""
        if self.shuffle:
            # Seeded by both numbers, so that epoch 1 of seed 0 is not epoch 0 of seed 1.
            entropy = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)[0]
            generator = torch.Generator().manual_seed(int(entropy) >> 1)
            order = torch.randperm(self.pairs, generator=generator)
        else:
            order = torch.arange(self.pairs)
        mine = order[self.rank :: self.world_size][: self._share]
        yield from torch.split(mine, self.batch_size)


class PairLoader:
    """Batches of uint8 pairs cut from a store; what the Trainer iterates over.

    Not a ``torch.utils.data.DataLoader``: a batch is two indexed reads, so workers would add copies and save nothing.
    """

    batch_sampler: None = None  # Lightning looks here, too, in whatever has a sampler

    def __init__(self, store: PairStore, sampler: PairSampler) -> None:
        self.store, self.sampler = store, sampler

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Give two uint8 N×C×H×W a batch."""
        return map(self.store.batch, self.sampler)


def default_cache() -> Path:
    """Return the user's cache folder for n2n; the environment variable ``N2N_CACHE`` names another."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("N2N_CACHE") or user_cache_dir("n2n"))


def _checksum(array: NDArray[np.uint8]) -> int:
    flat = array.reshape(-1)
    value = 0
    for start in range(0, flat.size, _BLOCK):
        value = zlib.crc32(flat[start : start + _BLOCK].data, value)
    return value


Allocate = Callable[[int, int, int, int], NDArray[np.uint8]]


class PairCache:
    """A store of pairs on disk, made once and found again under a name that changes with its recipe.

    A folder ``<name>-<digest>`` holds ``pairs.npy`` (uint8, 2×N×C×H×W) and ``recipe.json``. It is written under another
    name and renamed when whole, so an interrupted build leaves no half store, and two processes that build the same
    one do not disturb each other.

    Args:
        name: what the pairs are, for people who look into the cache folder.
        recipe: everything that the pixels depend on, as plain JSON values.
        folder: the cache folder; the user's own if None.
    """

    def __init__(self, name: str, recipe: Mapping[str, Any], folder: str | os.PathLike[str] | None = None) -> None:
        self.recipe = dict(recipe)
        digest = hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()[:12]
        self.folder = Path(folder).expanduser() if folder is not None else default_cache()
        self.path = self.folder / f"{name}-{digest}"

    def _map(self) -> NDArray[np.uint8] | None:
        """Map the pairs, or return None if they are missing or are not pairs."""
        try:
            # "c": writable in memory, never on disk; torch warns about read-only arrays.
            pairs = np.load(self.path / "pairs.npy", mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return pairs if pairs.dtype == np.uint8 and pairs.ndim == 5 and len(pairs) == 2 else None

    def remark(self) -> str | None:
        """Return what ``build`` had to say, or None if the store is missing or damaged; reads all of it once."""
        pairs = self._map()
        try:
            note = json.loads((self.path / "recipe.json").read_text())
            whole = pairs is not None and note["crc32"] == _checksum(pairs)
            return str(note["remark"]) if whole else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def open(self, build: Callable[[Allocate], str]) -> PairStore:
        """Map the store; make it first, unless it is there and whole.

        Args:
            build: calls the function it is given once, with N, C, H, W, fills the 2×N×C×H×W array that it returns, and
                returns a line on what it did, which the store then carries as its ``remark``.

        Raises:
            InputError: if the cache folder cannot be written or has not enough room.
        """
        remark = self.remark()
        try:
            if remark is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=self.folder, prefix=".building-") as name:
                    remark = self._write(Path(name), build)
                    self._install(Path(name))
        except OSError as error:
            raise InputError(
                f"cannot keep the pairs in {self.folder} ({error.strerror or error}): name a folder that can be "
                "written with the environment variable N2N_CACHE"
            ) from error
        pairs = self._map()
        if pairs is None:
            raise InputError(f"the pairs in {self.path} vanished while they were opened: start again")
        return PairStore(torch.from_numpy(pairs[0]), torch.from_numpy(pairs[1]), remark)

    def _write(self, folder: Path, build: Callable[[Allocate], str]) -> str:
        made: list[NDArray[np.uint8]] = []

        def allocate(N: int, C: int, H: int, W: int) -> NDArray[np.uint8]:
            size, free = 2 * N * C * H * W, shutil.disk_usage(folder).free
            if free < size:
                raise InputError(
                    f"the pairs need {size / 1e6:.0f} MB and {self.folder} has {free / 1e6:.0f} MB free: "
                    "free some, or name another folder with the environment variable N2N_CACHE"
                )
            made.append(np.lib.format.open_memmap(folder / "pairs.npy", "w+", np.uint8, (2, N, C, H, W)))
            return made[0]

        remark = build(allocate)
        (pairs,) = made
        pairs.flush()  # type: ignore[attr-defined]  # a memmap, which NDArray does not say
        note = {"recipe": self.recipe, "remark": remark, "crc32": _checksum(pairs)}
        (folder / "recipe.json").write_text(json.dumps(note, indent=1))
        return remark

    def _install(self, folder: Path) -> None:
        whole = folder / "whole"
        whole.mkdir()
        for file in ("pairs.npy", "recipe.json"):
            (folder / file).rename(whole / file)
        if self.path.exists():
            # Damaged, or made meanwhile by another process; move it aside, since a folder cannot be renamed over one.
            self.path.rename(folder / "replaced")
        whole.rename(self.path)
