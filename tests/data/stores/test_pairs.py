from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from n2n.data.loader import PairLoader, PairSampler
from n2n.data.stores.pairs import PairStore
from n2n.errors import InputError


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


def test_batches_have_seeds_of_their_own() -> None:
    samplers = [PairSampler(40, 10, True, seed, rank, 2) for seed in (0, 1) for rank in (0, 1)]
    seeds = [seed for sampler in samplers for seed in sampler.batch_seeds()]
    samplers[0].set_epoch(1)
    assert len({*seeds, *samplers[0].batch_seeds()}) == 10


def test_batches_cut_ahead_are_those_cut_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # Pinned memory needs a GPU.
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self.clone())
    images = torch.randint(0, 256, (23, 3, 4, 4), dtype=torch.uint8)
    store = PairStore(images, 255 - images)
    for kept, ahead in zip(*(PairLoader(store, PairSampler(23, 5, True), ahead) for ahead in (0, 3)), strict=True):
        assert torch.equal(kept.first, ahead.first)
        assert kept.second is not None
        assert ahead.second is not None
        assert torch.equal(kept.second, ahead.second)
        assert kept.seed == ahead.seed


def test_cutting_ahead_stops_with_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    images = torch.zeros(100, 1, 2, 2, dtype=torch.uint8)
    batches = iter(PairLoader(PairStore(images, images), PairSampler(100, 1, False), ahead=2))
    next(batches)
    assert "prefetch" in [thread.name for thread in threading.enumerate()]
    del batches
    assert "prefetch" not in [thread.name for thread in threading.enumerate()]


def test_views_must_agree() -> None:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(InputError, match="differ in shape"):
        PairStore(images, None, images[:1])
    with pytest.raises(InputError, match="expected uint8 images"):
        PairStore(images.float(), images.float())


@pytest.mark.parametrize(("given", "left"), [(0, 5), (2, 3), (5, 5), (-1, 5), (9, 5)])
def test_batches_before_an_interruption_are_skipped_once(given: int, left: int) -> None:
    images = torch.zeros(25, 1, 2, 2, dtype=torch.uint8)
    loader = PairLoader(PairStore(images, images), PairSampler(25, 5, True))
    loader.load_state_dict({"batches": given})
    assert [len(list(loader)) for _ in range(2)] == [left, 5]
    assert loader.state_dict() == {"batches": 5}
