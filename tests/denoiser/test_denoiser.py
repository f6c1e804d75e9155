from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from n2n import Denoiser, DenoisingModule, backbones
from n2n.data.reading import ImageFile
from n2n.data.sources.dead_leaves import draw, texture_bank
from n2n.data.value_range import TrainedRange, ValueRange
from n2n.denoiser import streaming
from n2n.errors import InputError
from tests.denoiser.files import denoise_files
from tests.write_checkpoints import same, write_checkpoint

DTYPES = ("uint8", "int8", "uint16", "int16", "float16", "float32", "float64")


def alive(build: Callable[[], nn.Module]) -> nn.Module:
    """Draw weights until the network's last ReLU lets something through: the same ones in every run."""
    noisy = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(), torch.no_grad():
        for seed in range(100):
            torch.manual_seed(seed)
            network = build().eval()
            if network(noisy).std() > 1e-2:
                return network
    raise AssertionError("no seed gives a network that is alive")


NETWORKS = {
    "Model2": alive(lambda: backbones.Model2(hidden=8)),
    "Model6": alive(lambda: backbones.Model6(hidden=4, inner=8)),
    "ModelPooling": alive(lambda: backbones.ModelPooling(hidden=8, inner=8)),
    "ModelFinal": alive(lambda: backbones.ModelFinal(widths=[4] * 5)),
    "DnCNN": alive(lambda: backbones.DnCNN(depth=4, features=4)),
    "UNet": alive(lambda: backbones.UNet(width=4, depth=2, head=(4,))),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("options", [{}, {"overlap": 32, "batch": 3}, {"ensemble": True}], ids=str)
def test_tiles_leave_no_trace(name: str, options: dict[str, Any]) -> None:
    network = NETWORKS[name]
    noisy = torch.rand(1, 3, 150, 101, generator=torch.Generator().manual_seed(0))
    whole = Denoiser(network, 3, "cpu", ensemble=options.get("ensemble", False)).denoise(noisy)
    tiled = Denoiser(network, 3, "cpu", tile=64, **options).denoise(noisy)
    assert torch.allclose(whole, tiled, atol=1e-5)
    assert whole.std() > 1e-4


def test_ensemble_is_the_mean_over_the_8_flips_and_rotations() -> None:
    torch.manual_seed(0)
    network = backbones.Model2().eval()
    noisy = torch.rand(1, 3, 17, 30)
    outs = []
    for turns in range(4):
        turned = network(torch.rot90(noisy, turns, (2, 3)))
        outs.append(torch.rot90(turned, -turns, (2, 3)))
        outs.append(network(torch.rot90(noisy, turns, (2, 3)).flip(2)).flip(2).rot90(-turns, (2, 3)))
    denoised = Denoiser(network, 3, "cpu", ensemble=True).denoise(noisy)
    assert torch.allclose(denoised, torch.stack(outs).mean(0), atol=1e-6)


@pytest.mark.parametrize("size", [(97, 160), (33, 161), (13, 65), (96, 96)])
def test_the_ensemble_gains_at_all_sizes(size: tuple[int, int]) -> None:
    """Sides that are no multiples of 32: what they are extended by must be like an image with noise, without stripes."""
    rng = np.random.default_rng(0)
    clean = draw(256, np.random.default_rng(3), texture_bank(0, 4, 128))[: size[0], : size[1]].mean(-1)
    noisy = np.clip(clean + rng.normal(0, 25, size), 0, 255).astype(np.uint8)
    one, several = (
        float(((Denoiser.from_checkpoint("gaussian", "cpu", ensemble=ensemble)(noisy) - clean) ** 2).mean())
        for ensemble in (False, True)
    )
    assert several < one


@pytest.mark.parametrize("size", [(17, 32), (16, 30)])
def test_the_ensemble_extends_images_to_the_networks_grid_by_their_edges(size: tuple[int, int]) -> None:
    network = nn.Sequential(nn.AvgPool2d(4), nn.Upsample(scale_factor=4))
    flat = torch.full((1, 1, *size), 0.5)
    assert torch.allclose(Denoiser(network, 1, "cpu", ensemble=True).denoise(flat), flat)


@pytest.mark.parametrize(
    ("options", "widest"),
    [({}, 256), ({"tile": 64}, 64), ({"tile": 64, "overlap": 32}, 64 + 2 * 32), ({"overlap": 96}, 4 * 96 + 2 * 96)],
    ids=str,
)
def test_tiles_have_the_size_that_is_asked_for(options: dict[str, int], widest: int) -> None:
    denoiser, widths = Denoiser(nn.Identity(), 1, "cpu", **options), []  # type: ignore[arg-type]
    assert denoiser.network.field
    denoiser.backbone.register_forward_pre_hook(lambda _, args: widths.append(args[0].shape[3]))
    denoiser.denoise(torch.rand(1, 1, 8, 1200))
    assert max(widths) == widest


class Tilted(nn.Module):
    """Multiplies columns by rising factors, and clips."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * torch.linspace(0, 2, x.shape[-1])).clamp(max=0.5)


def test_the_spread_has_the_range_of_the_training_whatever_the_byte_order() -> None:
    denoiser = Denoiser(Tilted(), 1, "cpu", trained=TrainedRange(ValueRange(0.0, 4095.0), np.dtype(np.uint16)))
    noisy = np.random.default_rng(0).integers(0, 4096, (20, 20), dtype=np.uint16)
    assert np.array_equal(denoiser.spread(noisy.astype(">u2")), denoiser.spread(noisy))


def test_grey_and_colour_meet() -> None:
    colour, grey = Denoiser(backbones.Model2(), 3, "cpu"), Denoiser(backbones.Model2(1), 1, "cpu")
    assert colour.denoise(torch.rand(2, 1, 9, 9)).shape == (2, 1, 9, 9)
    noisy = torch.rand(1, 3, 9, 9)
    # The three outputs for a grey image are averaged.
    scaled = nn.Conv2d(3, 3, 1, groups=3, bias=False)
    scaled.weight.data = torch.tensor([1.0, 2.0, 6.0]).view(3, 1, 1, 1)
    assert torch.allclose(Denoiser(scaled, 3, "cpu").denoise(noisy[:, :1]), 3 * noisy[:, :1], atol=1e-6)
    assert torch.allclose(grey.denoise(noisy)[:, 1:2], grey.denoise(noisy[:, 1:2]), atol=1e-6)
    with pytest.raises(InputError, match="3 channels and got 2"):
        colour.denoise(torch.rand(1, 2, 9, 9))


def test_the_network_does_not_train() -> None:
    noisy = torch.rand(1, 3, 9, 9)
    assert torch.equal(Denoiser(nn.Dropout(0.5), 3, "cpu").denoise(noisy), noisy)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axes"), [((70, 80), "YX"), ((70, 80, 3), "YXC"), ((2, 3, 70, 80), "QCYX")])
def test_arrays_come_back_as_they_went(dtype: str, shape: tuple[int, ...], axes: str) -> None:
    rng = np.random.default_rng(0)
    kind = np.dtype(dtype).kind
    noisy = (rng.random(shape) if kind == "f" else rng.integers(*_ends(dtype), shape)).astype(dtype)
    denoiser = Denoiser(nn.Identity(), 3, "cpu", tile=32, axes=axes)
    for image in (noisy, noisy.astype(np.dtype(dtype).newbyteorder(">")), np.asfortranarray(noisy)[::-1]):
        denoised = denoiser(image)
        assert isinstance(denoised, np.ndarray)
        assert (denoised.dtype, denoised.shape) == (image.dtype, image.shape)
        assert np.allclose(denoised, image, atol=1e-6 if kind == "f" else 0, rtol=1e-3 if dtype == "float16" else 1e-6)
    tensor = denoiser(torch.from_numpy(noisy))
    assert isinstance(tensor, Tensor)
    assert np.array_equal(tensor.numpy(), denoiser(noisy))


def _ends(dtype: str) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max) + 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_narrow_range_far_from_0_comes_back(dtype: str) -> None:
    noisy = (1e6 + np.linspace(0, 1, 40 * 50)).reshape(40, 50).astype(dtype)
    denoiser = Denoiser(nn.Identity(), 1, "cpu", tile=32, range=(1e6 + 0.03, 1e6 + 1.03))
    np.save("x.npy", noisy)
    denoise_files(denoiser, [ImageFile(Path("x.npy"), Path("out/x.npy"))])
    for denoised in (denoiser(noisy), np.load("out/x.npy")):
        assert np.abs(denoised - noisy).max() <= (0 if dtype == "float32" else 1e-6)


def test_integers_are_clipped_and_floats_are_not() -> None:
    network = nn.Conv2d(1, 1, 1)
    nn.init.constant_(network.weight, 3.0)
    nn.init.constant_(network.bias, -1.0)  # type: ignore[arg-type]
    noisy = np.array([[0, 102, 255]], np.uint8)
    assert Denoiser(network, 1, "cpu")(noisy).tolist() == [[0, 51, 255]]
    assert Denoiser(network, 1, "cpu")(noisy / np.float32(255)).tolist() == [pytest.approx([-1.0, 0.2, 2.0], abs=1e-6)]
    # 12 bits in 16: what is above them in the image may be so in the output too.
    wide = Denoiser(network, 1, "cpu", range=(0, 4095))
    assert wide(np.array([[2000, 4000]], np.uint16)).tolist() == [[1905, 4095]]
    with pytest.warns(UserWarning, match="from 2000 to 4500, outside the network's range of 0 to 4095"):
        assert wide(np.array([[2000, 4500]], np.uint16)).tolist() == [[1905, 4500]]


def test_range_comes_from_the_checkpoint() -> None:
    write_checkpoint("x.ckpt", same, 1, range=[0, 4095], dtype="uint16")
    seen: list[Tensor] = []
    denoiser = Denoiser.from_checkpoint("x.ckpt", "cpu")
    denoiser.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    denoiser(np.full((4, 4), 819, np.uint16))
    denoiser(np.full((4, 4), 51, np.uint8))
    denoiser(np.full((4, 4), 0.2, np.float64))
    assert [float(x.mean()) for x in seen] == pytest.approx([0.2] * 3)


def test_bfloat16_comes_and_goes() -> None:
    denoised = Denoiser(backbones.Model2(), 3, "cpu", precision="bf16")(torch.rand(3, 9, 8, dtype=torch.bfloat16))
    assert denoised.dtype == torch.bfloat16
    noisy = torch.rand(1, 3, 32, 32)
    network = backbones.Model2()
    coarse, fine = (Denoiser(network, 3, "cpu", precision=precision).denoise(noisy) for precision in ("bf16", "32"))
    assert 0 < (coarse - fine).abs().max() < 0.02


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_weights_in_half_precision_take_tiles_of_large_images(precision: str) -> None:
    """A Trainer of "bf16-true" has such weights."""
    noisy = torch.rand(1, 3, 150, 101, generator=torch.Generator().manual_seed(0))
    exact = Denoiser(NETWORKS["Model2"], 3, "cpu").denoise(noisy)
    denoiser = Denoiser(deepcopy(NETWORKS["Model2"]).bfloat16(), 3, "cpu", precision, tile=64)
    assert torch.allclose(denoiser.denoise(noisy), exact, atol=2e-2)
    # Without it, an image would be one tile, which memory may be too small for.
    assert denoiser.network.field is not None


def test_network_bound_to_a_width_takes_that_width() -> None:
    denoiser = Denoiser(backbones.Model1(width=300), 3, "cpu")
    assert denoiser.denoise(torch.rand(1, 3, 310, 300)).shape == (1, 3, 310, 300)
    with pytest.raises(InputError, match="bound to images 300 pixels wide and got 301"):
        denoiser.denoise(torch.rand(1, 3, 310, 301))


# As CUDA, cuDNN, cuBLAS, Apple GPUs and the CPU say it.
OUT_OF_MEMORY = [
    torch.OutOfMemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.5 GB, max allowed: 18.1 GB)."),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"
    ),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=repr)
def test_batches_shrink_to_the_memory(error: RuntimeError) -> None:
    sizes: list[int] = []

    class Small(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            if x.shape[0] * x.shape[2] > 100:
                raise error
            return x

    noisy = torch.rand(9, 3, 32, 32)
    denoiser = Denoiser(Small(), 3, "cpu", batch=64)
    assert torch.equal(denoiser.denoise(noisy), noisy)
    assert max(sizes[1:]) < 9  # halved after the first
    with pytest.raises(
        InputError, match=r"a tile of 101×8 px does not fit into the memory of cpu \(.+\): give a smaller"
    ):
        denoiser.denoise(torch.rand(1, 3, 101, 8))


def test_other_errors_of_the_network_are_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(InputError, match=r"cannot take images of 3×8×8 \(Given groups=1, weight of size"):
        Denoiser(nn.Conv2d(1, 1, 1), 3, "cpu").denoise(torch.rand(4, 3, 8, 8))


def test_a_row_of_tiles_that_does_not_fit_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "to_unit", raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")))
    np.save("x.npy", np.zeros((40, 300, 3), np.uint8))
    job = ImageFile(Path("x.npy"), Path("out/x.npy"))
    denoise_files(Denoiser(nn.Identity(), 3, "cpu", tile=32), [job])
    assert str(job.failure) == (
        "x.npy: a row of tiles, 300 px wide, does not fit into the memory of cpu (CUDA out of memory. Tried to allocate): give "
        "a smaller tile"
    )


def test_a_receptive_field_that_memory_is_too_small_for_gets_one_line() -> None:
    denoiser = Denoiser(nn.Identity(), 3, "cpu", tile=32)
    denoiser.backbone.forward = raising(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(InputError, match="receptive field cannot be measured in the memory of cpu"):
        denoiser.denoise(torch.rand(1, 3, 40, 40))


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("noisy", "message"),
    [
        (np.zeros((4, 4), np.int64), "got int64 values"),
        (np.zeros((4, 4), complex), "got complex128 values"),
        (np.array([["a"]]), "got <U1 values"),
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((0, 4), np.uint8), r"shape \(0, 4\)"),
        (torch.zeros(4, 4, dtype=torch.int64), "got int64 values"),
        (np.zeros((4, 4), bool), "got bool values"),
        ([[1, 2]], "got a list"),
    ],
)
def test_arrays_that_are_no_images_are_refused(noisy: Any, message: str) -> None:
    denoiser = Denoiser(nn.Identity(), 3, "cpu")
    for function in (denoiser, denoiser.spread):
        with pytest.raises(InputError, match=message):
            function(noisy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 7}, "expected a multiple of 16"),
        ({"overlap": -16}, "expected a multiple of 16"),
        ({"batch": 0}, "batch is 0"),
        ({"precision": "8"}, "expected one of 32, bf16, 16"),
        ({"device": "quantum"}, "quantum cannot be used"),
        ({"range": (5, 1)}, "the low one first"),
        ({"range": (5,)}, "two numbers"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Denoiser(nn.Identity(), 3, **options)


def test_checkpoint_gives_the_trained_network(checkpoint: Path) -> None:
    module = DenoisingModule.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).eval()
    noisy = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        assert torch.allclose(Denoiser.from_checkpoint(checkpoint, "cpu").denoise(noisy), module(noisy), atol=1e-6)


def test_module_built_in_python_can_be_rebuilt() -> None:
    module = DenoisingModule(backbones.ModelFinal(widths=(8,), negative_slope=0.2))
    assert module.hparams["backbone"]["class_path"] == "n2n.backbones.paper.ModelFinal"
    assert module.hparams["backbone"]["init_args"]["negative_slope"] == 0.2


def test_other_files_are_refused() -> None:
    torch.save({"a": 1}, "other.ckpt")
    with pytest.raises(InputError, match="of another kind"):
        Denoiser.from_checkpoint("other.ckpt")
    Path("text.ckpt").write_text("no checkpoint")
    with pytest.raises(InputError, match="damaged or not a PyTorch file"):
        Denoiser.from_checkpoint("text.ckpt")
    with pytest.raises(InputError, match="is not there"):
        Denoiser.from_checkpoint("none.ckpt")
    write_checkpoint("lie.ckpt", same, range=[9, 3], dtype="uint8")
    with pytest.raises(InputError, match=r"lie.ckpt: the range is 9 to 3"):
        Denoiser.from_checkpoint("lie.ckpt")


@pytest.mark.parametrize("value", [-60000.0, 2000.0, 60000.0])
def test_a_hot_pixel_does_not_spoil_its_surroundings(value: float) -> None:
    noisy = np.random.default_rng(0).normal(200, 15, (96, 96)).astype(np.float32)
    hot = noisy.copy()
    hot[40, 50] = value
    denoiser = Denoiser.from_checkpoint("gaussian", device="cpu", range=(0, 511))
    with pytest.warns(
        UserWarning, match=r"outside .* of 0 to 511(, and what lies below -511 or above 1022 is not denoised)?: if"
    ):
        denoised = denoiser(hot)
    changed = np.abs(denoised - denoiser(noisy)) > 15
    assert changed.sum() <= 9
    assert changed[37:44, 47:54].sum() == changed.sum()
    # What a network cannot judge is no reason to lose it.
    assert denoised[40, 50] == pytest.approx(value, rel=0.5)
