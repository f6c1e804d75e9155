from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from n2n import backbones
from n2n.cli import main
from n2n.errors import InputError
from n2n.module.start import load_weights
from tests.conftest import fit, write_course, write_photos
from tests.networks import Spectral
from tests.write_checkpoints import write_checkpoint

NETWORK = ("--model.backbone", "n2n.backbones.ModelFinal", "--model.backbone.widths", "[8,8]")
# The weights stay as they are.
STILL = ("--model.optimizer.lr", "0")
LAST = Path("lightning_logs/run/version_0/checkpoints/last.ckpt")


def weights(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return found


def backbone_of(path: Path) -> dict[str, torch.Tensor]:
    return {name.removeprefix("backbone."): value for name, value in weights(path).items()}


def test_a_training_starts_from_the_weights_of_a_checkpoint(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_course(Path("data"))
    assert fit("--model.start_from", str(checkpoint), *STILL, *NETWORK, root=root) == 0
    assert f"The training starts from the weights of {checkpoint}." in caplog.text
    one, other = weights(checkpoint), weights(LAST)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.load(LAST, weights_only=True)["epoch"] == 0
    # A resumed run needs the file no more.
    config = "lightning_logs/run/version_0/config.yaml"
    text = Path(config).read_text()
    Path(config).write_text(text.replace(str(checkpoint), "gone.ckpt"))
    assert main(["fit", "--config", config, "--ckpt_path", "last", "--trainer.max_epochs", "2"]) == 0
    assert all(torch.equal(one[name], value) for name, value in weights(LAST).items())


def test_a_training_starts_from_the_mean_of_several_checkpoints(caplog: pytest.LogCaptureFixture) -> None:
    networks = [backbones.ModelFinal(3, widths=(8, 8)) for _ in range(2)]
    for name, network in zip(("one.ckpt", "other.ckpt"), networks, strict=True):
        write_checkpoint(name, network, 3)
    both = "[one.ckpt, other.ckpt]"
    assert fit("--model.start_from", both, *STILL, *NETWORK, root=write_course(Path("data"))) == 0
    assert "The training starts from the weights of one.ckpt and other.ckpt." in caplog.text
    one, other = (network.state_dict() for network in networks)
    assert all(torch.allclose(value, (one[name] + other[name]) / 2) for name, value in backbone_of(LAST).items())


def test_the_mean_keeps_whole_numbers() -> None:
    for name in ("one.ckpt", "other.ckpt"):
        trained = backbones.Model3()
        trained(torch.rand(1, 3, 8, 8))
        write_checkpoint(name, trained, 3)
    network = backbones.Model3()
    load_weights(["one.ckpt", "other.ckpt"], network, 3)
    counts = [x for name, x in network.state_dict().items() if name.endswith("num_batches_tracked")]
    assert {(count.dtype, int(count)) for count in counts} == {(torch.int64, 1)}
    with pytest.raises(InputError, match="start_from is an empty list"):
        load_weights([], network, 3)


class Transposed(nn.Module):
    """Transposed convolutions, the first of each channel alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        alone = nn.ConvTranspose2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        # A weight for each channel is exact only if all are alike.
        nn.init.constant_(alone.weight, 0.3)
        self.layers = nn.Sequential(
            alone,
            nn.ConvTranspose2d(channels, 8, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(8, channels, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


@pytest.mark.parametrize(("have", "want"), [(3, 1), (1, 3), (3, 3), (3, 4), (2, 1)])
@pytest.mark.parametrize(
    "kind", [backbones.NAFNet, backbones.DnCNN, backbones.UNet, partial(backbones.UNet, depth=1, head=[]), Transposed]
)
def test_a_network_starts_one_for_other_channels(kind: Callable[..., nn.Module], have: int, want: int) -> None:
    torch.manual_seed(0)
    first, second = kind(channels=have), kind(channels=want)
    write_checkpoint("x.ckpt", first, have)
    load_weights(["x.ckpt"], second, want)
    grey = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    alike = [torch.from_numpy(grey).expand(1, count, 32, 32) for count in (have, want)]
    with torch.no_grad():
        one, other = first.eval()(alike[0]), second.eval()(alike[1])
    assert torch.allclose(one.mean(1), other.mean(1), atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (backbones.ModelFinal(3, widths=(9,)), r"another network \(layers\.0\.weight is \(8, 3, 3, 3\) and not \(9, 3"),
        (
            backbones.ModelFinal(3, widths=(8,), bias=False),
            r"layers.*bias is not in this ModelFinal\): give the ModelFinal the arguments",
        ),
        (backbones.ModelFinal(2, widths=(8,)), r"\(8, 3, 3, 3\) and not \(8, 2, 3, 3\).*--model\.start_from null"),
    ],
)
def test_weights_of_another_network_are_refused(backbone: torch.nn.Module, message: str) -> None:
    write_checkpoint("x.ckpt", backbones.ModelFinal(3, widths=(8,)), 3)
    with pytest.raises(InputError, match=message):
        load_weights(["x.ckpt"], backbone, 3)


def test_what_is_no_checkpoint_gets_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    root = write_course(Path("data"))
    Image.new("L", (4, 4)).save("x.png")
    assert fit("--model.start_from", "x.png", *NETWORK, root=root) == 2
    assert fit("--model.start_from", "nothing", *NETWORK, root=root) == 2
    assert fit("--model.start_from", "quick", *NETWORK, root=root) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 3
    assert "quick/checkpoints/best.ckpt holds the weights of another network" in lines[2]


def test_complex_weights_are_kept_read_and_averaged() -> None:
    network = ("--model.backbone", "tests.networks.Spectral", "--trust", "tests")
    root = write_course(Path("data"))
    assert fit(*network, *STILL, root=root) == 0
    one, factor = weights(LAST), 2 + 2j
    write_photos(Path("in"), 1)
    assert main(["predict", "--ckpt_path", str(LAST), "--trust", "tests", "--input", "in", "--output", "out"]) == 0
    content = torch.load(LAST, weights_only=True)
    content["state_dict"]["backbone.weight"] = one["backbone.weight"] * factor
    torch.save(content, "other.ckpt")
    backbone = Spectral()
    load_weights([str(LAST), "other.ckpt"], backbone, 3)
    torch.testing.assert_close(backbone.weight.detach(), one["backbone.weight"] * (1 + factor) / 2)
