from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from n2n import Denoiser, __version__, backbones
from n2n.backbones.spec import describe
from n2n.cli import main
from n2n.commands.export import formats
from n2n.commands.export.check import TOLERANCE
from n2n.commands.export.command import Exported, export
from n2n.commands.export.formats import ExportFormat, Network
from n2n.commands.export.tracing import Sides
from n2n.errors import InputError
from tests.images import SHARED
from tests.networks import Residual

# Of the backbones below.
TRUST = ["tests"]
KODAK = SHARED / "testsets" / "kodak24"


class Halving(nn.Module):
    """A network as many are: it needs sides that are multiples of 4, and says nothing about it."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 4, stride=4), nn.ConvTranspose2d(8, 3, 4, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.as_tensor(self.up(self.down(x).relu()))


class Reflecting(Residual):
    """Padding by reflection needs more pixels than it adds."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (4, 4, 4, 4), mode="reflect"))[..., 4:-4, 4:-4]


class Undecided(Residual):
    """Branches on the values of the image, which no graph can."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.mean() > 0.5 else x


class OneSize(Residual):
    """Takes 32×32 pixels alone."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).reshape(-1, 3, 32, 32)


class Broken(Residual):
    """Trained until it was not a number."""

    def __init__(self, hidden: int = 2) -> None:
        super().__init__(hidden)
        self.first.weight.data.fill_(float("nan"))


def save(backbone: nn.Module, channels: int | None = 3, **known: Any) -> Path:
    """Write what ``fit`` would keep of a backbone."""
    weights = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    path = Path("network.ckpt")
    torch.save(
        {
            "hyper_parameters": {"backbone": describe(backbone)},
            "state_dict": weights,
            "n2n": {"image_channels": channels, **known},
        },
        path,
    )
    return path


def runner(path: Path) -> Network:
    """Return what runs an exported file, as its user would."""
    if path.suffix == ".pt2":
        run: Network = torch.export.load(path).module()
        return run
    session = onnxruntime.InferenceSession(path)
    return lambda x: torch.from_numpy(session.run(None, {"noisy": x.numpy()})[0])


# torch 2.9 takes the sizes of strided pooling for something to branch on; 2.13 does not, and those between were not tried.
NAFNET_EXPORTS = tuple(map(int, torch.__version__.split(".")[:2])) > (2, 9)

# Exporting takes as long as there are layers; these have one of each kind.
FEWER: dict[str, dict[str, Any]] = {
    "NAFNet": {"enc_blocks": [1], "middle_blocks": 1, "dec_blocks": [1]},
    "DnCNN": {"depth": 5},
    "UNet": {"width": 8, "depth": 2},
}


def paper(name: str) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = getattr(backbones, name)(**FEWER.get(name, {}))
    for parameter in network.parameters():
        if not parameter.any():  # what starts at 0 would hide what it scales
            nn.init.normal_(parameter, std=0.2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    return network.eval().requires_grad_(False)


# Of each kind of network one or two; ``python -m tests.long.exports`` tries all in both formats.
KINDS = {"onnx": ("Model1", "Model6", "ModelPooling", "NAFNet"), "torch": ("Model1", "ModelPooling", "UNet")}


@pytest.mark.parametrize(
    ("name", "file_format"),
    [(name, file_format) for file_format, names in KINDS.items() for name in names],
)
def test_a_backbone_for_any_size(name: str, file_format: ExportFormat) -> None:
    if name == "NAFNet" and not NAFNET_EXPORTS:
        with pytest.raises(InputError, match="NAFNet cannot be exported"):
            export(save(paper(name)), file_format)
        return
    network = paper(name)
    done = export(save(network), file_format)
    assert done.difference <= TOLERANCE
    assert done.sides == Sides(width=32 if name == "Model1" else None)
    run = runner(done.path)
    for N, H, W in ((1, 1, 1), (2, 2, 3), (3, 17, 20), (1, 40, 31), (4, 24, 32)):
        noisy = torch.rand(N, 3, H, 32 if name == "Model1" else W)
        got = run(noisy)
        assert got.shape == noisy.shape
        assert torch.allclose(got, network(noisy), atol=TOLERANCE, rtol=0)
    assert sorted(path.name for path in Path().iterdir()) == ["network.ckpt", done.path.name]


@pytest.mark.skipif(not KODAK.is_dir(), reason="needs the Kodak images")
def test_on_photographs(checkpoint: Path) -> None:
    run = runner(export(checkpoint, "onnx").path)
    network = Denoiser.from_checkpoint(checkpoint, "cpu").backbone
    rng = np.random.default_rng(0)
    for i, path in enumerate(sorted(KODAK.iterdir())[:4]):
        pixels = np.asarray(Image.open(path).convert("RGB"))[: 200 + i, : 301 - 2 * i].astype(np.float32) / 255
        pixels += rng.normal(0, 0.1, pixels.shape).astype(np.float32)
        noisy = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]
        assert torch.allclose(run(noisy), network(noisy), atol=TOLERANCE, rtol=0)


def test_command_says_what_it_wrote(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["export", "--ckpt_path", str(checkpoint), "--format", "onnx"]
    assert main(command) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.startswith("best.onnx: ")
    assert "noisy: N×3×H×W float32 in [0, 1]" in out
    assert "on images of 1×3×64×96, 3×3×33×47" in out
    assert main(command) == 2
    assert "best.onnx is there already" in capfd.readouterr().err
    target = Path("deep/er/net.onnx")
    target.parent.mkdir(parents=True)
    target.write_text("older")
    assert main([*command, "--output", str(target), "--overwrite"]) == 0
    assert target.read_bytes() == Path("best.onnx").read_bytes()


def test_files_say_what_they_are_and_not_where_they_came_from() -> None:
    ckpt_path = save(backbones.Model2(1), 1, range=[0, 4095], dtype="uint16")
    export(ckpt_path, "onnx")
    model = onnx.load("network.onnx")
    card = {item.key: item.value for item in model.metadata_props}
    assert card["n2n_version"] == __version__
    assert card["channels"] == "1"
    assert card["dtype"] == "uint16"
    assert json.loads(card["range"]) == [0, 4095]
    assert card["backbone"] == "n2n.backbones.paper.Model2"
    for value in (model.graph.input[0], model.graph.output[0]):
        axes = value.type.tensor_type.shape.dim
        assert [axis.dim_param or axis.dim_value for axis in axes] == ["batch", 1, "height", "width"]
    export(ckpt_path, "torch")
    extra = {formats.CARD: ""}
    torch.export.load("network.pt2", extra_files=extra)
    assert json.loads(extra[formats.CARD]) == card
    for path in ("network.onnx", "network.pt2"):
        assert str(Path(formats.__file__).parent).encode() not in Path(path).read_bytes()


def test_own_backbones() -> None:
    done = export(save(Residual()), "torch", trust=TRUST)
    assert done.sides == Sides()
    done = export(save(Halving()), "onnx", Path("halving.onnx"), trust=TRUST)
    assert done.sides == Sides(step=4)
    assert str(done.sides) == "H×W, H and W multiples of 4"
    assert str(export(save(Reflecting()), "torch", Path("r.pt2"), trust=TRUST).sides) == "H×W, H and W at least 8"
    assert runner(done.path)(torch.rand(1, 3, 4, 20)).shape == (1, 3, 4, 20)
    assert export(save(backbones.ModelFinal(5, (4,)), 5), "onnx", Path("five.onnx")).channels == 5


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Undecided(), "Undecided cannot be exported for every batch, height and width"),
        (OneSize(), "OneSize takes none of the sizes tried"),
        (Broken(), "differs from the checkpoint by nan"),
    ],
)
def test_what_cannot_be_exported_gets_one_line(
    network: nn.Module, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    save(network)
    for file_format in ("onnx", "torch"):
        assert main(["export", "--ckpt_path", "network.ckpt", "--format", file_format, "--trust", "tests"]) == 2
        out, err = capfd.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("n2n export: error:")
        assert message in err
    assert [path.name for path in Path().iterdir()] == ["network.ckpt"]


@pytest.mark.parametrize("error", [2e-4, -2e-4])
def test_what_differs_is_not_kept(
    error: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(Residual())
    Path("network.pt2").write_text("the one before")
    real = formats.write_torch
    monkeypatch.setattr(formats, "write_torch", lambda *args: lambda noisy: real(*args)(noisy) + error)
    assert main(["export", "--ckpt_path", "network.ckpt", "--format", "torch", "--overwrite", "--trust", "tests"]) == 2
    assert "on images of 1×3×64×96 the exported file differs from the checkpoint by 0.0002" in capsys.readouterr().err
    assert Path("network.pt2").read_text() == "the one before"
    assert len(list(Path().iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--format torch", "--ckpt_path"),
        ("--ckpt_path network.ckpt", "--format"),
        ("--ckpt_path network.ckpt --format tflite", "invalid choice"),
        ("--ckpt_path none.ckpt --format torch", "none.ckpt is not there"),
        ("--ckpt_path network.ckpt --format torch --output a.onnx", "ends in .pt2"),
        ("--ckpt_path folder.pt2 --format torch --output folder.pt2", "is a folder"),
        ("--ckpt_path same.pt2 --format torch --overwrite", "same.pt2 is the checkpoint"),
        ("--ckpt_path network.ckpt --format torch --output same.pt2/a.pt2", "cannot write same.pt2/a.pt2"),
    ],
)
def test_mistakes_get_one_line(options: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    save(backbones.Model2())
    Path("folder.pt2").mkdir()
    Path("same.pt2").write_bytes(Path("network.ckpt").read_bytes())
    assert main(["export", *options.split()]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("n2n export: error:")
    assert message in last
    assert len(list(Path().iterdir())) == 3


@pytest.mark.parametrize("channels", [None, 0, 10**9])
def test_damaged_channels_are_refused(channels: int | None) -> None:
    with pytest.raises(InputError, match=r"number of channels is none from 1 to 1024|expected a number from 1 to 1024"):
        export(save(Residual(), channels), "torch", trust=TRUST)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    save(Residual())
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxruntime" else name)
    assert main(["export", "--ckpt_path", "network.ckpt", "--format", "onnx", "--trust", "tests"]) == 2
    assert "--format onnx needs onnxruntime: pip install onnxruntime" in capsys.readouterr().err
    assert isinstance(export(Path("network.ckpt"), "torch", trust=TRUST), Exported)
