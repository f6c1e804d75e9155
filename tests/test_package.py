from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from lightning import Trainer
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import n2n
from n2n import Denoiser, DenoisingModule, PairDataModule, backbones
from n2n.errors import InputError

PICTURE = Image.new("RGB", (8, 8))
IMAGES = torch.rand(4, 3, 8, 8)


def test_public_names_are_completed() -> None:
    assert set(dir(n2n)) == set(n2n.__all__)


def test_one_import_is_enough() -> None:
    """``import n2n`` alone gives its rooms, and loads none of them."""
    code = "import n2n, sys; assert 'torch' not in sys.modules; n2n.data.DeadLeaves, n2n.losses.HDR, n2n.backbones.UNet"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("images", [PICTURE, "noisy.png", [[0.1, 0.2]], TensorDataset(IMAGES), DataLoader(PICTURE)])  # type: ignore[arg-type]
def test_a_denoiser_says_what_it_takes(images: object) -> None:
    denoiser = Denoiser(nn.Conv2d(3, 3, 1), 3, "cpu")
    with pytest.raises(InputError, match="expected a NumPy array or a torch tensor"):
        denoiser(images)  # type: ignore[type-var]
    assert denoiser(np.asarray(PICTURE)).shape == (8, 8, 3)


def test_a_backbone_is_a_module() -> None:
    with pytest.raises(
        InputError, match=r"the backbone is a str: expected a torch.nn.Module; from_checkpoint reads a file"
    ):
        Denoiser("best.ckpt")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"the backbone is a str: expected a torch.nn.Module"):
        DenoisingModule("UNet")  # type: ignore[arg-type]


def test_a_data_module_takes_a_source() -> None:
    with pytest.raises(InputError, match="the source is a DataLoader: expected a source of pairs"):
        PairDataModule(DataLoader(TensorDataset(IMAGES)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        # A data set in place of a DataLoader.
        (
            TensorDataset(IMAGES, IMAGES),
            r"noisy images of shape \(3, 8, 8\) and torch.float32: expected a batch N×C×H×W",
        ),
        (DataLoader(TensorDataset((IMAGES * 255).byte(), IMAGES)), r"torch.uint8: expected a batch N×C×H×W of floats"),
        (DataLoader([("a", "b")]), "noisy images as tuple: expected a tensor"),  # type: ignore[arg-type]
        (DataLoader(TensorDataset(IMAGES)), "the training batches have no targets"),
    ],
)
def test_a_trainer_says_what_batches_it_takes(data: object, message: str) -> None:
    trainer = Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    with pytest.raises(InputError, match=message):
        trainer.fit(DenoisingModule(backbones.Model2(hidden=1)), data)
