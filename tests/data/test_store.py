from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from n2n.data.store import Allocate, PairCache, PairSampler
from n2n.errors import InputError


def build(allocate: Allocate) -> str:
    pairs = allocate(5, 3, 4, 4)
    pairs[:] = np.arange(pairs.size, dtype=np.uint8).reshape(pairs.shape)
    return "made"


def never(allocate: Allocate) -> str:
    raise AssertionError("made again")


def test_cache_is_made_once_and_found_again(tmp_path: Path) -> None:
    store = PairCache("x", {"a": 1}, tmp_path).open(build)
    again = PairCache("x", {"a": 1}, tmp_path).open(never)
    assert torch.equal(store.first, again.first)
    assert again.remark == "made"
    assert PairCache("x", {"a": 2}, tmp_path).path != PairCache("x", {"a": 1}, tmp_path).path


@pytest.mark.parametrize("damage", ["flip", "truncate", "note", "remove"])
def test_damaged_cache_is_made_again(tmp_path: Path, damage: str) -> None:
    cache = PairCache("x", {}, tmp_path)
    whole = cache.open(build).first.clone()
    file = cache.path / "pairs.npy"
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[-7] ^= 1
    file.write_bytes(content[: 200 if damage == "truncate" else None])
    if damage == "note":
        (cache.path / "recipe.json").write_text("{")
    if damage == "remove":
        file.unlink()
    assert torch.equal(PairCache("x", {}, tmp_path).open(build).first, whole)
    assert [path.name for path in tmp_path.iterdir()] == [cache.path.name]


def test_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(allocate: Allocate) -> str:
        allocate(5, 3, 4, 4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PairCache("x", {}, tmp_path).open(interrupted)
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    def huge(allocate: Allocate) -> str:
        allocate(10**9, 3, 1000, 1000)
        return ""

    with pytest.raises(InputError, match="MB free"):
        PairCache("x", {}, tmp_path).open(huge)


def batches(sampler: PairSampler) -> NDArray[np.int64]:
    return torch.cat(list(sampler)).numpy()


def test_every_pair_once_in_a_new_order_each_epoch() -> None:
    sampler = PairSampler(103, 10, shuffle=True, seed=1)
    first = batches(sampler)
    assert sorted(first) == list(range(103))
    assert np.array_equal(first, batches(sampler))
    sampler.set_epoch(1)
    assert not np.array_equal(first, batches(sampler))
    assert [len(batch) for batch in sampler] == [10] * 10 + [3]
    assert len(sampler) == 11


@pytest.mark.parametrize("shuffle", [True, False])
def test_processes_share_without_repetition(shuffle: bool) -> None:
    samplers = [PairSampler(103, 10, shuffle, rank=rank, world_size=4) for rank in range(4)]
    shares = [batches(sampler) for sampler in samplers]
    assert len(set(np.concatenate(shares))) == sum(map(len, shares)) == (100 if shuffle else 103)
    assert [len(list(sampler)) for sampler in samplers] == [len(sampler) for sampler in samplers]
