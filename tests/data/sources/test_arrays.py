from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from n2n import Denoiser, DenoisingModule, PairDataModule
from n2n.backbones import DnCNN
from n2n.data import Arrays
from n2n.errors import InputError

RNG = np.random.default_rng(0)
SMALL: dict[str, Any] = {"patch": 16, "patches": 40, "flips": False}


def images(*shape: int, count: int = 10, sigma: float = 10) -> tuple[Any, Any, Any]:
    """Return two noisy views and the clean images, uint8."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    clean = [110 + 60 * np.sin(x / (5 + i)) * np.cos(y / 7) for i in range(count)]
    whole = np.stack([one if len(shape) == 2 else np.stack([one] * shape[2], 2) for one in clean])
    first, second = (np.clip(whole + RNG.normal(0, sigma, whole.shape), 0, 255).astype(np.uint8) for _ in range(2))
    return first, second, whole.astype(np.uint8)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: images(40, 30)[:2], (1, 16, 16)),
        (lambda: images(40, 30, 3)[:2], (3, 16, 16)),
        (lambda: [torch.from_numpy(np.moveaxis(one, 3, 1)) for one in images(40, 30, 2)[:2]], (2, 16, 16)),
        (lambda: [list(one) for one in images(40, 30)[:2]], (1, 16, 16)),
        (lambda: [[*images(40, 30)[i], *images(20, 50)[i]] for i in range(2)], (1, 16, 16)),
        (lambda: [one.astype(np.float32) / 255 for one in images(40, 30)[:2]], (1, 16, 16)),
        (lambda: [torch.from_numpy(one).float() for one in images(40, 30)[:2]], (1, 16, 16)),
    ],
)
def test_arrays_tensors_and_lists_become_pairs(make: Callable[[], Any], shape: tuple[int, ...]) -> None:
    first, second = make()
    source = Arrays(first, second, check=False, **SMALL)
    store = source.train_pairs()
    batch = store.batch(torch.arange(40), 0)
    assert store.shape == shape
    assert batch.second is not None
    difference = batch.first.double() - batch.second.double()
    assert 0 < difference.std() < 20
    assert len(source.val_pairs()) > 0
    assert not list(Path().rglob("*.npy"))


def test_a_plain_trainer_trains_on_arrays_and_the_network_denoises() -> None:
    torch.manual_seed(0)
    first, second, clean = images(48, 48, sigma=25)
    module = DenoisingModule(DnCNN(1, depth=4, features=16), optimizer=lambda weights: torch.optim.Adam(weights, 3e-3))
    data = PairDataModule(Arrays(first, second, clean, **SMALL | {"patches": 200}), batch_size=8)
    trainer = L.Trainer(
        max_epochs=10, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, data)
    assert trainer.callback_metrics["val/psnr_per_image"] > trainer.callback_metrics["val/psnr_noisy_per_image"] + 2
    denoised = Denoiser(module.backbone, module.image_channels, "cpu")(first[0])
    errors = [((image.astype(float) - clean[0]) ** 2).mean() for image in (first[0], denoised)]
    assert errors[1] < 0.5 * errors[0]


def test_clean_images_serve_validation_alone_and_channels_go_apart() -> None:
    first, second, clean = images(40, 30, 3)
    source = Arrays(first, second, clean, channels="apart", val_fraction=0.3, **SMALL)
    batch = source.val_pairs().batch(torch.tensor([0]), 0)
    assert batch.clean is not None
    assert batch.first.shape[1] == 1
    assert "clean images found for 30 of 30 scenes" in source.train_pairs().remarks


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Arrays("a", "b"), "first is a str: expected an array N×H×W"),  # type: ignore[arg-type]
        (
            lambda: Arrays(np.zeros((4, 4)), np.zeros((4, 4))),
            r"first has the shape \(4, 4\): expected N×H×W or N×H×W×C",
        ),
        (lambda: Arrays(torch.zeros(4, 4), torch.zeros(4, 4)), r"first has the shape \(4, 4\): expected N×C×H×W"),
        (
            lambda: Arrays(np.zeros((2, 9, 9)), np.zeros((3, 9, 9))),
            "the numbers of images are {'first': 2, 'second': 3}",
        ),
        (lambda: Arrays([], []), "at least one"),
        (lambda: Arrays(np.zeros((2, 9, 9)), np.zeros((2, 9, 9)), axes="QYX"), "axes is QYX: arrays have fixed axes"),
        (lambda: Arrays([np.zeros((3, 9, 9))], [np.zeros((3, 9, 9))]), "with at most 4 channels"),
        (lambda: Arrays([np.zeros(9)], [np.zeros(9)]), r"first\[0\] has the shape \(9,\)"),
        (lambda: Arrays(np.zeros((2, 9, 9), int), np.ones((2, 9, 9), int)).train_pairs(), "holds int64 values"),
    ],
)
def test_what_is_no_pair_of_images_gets_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_bfloat16_is_learnt_as_float32() -> None:
    first, second = ((torch.from_numpy(one) / 255).bfloat16() for one in images(40, 30)[:2])
    store = Arrays(first, second, check=False, **SMALL).train_pairs()
    assert store.dtype == "float32"


def test_lists_of_what_is_no_array_are_refused() -> None:
    first, second, _ = images(40, 30, count=2)
    # The pixels of a palette image are numbers of colours.
    pictures = [Image.fromarray(one).convert("P") for one in first]
    with pytest.raises(InputError, match=r"first\[0\]: got a Image: expected a NumPy array"):
        Arrays(pictures, second)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"second\[0\]: got an array with masked values"):
        Arrays(first, np.ma.masked_greater(second, 150))
