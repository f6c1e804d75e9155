from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from n2n.cli import main
from n2n.optimizers import fused
from tests.conftest import fit, write_course


def weights(name: str) -> dict[str, Tensor]:
    content = torch.load(f"lightning_logs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)
    state: dict[str, Tensor] = content["state_dict"]
    return {key: value for key, value in state.items() if key.startswith("backbone.")}


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_fused_optimiser_does_what_the_plain_one_does(kind: type[torch.optim.Optimizer]) -> None:
    updated = []
    for change in (lambda x: x, fused):
        torch.manual_seed(0)
        network = nn.Conv2d(3, 3, 3)
        optimizer = change(kind(network.parameters(), lr=0.01, weight_decay=0.1))  # type: ignore[call-arg]
        for _ in range(5):
            optimizer.zero_grad()
            network(torch.rand(1, 3, 8, 8)).square().sum().backward()
            optimizer.step()
        updated.append(network.weight.detach().clone())
    assert optimizer.defaults["fused"] is True
    assert optimizer.defaults["weight_decay"] == 0.1
    torch.testing.assert_close(*updated)


@pytest.mark.parametrize("chosen", [{"fused": False}, {"foreach": True}, {"differentiable": True}])
def test_optimiser_stays_as_it_was_chosen(chosen: dict[str, Any]) -> None:
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(2))], **chosen)
    assert fused(optimizer) is optimizer


def test_optimisers_that_cannot_be_fused_stay() -> None:
    matrix = [nn.Parameter(torch.ones(2, 2))]
    groups = torch.optim.Adam([{"params": matrix, "lr": 0.1}])
    groups.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    for optimizer in (
        torch.optim.Adagrad(matrix),
        torch.optim.RMSprop(matrix),
        torch.optim.Muon(matrix),
        torch.optim.LBFGS(matrix),
        groups,
    ):
        assert fused(optimizer) is optimizer


def test_clipped_gradients_are_clipped(tmp_path: Path) -> None:
    # What mixed precision refuses for fused optimisers that unscale gradients themselves.
    root = write_course(tmp_path / "data")
    options = (
        "--trainer.gradient_clip_val",
        "1e-12",
        "--model.optimizer",
        "torch.optim.SGD",
        "--trainer.max_epochs",
        "1",
    )
    assert fit(*options, "--trainer.precision", "bf16-mixed", "--name", "a", root=root) == 0
    assert fit(*options, "--model.optimizer.lr", "0", "--name", "b", root=root) == 0
    torch.testing.assert_close(weights("a"), weights("b"), atol=1e-6, rtol=0)


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_compiled_network_trains_as_the_plain_one(tmp_path: Path) -> None:
    root = write_course(tmp_path / "data")
    options = ("--trainer.max_epochs", "1", "--trainer.precision", "32-true")
    assert fit(*options, "--name", "plain", root=root) == 0
    assert fit(*options, "--speed.compile", "default", "--name", "compiled", root=root) == 0
    torch.testing.assert_close(weights("compiled"), weights("plain"), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "mode", "warning"),
    [
        ("", None, None),
        ("--speed.compile false", None, None),
        ("--speed.compile true", "default", None),
        ("--speed.compile max-autotune", "max-autotune", None),
        ("--speed.compile default --trainer.accumulate_grad_batches 2", "default", None),
        (
            "--speed.compile reduce-overhead --trainer.accumulate_grad_batches 2",
            "default",
            "speed.compile is reduce-overhead, and the training accumulates gradients: continuing with default",
        ),
        (
            "--speed.compile default --trainer.detect_anomaly true",
            None,
            "speed.compile is default, and the training detects anomalies: continuing with none",
        ),
    ],
)
def test_mode_of_compile(
    options: str,
    mode: str | None,
    warning: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    modes = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **given: modes.append(given["mode"]))
    assert fit(*options.split(), root=write_course(tmp_path / "data")) == 0
    assert modes == [mode] * (mode is not None)
    assert [str(one.message) for one in recwarn if "speed.compile" in str(one.message)] == [warning] * (
        warning is not None
    )


def test_images_to_validate_on_may_be_of_many_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each size would be compiled for itself, which takes up to a minute."""
    shapes: list[tuple[int, ...]] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        shapes.append(next(tuple(x.shape) for x in inputs if x.ndim == 4 and not isinstance(x, nn.Parameter)))
        return graph.forward

    compile_ = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda self, mode, dynamic: compile_(self, backend=backend, dynamic=dynamic)
    )
    rng = np.random.default_rng(0)
    for scene in range(4):
        np.save(tmp_path / f"{scene}.npy", rng.integers(0, 256, (2, 20 + scene, 24 + 2 * scene), np.uint8))
    source = ("--config", "data/stack.yaml", "--data.source.init_args.root", str(tmp_path))
    few = ("--data.source.init_args.patch", "12", "--data.source.init_args.patches", "8", "--data.batch_size", "4")
    half = ("--data.source.init_args.val_fraction", "0.5", "--trainer.max_epochs", "2")
    quiet = ("--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu", "--name", "run")
    options = ("--config", "table1/model2.yaml", *source, *few, *half, *quiet)
    assert main(["fit", *options, "--speed.compile", "default"]) == 0
    # One black image, to see whether it works at all, and the batches of the training.
    assert shapes == [(1, 1, 12, 12), (4, 1, 12, 12)]


def test_compiling_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: None)
    root = write_course(tmp_path / "data")
    options = ("--model.backbone", "n2n.backbones.Model3", "--trainer.precision", "32-true")
    for name in ("plain", "compiled"):
        mode = ("--speed.compile", "default") if name == "compiled" else ()
        assert fit(*options, *mode, "--name", name, root=root) == 0
    torch.testing.assert_close(weights("plain"), weights("compiled"), atol=0, rtol=0)


def test_network_that_cannot_be_compiled_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: self.register_forward_pre_hook(_fail))
    assert fit("--speed.compile", "true", root=write_course(tmp_path / "data")) == 2
    assert "the network cannot be compiled (no compiler and more): leave speed.compile out" in capsys.readouterr().err


def _fail(*_: object) -> None:
    raise RuntimeError("\nno compiler\nand more")


def test_the_user_s_own_bar_and_profiler_are_kept(tmp_path: Path) -> None:
    root = write_course(tmp_path / "data")
    own = [
        "--trainer.callbacks+",
        "lightning.pytorch.callbacks.TQDMProgressBar",
        "--trainer.enable_progress_bar",
        "true",
    ]
    profiler = {"class_path": "lightning.pytorch.profilers.SimpleProfiler"}
    own += ["--trainer.profiler", json.dumps(profiler | {"init_args": {"dirpath": str(tmp_path), "filename": "times"}})]
    assert fit(*own, root=root) == 0
    assert "run_training_batch" in (tmp_path / "fit-times.txt").read_text()


def test_each_of_several_networks_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch compiles one line of code for eight shapes at most, and all networks of a class share their code."""
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        graphs[-1] += 1
        return graph.forward

    compile_ = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda self, mode, dynamic: compile_(self, backend=backend, dynamic=dynamic)
    )
    root = write_course(tmp_path / "data", pairs=14)
    for width in range(4, 8):
        graphs.append(0)
        network = ("--model.backbone", "ModelFinal", "--model.backbone.widths", f"[{width}]")
        options = ("--trainer.max_epochs", "1", "--data.batch_size", "10", "--speed.compile", "default")
        assert fit(*network, *options, root=root) == 0
    # One black image, a whole batch and the last one.
    assert graphs == [3, 3, 3, 3]
