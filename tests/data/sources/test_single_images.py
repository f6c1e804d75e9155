from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from n2n.data import SingleImages
from n2n.data.corruption import Gaussian, Impulse
from n2n.data.sources.single_images import CorruptedPairs, NeighbourPairs, pick_neighbours, subsample
from n2n.errors import InputError

GENERATOR = torch.Generator().manual_seed(0)


def test_both_halves_are_neighbours_from_the_same_cell() -> None:
    images = torch.arange(2 * 6 * 8).reshape(2, 1, 6, 8).float()
    one, other = pick_neighbours(images, GENERATOR)
    first, second = subsample(images, one), subsample(images, other)
    assert first.shape == (2, 1, 3, 4)
    corner = images[..., ::2, ::2]
    # In a row of 8 pixels, a cell is {0, 1, 8, 9} from its corner, and neighbours are 1 or 8 apart, never 7 or 9.
    assert set((first - corner).flatten().tolist()) <= {0.0, 1.0, 8.0, 9.0}
    assert set((first - second).abs().flatten().tolist()) == {1.0, 8.0}


def test_all_eight_choices_are_as_likely() -> None:
    one, other = pick_neighbours(torch.zeros(1, 1, 400, 400), GENERATOR)
    counts = torch.bincount((one * 4 + other).flatten(), minlength=16)
    assert counts[counts > 0].numel() == 8
    # 5000 expected of each; 6 standard deviations.
    assert (counts[counts > 0] - 5000).abs().max() < 6 * 5000**0.5


def test_colours_are_picked_together_and_odd_rows_are_left() -> None:
    images = torch.rand(1, 1, 5, 7).expand(-1, 3, -1, -1)
    half = subsample(images, pick_neighbours(images, GENERATOR)[0])
    assert half.shape == (1, 3, 2, 3)
    assert torch.equal(half[:, 0], half[:, 2])


def test_a_pair_is_taken_from_the_images_that_come_with_it() -> None:
    images = torch.rand(2, 1, 8, 8)
    batch = NeighbourPairs()(images, GENERATOR)
    assert batch.halves is not None
    assert batch.target is not None
    assert not batch.independent
    assert batch.halves.images is images
    noisy, target = batch.halves.take(images)
    assert torch.equal(noisy, batch.noisy)
    assert torch.equal(target, batch.target)
    assert not torch.equal(noisy, target)


def test_views_say_whether_their_noise_is_independent_and_has_zero_mean() -> None:
    draws = (CorruptedPairs(Gaussian(25)), CorruptedPairs(Impulse(0.5)), NeighbourPairs())
    views = [draw(torch.rand(1, 1, 8, 8), torch.Generator()) for draw in draws]
    assert [batch.independent for batch in views] == [True, False, False]


def test_pages_of_a_stack_are_images_of_their_own() -> None:
    np.save("stack.npy", np.zeros((3, 20, 20), np.uint8))
    Path("broken.npy").write_bytes(b"")
    scenes, lines = SingleImages(["stack.npy", "broken.npy"]).find()
    assert [scene.name for scene in scenes] == ["stack[0]", "stack[1]", "stack[2]"]
    assert "axes of stack.npy: Q 3 are scenes of their own" in lines[1]
    assert "left out 1 file that cannot be read" in lines[2]
    store = SingleImages("stack.npy", patch=8).train_pairs()
    # The network sees half of what is cut.
    assert store.shape == (1, 8, 8)
    assert store.batch(torch.arange(4), 0).first.shape == (4, 1, 16, 16)
    with pytest.raises(InputError, match=r"there is no image in broken\.npy"):
        SingleImages("broken.npy").train_pairs()


@pytest.mark.parametrize("correlated", [False, True])
def test_noise_that_is_not_white_is_noticed(correlated: bool) -> None:
    rng = np.random.default_rng(0)
    down, right = np.mgrid[:256, :256]
    for number in range(4):
        noise = rng.normal(0, 15, (256, 256))
        if correlated:
            noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, 1, (0, 1))) / 2
        Image.fromarray(np.clip(80 + (down + number * right) / 4 + noise, 0, 255).astype(np.uint8)).save(
            f"{number}.png"
        )
    remarks = SingleImages(".", patch=32, val_fraction=0.25).train_pairs().remarks
    found = [line for line in remarks if "the noise is correlated between neighbouring pixels (0." in line]
    assert len(found) == correlated
    if correlated:
        assert "Neighbor2Neighbor keeps such noise; take two captures of each scene" in found[0]
