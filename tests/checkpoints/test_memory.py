"""What a checkpoint says of its weights, and what is really in the file."""

from __future__ import annotations

import resource
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from n2n import Denoiser, backbones
from n2n.checkpoints.rebuild import rebuild
from n2n.errors import InputError
from tests.checkpoints.test_trust import opened
from tests.conftest import write_photos
from tests.hostile import Hostile, Takes, content, doubled, run, spec
from tests.networks import Windowed
from tests.write_checkpoints import write_checkpoint

WEIGHT = "backbone.layers.0.weight"
MORE = "it has many more"
FULL = "is not stored in full"


def stacked(layers: int, width: int, weight: Tensor) -> dict[str, Any]:
    """A deep network, all of whose weights lie in the same few bytes of the file."""
    made = content(**spec("n2n.backbones.DnCNN", depth=layers, features=width, batch_norm=False, bias=False))
    middle = range(2, 2 * layers - 2, 2)
    names = [f"backbone.layers.{i}.weight" for i in (0, *middle, 2 * layers - 2)]
    made["state_dict"] = dict.fromkeys(names, weight)
    made["state_dict"][names[0]] = made["state_dict"][names[0]][:, :3]
    made["state_dict"][names[-1]] = made["state_dict"][names[-1]][:3]
    return made


def of_type(value: Tensor) -> dict[str, Any]:
    return content(state_dict={"backbone.layers.0.bias": value})


# A number that claims to be 400 millions.
EXPANDED = {WEIGHT: torch.zeros(1).expand(20_000, 20_000, 1, 1)}
FINAL = "n2n.backbones.ModelFinal"
CLAIMS: dict[str, tuple[Callable[[], Any], str]] = {
    "code": (lambda: content(n2n={"range": Hostile()}), "holds more than tensors and plain values, and none of it was run"),
    "bytearray": (lambda: content(x=Takes()), "holds more than tensors and plain values"),
    "a tensor": (lambda: torch.zeros(3), "is a PyTorch file of another kind"),
    "no class": (lambda: content() | {"hyper_parameters": []}, "is a PyTorch file of another kind"),
    "wide": (lambda: content(**spec(FINAL, widths=[20_000, 20_000])), MORE),
    "wider than memory": (lambda: content(**spec(FINAL, widths=[2**40])), MORE),
    "wider than a size": (lambda: content(**spec(FINAL, widths=[2**62] * 2)), "cannot build the backbone"),
    "wide and expanded": (lambda: content(**spec(FINAL, widths=[20_000]), state_dict=EXPANDED), FULL),
    "deep": (lambda: content(**spec("n2n.backbones.DnCNN", depth=10**9)), MORE),
    "deep and empty": (lambda: content(**spec("n2n.backbones.NAFNet", middle_blocks=10**9)), MORE),
    "halved again and again": (lambda: content(**spec("n2n.backbones.UNet", depth=10**9)), MORE),
    "doubled again and again": (
        lambda: content(**spec("n2n.backbones.NAFNet", enc_blocks=[0] * 40_000, dec_blocks=[0] * 40_000)),
        "more than 1000 arguments",
    ),
    "negative": (lambda: content(**spec("n2n.backbones.Model2", hidden=-3)), "Model2's hidden is -3"),
    "infinite": (lambda: content(**spec("n2n.backbones.Model2", hidden=float("inf"))), "cannot build the backbone"),
    "doubled": (lambda: content(**spec(FINAL, widths=doubled(60))), "more than 100,000 values"),
    "one storage of many names": (lambda: stacked(400, 128, torch.zeros(128, 128, 3, 3)), MORE),
    "buffer beside the weights": (
        lambda: content(**spec("tests.networks.Windowed", size=[40_000, 40_000]),
                        state_dict=Windowed().state_dict()), MORE),
    "channels": (lambda: content(n2n={"image_channels": 10**9}), "number of channels is none from 1 to 1024"),
    "doubled channels": (lambda: content(n2n={"image_channels": doubled(60)}), "number of channels is none from 1 to 1024"),
    "doubled range": (lambda: content(n2n={"range": doubled(60)}), "the range in the checkpoint is no range"),
    "infinite range": (lambda: content(n2n={"range": [-1e308, 1e308]}), "expected two finite numbers"),
    "range of nothing": (lambda: content(n2n={"range": [0.0, 1e-320]}), "expected two finite numbers"),
    "huge range": (lambda: content(n2n={"range": [0, 10**400]}), "the range in the checkpoint is no range"),
    "none": (lambda: content() | {"state_dict": {}}, "layers.0.weight is not in the file"),
    "one more": (lambda: content(state_dict={"backbone.x": torch.zeros(1)}), "x is not in the backbone"),
    "another shape": (lambda: of_type(torch.zeros(5)), "layers.0.bias is (5,) float32, not (4,) float32"),
    "integers": (lambda: of_type(torch.zeros(4, dtype=torch.int64)), "(4,) int64, not (4,) float32"),
    "bool": (lambda: of_type(torch.zeros(4, dtype=torch.bool)), "(4,) bool, not (4,) float32"),
    "complex": (lambda: of_type(torch.zeros(4, dtype=torch.complex64)), "(4,) complex64, not (4,) float32"),
    "float8": (lambda: of_type(torch.zeros(4).to(torch.float8_e4m3fn)), "holds more than tensors and plain values"),
    "quantized": (lambda: of_type(torch.quantize_per_tensor(torch.zeros(4), 1.0, 0, torch.qint8)), "holds more than tensors"),
    "sparse": (lambda: of_type(torch.zeros(4).to_sparse()), "holds more than tensors and plain values"),
    "meta": (lambda: of_type(torch.zeros(10**12, device="meta")), "holds more than tensors and plain values"),
    "weight of text": (lambda: content(state_dict={"backbone.layers.0.bias": "text"}), FULL),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_take_no_memory(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    make, message = CLAIMS[name]
    torch.save(make(), "x.ckpt")
    write_photos(Path("in"), 1)
    trust = ("--trust", "tests") if "buffer" in name else ()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for command in ("predict --input in --output out --device cpu", "export --format torch"):
        status, lines = run(capsys, *command.split(), "--ckpt_path", "x.ckpt", *trust)
        assert (status, len(lines)) == (2, 1)
        assert message in lines[0]
        assert len(lines[0]) < 600
    # In KiB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**18
    assert not Path("code-ran").exists()
    assert not Path("x.pt2").exists()


def test_whole_checkpoint_of_these_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(content(), "x.ckpt")
    write_photos(Path("in"), 1)
    options = ("--input", "in", "--output", "out", "--device", "cpu")
    status, lines = run(capsys, "predict", "--ckpt_path", "x.ckpt", *options)
    assert status == 0
    # The weights are random.
    assert all("warning" in line and "shifts its mean" in line for line in lines)


class Called:
    """Unpickling this calls what torch lets pass."""

    def __init__(self, function: Any, *args: Any) -> None:
        self._call = function, args

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize(
    "call",
    [
        Called(bytearray, 2**38),
        Called(torch.UntypedStorage, 2**38),
        Called(torch.Tensor, 10**10),
        Called(torch.FloatTensor, 10**10),
        Called(set, ()),
        Called(complex, 1, 2),
        Called(torch.device, "cuda:0"),
    ],
)
def test_pickles_name_tensors_alone(call: Called) -> None:
    for message in opened(content(state_dict={WEIGHT: call})):
        assert "holds more than tensors and plain values, and none of it was run" in message


def test_methods_in_a_file_are_not_called() -> None:
    class Imposter:
        def __reduce__(self) -> Any:
            names = ("items", "keys", "values", "get", "pop", "copy", "__iter__")
            return OrderedDict, (), dict.fromkeys(names, 5)

    for part in ("hyper_parameters", "state_dict"):
        for message in opened(content() | {part: Imposter()}):
            assert "backbone" in message
    torch.save(content() | {"datamodule_hyper_parameters": Imposter(), "n2n": Imposter()}, "x.ckpt")
    assert Denoiser.from_checkpoint("x.ckpt", "cpu").network.channels is None


def test_storages_that_overlap_count_once() -> None:
    """torch maps as many bytes of the file as a storage claims, also those of the next ones."""
    whole = torch.zeros(128 * 128 * 9 + 100).untyped_storage()

    def claimed(number: int, *shape: int) -> Tensor:
        value = torch.empty(0)
        value.set_(whole[4 * number : 4 * number + 4 * 128 * 128 * 9], 0, shape)  # type: ignore[call-overload]
        return value

    made = stacked(20, 128, torch.zeros(128, 128, 3, 3))
    made["state_dict"] = {
        name: claimed(number, *value.shape) for number, (name, value) in enumerate(made["state_dict"].items())
    }
    with pytest.raises(InputError, match=MORE):
        rebuild(made)
    made["state_dict"] = {name: value.clone() for name, value in made["state_dict"].items()}
    rebuild(made)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read(dtype: torch.dtype) -> None:
    made = content()
    made["state_dict"] = {name: value.to(dtype) for name, value in made["state_dict"].items()}
    torch.save(made, "x.ckpt")
    weights = Denoiser.from_checkpoint("x.ckpt", "cpu").backbone.state_dict()
    assert all(
        torch.equal(weights[name.removeprefix("backbone.")], value.float())
        for name, value in made["state_dict"].items()
    )


@pytest.mark.parametrize("name", backbones.__all__)
def test_backbones_take_no_memory_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        network = getattr(backbones, name)()
    held = [value for module in network.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    assert all(value.is_meta for value in (*network.parameters(), *network.buffers(), *held))
    whole = getattr(backbones, name)()
    write_checkpoint("x.ckpt", whole)
    again = Denoiser.from_checkpoint("x.ckpt", "cpu").backbone
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in again.state_dict().items())


def test_other_threads_are_not_disturbed() -> None:
    """Loading a small checkpoint while another thread builds a network that is far larger than it."""
    write_checkpoint("x.ckpt", backbones.Model2())
    failures: list[Exception] = []
    devices: set[str] = set()
    stop = threading.Event()

    def build() -> None:
        while not stop.is_set():
            try:
                devices.add(str(torch.nn.Linear(1500, 1500).weight.device))
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    for _ in range(20):
        Denoiser.from_checkpoint("x.ckpt", "cpu")
    stop.set()
    thread.join()
    assert failures == []
    assert devices == {"cpu"}
