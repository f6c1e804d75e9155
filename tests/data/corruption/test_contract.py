"""What holds for every corruption."""

from __future__ import annotations

import importlib
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentError, ArgumentParser
from torch import Tensor

from n2n.data.corruption import (
    Bernoulli,
    Camera,
    Corruption,
    Gaussian,
    Impulse,
    Microscope,
    Poisson,
    PoissonGaussian,
    SampleCells,
    TextOverlay,
)
from n2n.errors import InputError

EACH: list[tuple[Corruption, dict[str, Any]]] = [
    (Gaussian(25.0), {"sigma": 25}),
    (Gaussian((5.0, 50.0)), {"sigma": [5, 50]}),
    (Poisson(30.0), {"peak": 30}),
    (Poisson((1.0, 50.0)), {"peak": [1, 50]}),
    (PoissonGaussian((10.0, 20.0), 5.0), {"peak": [10, 20], "sigma": 5}),
    (Bernoulli((0.05, 1.0)), {"keep": [0.05, 1]}),
    (Impulse(0.5), {"p": 0.5}),
    (TextOverlay((0.1, 0.5), (6, 12)), {"p": [0.1, 0.5], "size": [6, 12]}),
    (SampleCells(4), {"cell": 4}),
    (
        Microscope(10.0, exposure=1.0, gamma=1.0, blur=0.0, black=0.0),
        {"sigma": 10, "exposure": 1, "gamma": 1, "blur": 0, "black": 0},
    ),
    # Without what makes clean images of its own.
    (Camera(soft=0.0, quality=98.0), {"soft": 0, "quality": 98}),
]
each = pytest.mark.parametrize(("corruption", "init_args"), EACH, ids=lambda case: type(case).__name__)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=seeded(0))


@each
def test_built_from_a_config(corruption: Corruption, init_args: dict[str, Any]) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--corruption", type=Corruption)
    class_path = f"n2n.data.corruption.{type(corruption).__name__}"
    config = parser.parse_object({"corruption": {"class_path": class_path, "init_args": init_args}})
    built, clean = parser.instantiate(config).corruption, images(2, 3, 32, 32)
    assert type(built) is type(corruption)
    assert torch.equal(built(clean, seeded(1)), corruption(clean, seeded(1)))


@each
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_shape_and_type(corruption: Corruption, init_args: dict[str, Any], channels: int) -> None:
    clean = images(2, channels, 32, 48)
    kept = clean.clone()
    noisy = corruption(clean, None)
    assert noisy.shape == (2, channels, 32 // corruption.scale, 48 // corruption.scale)
    assert noisy.dtype == torch.float32
    assert torch.equal(clean, kept)
    assert corruption.clean(clean).shape == noisy.shape


@each
def test_the_seed_decides(corruption: Corruption, init_args: dict[str, Any]) -> None:
    clean = images(4, 3, 32, 32)
    first, again, other = (corruption(clean, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@each
def test_two_draws_and_two_images_are_independent(corruption: Corruption, init_args: dict[str, Any]) -> None:
    # A fixed level: a range makes a whole image strong or weak, which is no correlation of the noise itself.
    clean = images(1, 1, 128, 128).repeat(2, 1, 1, 1)
    generator = seeded(3)
    first, second = corruption(clean, generator), corruption(clean, generator)
    mean = corruption.clean(clean)
    if isinstance(corruption, Impulse):
        mean = clean + corruption.p * (0.5 - clean)  # type: ignore[operator]
    elif isinstance(corruption, TextOverlay):
        # The colours of text pull a pixel to grey; which pixels are under text is what has to be independent.
        first, second, mean = (first != clean).float(), (second != clean).float(), torch.zeros(())
        mean = torch.stack([first, second]).mean((0, 2, 3, 4), keepdim=True)[0]
    for a, b in ((first[0], second[0]), (first[1], second[1]), (first[0], first[1])):
        a, b = a - mean[0], b - mean[0]
        products = (a * b) / (a.std() * b.std())
        # Pixels under one letter go together, and a camera's neighbours: there are fewer independent pixels than pixels.
        few = 10.0 if isinstance(corruption, TextOverlay | Camera) else 1.0
        assert products.mean().abs() < few * 5 * products.std() / products.numel() ** 0.5


@each
def test_workers_can_receive_it(corruption: Corruption, init_args: dict[str, Any]) -> None:
    corruption(images(1, 3, 32, 32), None)
    assert pickle.loads(pickle.dumps(corruption)) == corruption


@each
def test_the_suited_loss_exists(corruption: Corruption, init_args: dict[str, Any]) -> None:
    module, _, name = corruption.suited_loss.rpartition(".")
    loss = getattr(importlib.import_module(module), name)()
    clean = images(1, 3, 32, 32)
    assert loss(corruption(clean, None), corruption.clean(clean)).isfinite()
    assert corruption.zero_mean == (corruption.suited_loss == "torch.nn.MSELoss")


@dataclass
class Own(Corruption):
    """A user's own corruption, in a module with postponed annotations that does not import ClassVar."""

    step: float = 1.0

    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        return clean + self.step


def test_a_users_own() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--corruption", type=Corruption)
    spec = {"class_path": f"{__name__}.Own", "init_args": {"step": 2.0}}
    own = parser.instantiate(parser.parse_object({"corruption": spec})).corruption
    assert (own.scale, own.zero_mean) == (1, True)
    assert torch.equal(own(torch.zeros(1, 1, 2, 2), None), torch.full((1, 1, 2, 2), 2.0))
    with pytest.raises(ArgumentError, match="Got value: two"):
        parser.parse_object({"corruption": spec | {"init_args": {"step": "two"}}})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Gaussian(-1.0), r"sigma is -1.0: expected a number of at least 0"),
        (lambda: Gaussian((50.0, 5.0)), r"sigma is \(50.0, 5.0\)"),
        (lambda: Gaussian(float("nan")), "sigma is nan"),
        (lambda: Gaussian((1.0, 2.0, 3.0)), "range"),  # type: ignore[arg-type]
        (lambda: Poisson(0.0), "peak is 0.0: expected a number above 0"),
        (lambda: Poisson((0.0, 5.0)), "peak is"),
        (lambda: PoissonGaussian(30.0, -1.0), "sigma is -1.0"),
        (lambda: PoissonGaussian(float("inf"), 1.0), "peak is inf"),
        (lambda: Bernoulli(0.0), "keep is 0.0: expected a number above 0 and at most 1"),
        (lambda: Bernoulli(1.5), "keep is 1.5"),
        (lambda: Impulse(-0.1), "p is -0.1"),
        (lambda: Impulse((0.1, 1.1)), "at most 1"),
        (lambda: TextOverlay(2.0), "p is 2.0"),
        (lambda: TextOverlay(0.2, (20, 10)), r"size is \(20, 10\)"),
        (lambda: TextOverlay(0.2, (1, 10)), "size is"),
        (lambda: SampleCells(0), "cell is 0"),
        (lambda: Camera(shot=0.0), "shot is 0.0: expected a number above 0"),
        (lambda: Camera(soft=1.5), "soft is 1.5: expected a number of at least 0 and at most 1"),
        (lambda: Camera(quality=(70.0, 101.0)), "at most 100"),
        (lambda: Camera(zoom=(1.5, 0.5)), r"zoom is \(1.5, 0.5\)"),
        (lambda: SampleCells(5)(torch.zeros(1, 1, 10, 12), None), "images are 10×12 and cell is 5"),
    ],
)
def test_bad_arguments_are_refused(build: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        build()
    assert "\n" not in str(error.value)
