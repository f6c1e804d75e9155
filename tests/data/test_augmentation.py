from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentError, ArgumentParser
from PIL import Image
from torch import Tensor

from n2n import PairDataModule
from n2n.cli import main
from n2n.data import Batch, CourseFiles
from n2n.data.augmentation import (
    Augmentation,
    ChannelShuffle,
    Contrast,
    FlipsAndRotations,
    Grey,
    PairSwap,
    PixelExchange,
)
from n2n.errors import InputError
from tests.conftest import fit, write_course

ALL = "[{}]".format(
    ",".join(
        f"n2n.data.augmentation.{name}"
        for name in ("FlipsAndRotations", "ChannelShuffle", "Contrast", "PixelExchange", "PairSwap")
    )
)


def augment(augmentation: Augmentation, noisy: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    before = noisy.clone(), target.clone()
    batch = augmentation(Batch(noisy, target), torch.Generator().manual_seed(0))
    assert batch.target is not None
    assert torch.equal(noisy, before[0])
    assert torch.equal(target, before[1])
    # The generator alone decides.
    again = augmentation(Batch(noisy, target), torch.Generator().manual_seed(0))
    assert torch.equal(again.noisy, batch.noisy)
    return batch.noisy, batch.target


def orientations(image: Tensor) -> list[Tensor]:
    return [turned for k in range(4) for turned in (image.rot90(k, (-2, -1)), image.rot90(k, (-2, -1)).flip(-1))]


@pytest.mark.parametrize(("size", "kinds"), [((5, 5), 8), ((5, 4), 4)])
def test_both_views_are_turned_alike_into_every_orientation(size: tuple[int, int], kinds: int) -> None:
    image = torch.rand(3, *size)
    noisy, target = augment(FlipsAndRotations(), image.expand(4000, -1, -1, -1), (image + 1).expand(4000, -1, -1, -1))
    assert torch.equal(noisy + 1, target)
    counts = [
        int((noisy == turned).flatten(1).all(dim=1).sum())
        for turned in orientations(image)
        if turned.shape == image.shape
    ]
    assert len(counts) == kinds
    assert sum(counts) == 4000
    # Six standard deviations around the expectation.
    expected = 4000 / kinds
    assert max(abs(count - expected) for count in counts) < 6 * expected**0.5


def test_channels_of_both_views_come_in_every_order() -> None:
    image = torch.rand(3, 5, 5)
    noisy, target = augment(ChannelShuffle(), image.expand(3000, -1, -1, -1), (image + 1).expand(3000, -1, -1, -1))
    assert torch.equal(noisy + 1, target)
    counts = [
        int((noisy == image[list(order)]).flatten(1).all(dim=1).sum()) for order in itertools.permutations(range(3))
    ]
    assert sum(counts) == 3000
    # Six standard deviations around the expectation.
    assert max(abs(count - 500) for count in counts) < 6 * 500**0.5


def test_grey_repeats_one_channel_of_some_images_in_both_views() -> None:
    image = torch.rand(3, 4, 4)
    noisy, target = augment(Grey(0.3), image.expand(3000, -1, -1, -1), (image + 1).expand(3000, -1, -1, -1))
    assert torch.equal(noisy + 1, target)
    counts = [int((noisy == image[i]).flatten(1).all(dim=1).sum()) for i in range(3)]
    unchanged = int((noisy == image).flatten(1).all(dim=1).sum())
    assert sum(counts) + unchanged == 3000
    assert max(abs(count - 300) for count in counts) < 6 * 270**0.5
    with pytest.raises(InputError, match="Grey's p is 2"):
        Grey(2)


@pytest.mark.parametrize("invert", [False, True])
def test_contrast_maps_both_views_alike_within_the_range(invert: bool) -> None:
    noisy = torch.rand(500, 3, 8, 8)
    noisy[:, 0, 0, 0], noisy[:, 0, 0, 1] = 0, 1
    changed, target = augment(Contrast(least=0.4, invert=invert), noisy, noisy + 0.5)
    lowest = changed[:, 0, 0, 0]
    factors = changed[:, 0, 0, 1] - lowest
    expected = lowest[:, None, None, None] + factors[:, None, None, None] * noisy
    assert torch.allclose(changed, expected, atol=1e-6)
    assert torch.allclose(target, changed + 0.5 * factors[:, None, None, None], atol=1e-6)
    assert 0 <= changed.min() < 0.01
    assert 0.99 < changed.max() <= 1
    sizes = factors.abs()
    assert 0.4 <= sizes.min() < 0.45
    assert 0.95 < sizes.max() <= 1
    assert float((factors < 0).float().mean()) == pytest.approx(0.5 * invert, abs=0.12)
    # The brightness does not follow the contrast.
    shifts = torch.minimum(lowest, lowest + factors) / (1 - sizes).clamp(min=1e-3)
    assert abs(float(torch.corrcoef(torch.stack([shifts, sizes]))[0, 1])) < 0.2


@pytest.mark.parametrize("least", [0.0, 1.5, float("nan")])
def test_contrast_out_of_bounds_is_refused(least: float) -> None:
    with pytest.raises(InputError, match=f"Contrast's least is {least}: expected a factor above 0"):
        Contrast(least)


def test_pairs_are_swapped_whole() -> None:
    noisy, target = augment(PairSwap(), torch.zeros(1000, 3, 4, 4), torch.ones(1000, 3, 4, 4))
    assert torch.equal(noisy + target, torch.ones_like(noisy))
    swapped = noisy.flatten(1).mean(dim=1)
    assert set(swapped.tolist()) == {0.0, 1.0}
    assert float(swapped.mean()) == pytest.approx(0.5, abs=0.1)


def test_pixels_are_exchanged_with_all_their_channels() -> None:
    first, second = torch.rand(2, 50, 3, 32, 32)
    noisy, target = augment(PixelExchange(), first, second)
    kept, exchanged = (noisy == first).all(dim=1), (noisy == second).all(dim=1)
    assert torch.equal(kept, ~exchanged)
    assert torch.equal(torch.where(kept[:, None], second, first), target)
    assert float(exchanged.float().mean()) == pytest.approx(0.5, abs=0.02)


def test_augmented_training_can_be_repeated_resumed_and_validated(tmp_path: Path) -> None:
    root = write_course(tmp_path / "data")
    options = ("--data.augmentations", ALL)
    assert fit("--name", "plain", root=root) == 0
    assert fit(*options, "--trainer.max_epochs", "2", "--name", "whole", root=root) == 0
    assert fit(*options, "--name", "part", root=root) == 0
    part = "lightning_logs/part/version_0/checkpoints/last.ckpt"
    # The checkpoint brings the augmentations along.
    assert fit("--trainer.max_epochs", "2", "--name", "rest", "--ckpt_path", part, root=root) == 0
    assert main(["validate", "--ckpt_path", part]) == 0
    states = {
        name: torch.load(f"lightning_logs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for name in ("plain", "whole", "part", "rest")
    }
    assert all(torch.equal(states["whole"][key], states["rest"][key]) for key in states["whole"])
    assert not torch.equal(*(states[name]["backbone.layers.0.weight"] for name in ("plain", "part")))


def test_augmentations_that_do_not_fit_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--data.augmentations", ALL, "--data.target", "clean")
    assert fit(*options, root=write_course(tmp_path / "data")) == 2
    assert "PixelExchange needs noisy targets, and target is clean" in capsys.readouterr().err
    with pytest.raises(InputError, match="PairSwap needs noisy targets"):
        PairDataModule(CourseFiles(), augmentations=[PairSwap()], target="clean")
    Path("noisy").mkdir()
    for i in range(4):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (64, 64), dtype=np.uint8)).save(f"noisy/{i}.png")
    source = ("--config", "data/single.yaml", "--data.source.root", "noisy", "--data.source.patch", "32")
    single = ("--data.augmentations", ALL, "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu")
    assert main(["fit", "--config", "table1/model2.yaml", *source, *single]) == 2
    assert "SingleImages takes both views from one image" in capsys.readouterr().err


@dataclass
class Own(Augmentation):
    """A user's own augmentation, in a module with postponed annotations that does not import ClassVar."""

    step: float = 1.0

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        return batch


def test_the_arguments_of_a_users_own_are_checked() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--one", type=Augmentation)
    with pytest.raises(ArgumentError, match="Got value: two"):
        parser.parse_object({"one": {"class_path": f"{__name__}.Own", "init_args": {"step": "two"}}})
