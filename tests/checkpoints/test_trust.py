"""The classes that a checkpoint may name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from n2n import Denoiser, DenoisingModule, PairDataModule
from n2n.backbones import ModelFinal
from n2n.checkpoints.config import checkpoint_config
from n2n.checkpoints.trust import HOMES
from n2n.cli import main
from n2n.errors import InputError
from n2n.trainer import classes
from tests.conftest import write_photos
from tests.hostile import POPEN, SHELL_BY_TRACING, content, run, spec
from tests.networks import Residual, Windowed
from tests.write_checkpoints import write_checkpoint

PARTS = {"model": DenoisingModule, "data": PairDataModule}
ELSEWHERE = "expected a class of n2n.backbones"
ASKED = "which is no class of n2n.backbones: add --trust {} if you trust all of the code in that package"
NO_PATH = "it names a class by "
# Modules of the attacks below, none of which is imported.
UNTOUCHED = {"antigravity", "test", "test.crashers", "pip.__main__", "nowhere", "local", "tests.fuzz.__main__"}


def test_every_part_that_can_be_chosen_has_a_home_in_checkpoints() -> None:
    assert classes.PARTS.keys() == HOMES.keys()


def opened(made: dict[str, Any], *trust: str) -> list[str]:
    """Open a checkpoint in both ways; returns the messages, and sees that no code ran and no other module was imported."""
    torch.save(made, "x.ckpt")
    messages = []
    for open_it in (
        lambda: Denoiser.from_checkpoint("x.ckpt", "cpu", trust=trust),
        lambda: checkpoint_config("x.ckpt", PARTS, trust),
    ):
        with pytest.raises(InputError) as caught:
            open_it()
        messages.append(str(caught.value))
    assert not UNTOUCHED & set(sys.modules)
    assert not Path("code-ran").exists()
    return messages


# Ways to something else than a backbone, and the message.
PATHS: dict[object, str] = {
    # Through what a module of ours has imported, in which torch and jsonargparse would look on.
    "torch.utils.cpp_extension.subprocess.Popen": ELSEWHERE,
    "n2n.backbones.paper.nn.Conv2d": ELSEWHERE,
    "n2n.backbones.spec.inspect.os.system": ELSEWHERE,
    "n2n.backbones.trimmed.F.torch.nn.Linear": ELSEWHERE,
    # torch imports a part of it when it is asked for its name.
    "n2n.backbones.nafnet.torch.onnx.X": ELSEWHERE,
    "n2n.backbones.spec.nn.Module": ELSEWHERE,
    "n2n.backbones.paper.InputError": ELSEWHERE,
    # Attributes of classes and modules.
    "n2n.backbones.ModelFinal.__class__": ELSEWHERE,
    "n2n.backbones.ModelFinal.__base__": ELSEWHERE,
    "n2n.backbones.ModelFinal.__init__.__globals__": ELSEWHERE,
    "n2n.backbones.__builtins__.eval": ELSEWHERE,
    "n2n.backbones.__loader__.load_module": ELSEWHERE,
    "n2n.backbones.paper": ELSEWHERE,
    "n2n.backbones.nowhere.Net": ELSEWHERE,
    # Of ours, and no backbones.
    "n2n.DenoisingModule": ELSEWHERE,
    "n2n.module.DenoisingModule": ELSEWHERE,
    "n2n.losses.AnnealedL0": ELSEWHERE,
    "n2n.cli.main": ELSEWHERE,
    "n2n.__main__.X": ELSEWHERE,
    "n2n.backbones.trimmed._Step": "which is no torch.nn.Module",
    # Functions, and classes of Python and PyTorch.
    "torch.fx.symbolic_trace": ELSEWHERE,
    "torch.nn.Conv2d": ELSEWHERE,
    "subprocess.Popen": ELSEWHERE,
    "builtins.eval": ELSEWHERE,
    "os.system": ELSEWHERE,
    # Modules with effects, which are imported for nothing.
    "antigravity.X": ELSEWHERE,
    "test.crashers.mutation_inside_cyclegc.X": ASKED.format("test"),
    "pip.__main__.X": ASKED.format("pip"),
    "__main__.X": ASKED.format("__main__"),
    "lightning.pytorch.cli.instantiate_module": ASKED.format("lightning"),
    "nowhere.Net": ASKED.format("nowhere"),
    "local.Net": ASKED.format("local"),
    # Names that are none, or look like ours.
    "\uff4e2n.backbones.ModelFinal": NO_PATH,
    "n2n.backbones.\u039codel2": NO_PATH,
    "n2n.backbones.Model2\n": NO_PATH,
    "n2n..backbones.Model2": NO_PATH,
    "n2n.backbones:Model2": NO_PATH,
    "n2n/backbones.Model2": NO_PATH,
    "a\nb.C": NO_PATH + r"'a\nb.C'",
    "Model2": NO_PATH,
    "": NO_PATH,
    5: NO_PATH + "5: expected package.Class",
    None: NO_PATH,
}


@pytest.mark.parametrize("path", PATHS, ids=ascii)
def test_other_classes_are_not_built(path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("local.py").write_text("import os; os.mkdir('code-ran')")
    # As for python -m n2n.
    monkeypatch.syspath_prepend("")
    for message in opened(content(**spec(path))):
        assert PATHS[path] in message


# Beside the backbone: what takes its place, what is nested in it, and what is beside its arguments.
SPECS: dict[str, tuple[Any, str]] = {
    "no class": (5, "does not say what its backbone is"),
    "text": ("torch.fx.symbolic_trace", "backbone is"),
    "function": (SHELL_BY_TRACING, ELSEWHERE),
    "function by name": ({"class_path": "torch.fx.symbolic_trace"}, ELSEWHERE),
    "process in an argument": ({"class_path": "n2n.backbones.Model2", "init_args": {"channels": POPEN}}, ELSEWHERE),
    "process in a list": ({"class_path": "n2n.backbones.ModelFinal", "init_args": {"widths": [POPEN]}}, ELSEWHERE),
    "process in a dict": ({"class_path": "n2n.backbones.Model2", "init_args": {"bias": {"a": POPEN}}}, ELSEWHERE),
    "process in dict_kwargs": ({"class_path": "n2n.backbones.Model2", "dict_kwargs": {"bias": POPEN}}, ELSEWHERE),
    "function in an argument": ({"class_path": "n2n.backbones.Model2", "init_args": {"bias": SHELL_BY_TRACING}}, ELSEWHERE),
    "text in an argument": ({"class_path": "n2n.backbones.Model2", "init_args": {"bias": "os.system"}}, "no text belongs"),
    "no such argument": ({"class_path": "n2n.backbones.Model2", "init_args": {"out": 3}}, "Model2 has no argument 'out'"),
    "appended": ({"class_path": "n2n.backbones.ModelFinal", "init_args": {"widths+": 3}}, "has no argument 'widths+'"),
    "self": ({"class_path": "n2n.backbones.Model2", "init_args": {"self": 3}}, "Model2 has no argument 'self'"),
    "more arguments": ({"class_path": "n2n.backbones.Model2", "dict_kwargs": {"x": 3}}, "Model2 has no argument 'x'"),
    "arguments that are text": ({"class_path": "n2n.backbones.Model2", "init_args": "x.yaml"}, "the arguments of Model2"),
    "a path beside it": ({"class_path": "n2n.backbones.Model2", "__path__": "x"}, "beside class_path and init_args"),
    "a key with a dot": ({"class_path": "n2n.backbones.Model2", "init_args.bias": True}, "beside class_path and init_args"),
    "a number of many digits": ({"class_path": "n2n.backbones.Model2", "init_args": {"hidden": 2**70}}, "more than 64 bits"),
    "a key that is no name": ({"class_path": "n2n.backbones.Model2", "init_args": {"bias": {"\uff41": 1}}}, "has the key"),
    "tensor": ({"class_path": "n2n.backbones.Model2", "init_args": {"bias": torch.zeros(1)}}, "holds a Tensor"),
    "doubled": ({"class_path": "n2n.backbones.Model2", "init_args": {"bias": [[1] * 9999] * 9999}}, "100,000 values"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPECS)
def test_arguments_are_plain_values(name: str) -> None:
    backbone, message = SPECS[name]
    for line in opened(content(hyper_parameters={"backbone": backbone})):
        assert message in line


def test_commands_refuse_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(content(**spec("n2n.backbones.Model2", bias=POPEN)), "x.ckpt")
    write_photos(Path("in"), 1)
    for command in ("predict --input in --output out --overwrite", "export --format torch", "validate", "fit"):
        status, lines = run(capsys, *command.split(), "--ckpt_path", "x.ckpt")
        assert (status, len(lines)) == (2, 1)
        assert "x.ckpt: it names torch.utils.cpp_extension.subprocess.Popen" in lines[0]
        assert not Path("code-ran").exists()
    assert not Path("x.pt2").exists()


def test_nothing_is_imported_from_the_current_folder() -> None:
    """In a Python of its own that looks for modules in the current folder first."""
    write_photos(Path("in"), 1)
    names = ("local", "torchvision", "timm", "test", "n2n_backbones")
    for name in names:
        Path(f"{name}.py").write_text("open('code-ran', 'w')")
        torch.save(content(**spec(f"{name}.Net")), f"{name}.ckpt")
    Path("elsewhere").mkdir()
    # From elsewhere, because other libraries import torchvision by themselves if it is there.
    code = "import os, sys, n2n.trainer.prediction_cli; from n2n.cli import main; os.chdir('..'); assert sys.path[0] == ''\n"
    code += "options = '--input in --output out'.split()\n"
    code += "for name in sys.argv[1:]: assert main(['predict', '--ckpt_path', f'{name}.ckpt', *options]) == 2"
    done = subprocess.run([sys.executable, "-c", code, *names], cwd="elsewhere", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in names:
        assert f"add --trust {name} " in done.stderr
    assert not Path("code-ran").exists()


def test_trusted_packages_count(capsys: pytest.CaptureFixture[str]) -> None:
    network = Residual(4)
    write_checkpoint("x.ckpt", network)
    noisy = torch.rand(1, 3, 8, 8)
    for trust in (["tests"], "tests", ["yaml", "tests"]):
        denoiser = Denoiser.from_checkpoint("x.ckpt", "cpu", trust=trust)
        assert torch.allclose(denoiser.backbone(noisy), network(noisy), atol=1e-6)
    write_photos(Path("in"), 1)
    commands = (
        "predict --input in --output out --overwrite",
        "export --format torch --overwrite",
        "validate --data.source.val_pairs 4",
    )
    for command in commands:
        args = [*command.split(), "--ckpt_path", "x.ckpt"]
        status, lines = run(capsys, *args)
        assert (status, len(lines)) == (2, 1)
        assert ASKED.format("tests") in lines[0]
        for option in (["--trust", "tests"], ["--trust=tests"], ["--trust", "yaml", "--trust", "tests"]):
            assert main([*args, *option]) == 0
    Path("own.yaml").write_text("trust: [yaml, tests]")
    assert main([*args, "--config", "own.yaml"]) == 0
    with pytest.raises(InputError, match="there is no such package"):
        Denoiser.from_checkpoint("x.ckpt", trust=["nowhere"])
    for trust in ("a.b", "", "a b", "subprocess"):
        with pytest.raises(InputError, match="expected the name of a package"):
            Denoiser.from_checkpoint("x.ckpt", trust=[trust])


def test_trust_reaches_as_far_as_its_package() -> None:
    # Re-exported, in a module of its own, a function, and a program.
    for path in (
        "tests.networks.nn.Conv2d",
        "tests.test_hostile.os.system",
        "tests.conftest.fit",
        "tests.fuzz.__main__.X",
    ):
        for message in opened(content(**spec(path)), "tests"):
            assert "which is no class of a trusted package" in message
    for message in opened(content(**spec("tests.hostile.Hostile")), "tests"):
        assert "which is no torch.nn.Module" in message
    inner = {"class_path": "torch.nn.Conv2d", "init_args": {"in_channels": 3}}
    for message in opened(content(**spec("tests.networks.Windowed", inner=inner)), "tests"):
        assert "it names torch.nn.Conv2d" in message


def test_networks_in_networks_and_buffers_are_built_again() -> None:
    network = Windowed((2, 3), ModelFinal(3, (4,)))
    made = content(**spec("tests.networks.Windowed", size=[2, 3], inner=content()["hyper_parameters"]["backbone"]))
    made["state_dict"] = {f"backbone.{name}": value for name, value in network.state_dict().items()}
    torch.save(made, "x.ckpt")
    again = Denoiser.from_checkpoint("x.ckpt", "cpu", trust=["tests"]).backbone
    assert isinstance(again, Windowed)
    assert again.window.tolist() == [[1, 2, 3], [1, 2, 3]]
    assert again.first.weight is again.last.weight
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in again.state_dict().items())


# What fit and validate build beside the backbone.
SETTINGS: dict[str, tuple[dict[Any, Any], dict[str, Any], str]] = {
    "text for a loss": ({"loss": "x.yaml"}, {}, "loss is 'x.yaml', where no text belongs"),
    "address for a loss": ({"loss": "http://127.0.0.1:1/x.yaml"}, {}, "where no text belongs"),
    "text for an optimiser": ({"optimizer": "os.system"}, {}, "optimizer is 'os.system', where no text"),
    "text for a schedule": ({"scheduler": "os.system"}, {}, "where no text belongs"),
    "another interval": ({"scheduler_interval": "x.yaml"}, {}, "expected one of 'epoch', 'step'"),
    "no such argument": ({"callbacks": [POPEN]}, {}, "DenoisingModule has no argument 'callbacks'"),
    "key that is no name": ({5: 5}, {}, "DenoisingModule has no argument 5"),
    "function for a loss": ({"loss": SHELL_BY_TRACING}, {}, "expected a class of n2n.losses or torch.nn.modules.loss"),
    "backbone for a loss": ({"loss": {"class_path": "n2n.backbones.Model5"}}, {}, "expected a class of n2n.losses"),
    "process in a loss": ({"loss": {"class_path": "torch.nn.MSELoss", "init_args": {"reduce": POPEN}}}, {}, "expected a class"),
    "backbone in a loss": (
        {"loss": {"class_path": "torch.nn.MSELoss", "init_args": {"reduce": {"class_path": "n2n.backbones.Model5"}}}},
        {},
        "expected a class of n2n.losses",
    ),
    "function in a loss": (
        {"loss": {"class_path": "torch.nn.TripletMarginWithDistanceLoss", "init_args": {"distance_function": "os.system"}}},
        {},
        "distance_function is 'os.system', where no text belongs",
    ),
    "module of a loss": ({"loss": {"class_path": "torch.nn.modules.loss.warnings.warn"}}, {}, "expected a class of n2n.loss"),
    "function in a schedule": (
        {"scheduler": {"class_path": "torch.optim.lr_scheduler.LambdaLR", "init_args": {"lr_lambda": "os.system"}}},
        {},
        "lr_lambda is 'os.system', where no text belongs",
    ),
    "functions in a schedule": (
        {"scheduler": {"class_path": "torch.optim.lr_scheduler.MultiplicativeLR", "init_args": {"lr_lambda": ["os.system"]}}},
        {},
        "where no text belongs",
    ),
    "function for a schedule": ({"scheduler": {"class_path": "torch.optim.lr_scheduler.partial"}}, {}, "expected a class"),
    "class of an optimiser's module": (
        {"optimizer": {"class_path": "torch.optim.optimizer.defaultdict"}},
        {},
        "expected a class of n2n.optimizers or torch.optim",
    ),
    "data that are text": ({}, {"source": "x.yaml"}, "source is 'x.yaml', where no text belongs"),
    "process for a source": ({}, {"source": {"class_path": "subprocess.Popen"}}, "expected a class of n2n.data.sources"),
    "batches of text": ({}, {"batch_size": "x.yaml"}, "batch_size is 'x.yaml', where no text belongs"),
    "another target": ({}, {"target": "x.yaml"}, "expected one of 'noisy', 'clean'"),
    "texts for augmentations": ({}, {"augmentations": ["os.system"]}, "where no text belongs"),
    "process for augmentations": ({}, {"augmentations": [POPEN]}, "expected a class of n2n.data.augmentation"),
    "text for a corruption": (
        {},
        {"source": {"class_path": "n2n.data.CleanImages", "init_args": {"root": "x", "corruption": "x.yaml"}}},
        "corruption is 'x.yaml', where no text belongs",
    ),
    "process for a corruption": (
        {},
        {"source": {"class_path": "n2n.data.CleanImages", "init_args": {"root": "x", "corruption": POPEN}}},
        "expected a class of n2n.data.corruption",
    ),
    "doubled": ({}, {"x": [[1] * 9999] * 9999}, "more than 100,000 values"),
    **{
        f"images at {root}": ({}, {"source": {"class_path": "n2n.data.Photographs", "init_args": {"root": root}}}, "address")
        for root in ("http://x/y", "s3://x", "simplecache::file://x", "\\\\server\\share", "//server/share", "a\0b")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS, ids=ascii)
def test_other_parts_of_a_training_are_not_built(name: str) -> None:
    model, data, message = SETTINGS[name]
    torch.save(content(hyper_parameters=model, datamodule_hyper_parameters=data), "x.ckpt")
    with pytest.raises(InputError) as caught:
        checkpoint_config("x.ckpt", PARTS)
    assert message in str(caught.value)
    assert not Path("code-ran").exists()


def test_deep_nesting_is_refused() -> None:
    value: Any = 1
    for _ in range(1500):
        value = [value]
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        torch.save(content(datamodule_hyper_parameters={"on_device": value}), "x.ckpt")
    finally:
        sys.setrecursionlimit(limit)
    with pytest.raises(InputError, match="nested too deeply"):
        checkpoint_config("x.ckpt", PARTS)


def test_no_configuration_is_read_beside_the_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    """The configuration of a checkpoint is also the name of a file, and its strings are names of files."""
    import yaml

    loss = {"class_path": "torch.nn.MSELoss", "init_args": {"reduction": "mean", "reduce": "x.yaml"}}
    made = content(
        hyper_parameters={"loss": loss},
        datamodule_hyper_parameters={"source": {"class_path": "n2n.data.DeadLeaves", "init_args": {"val_pairs": 2}}},
    )
    torch.save(made, "x.ckpt")
    attack = yaml.safe_dump({"model": {"loss": SHELL_BY_TRACING}})
    Path("x.yaml").write_text(yaml.safe_dump(SHELL_BY_TRACING))
    for part in ({"model": made["hyper_parameters"]}, {"model": {"backbone": made["hyper_parameters"]["backbone"]}}):
        text = yaml.safe_dump(part)
        if len(text) < 255:
            Path(text).write_text(attack)
    torch.save(content(), "y.ckpt")
    for path in ("x.ckpt", "y.ckpt"):
        options = ("--data.source", "n2n.data.DeadLeaves", "--data.source.val_pairs", "2")
        trainer = ("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false")
        assert run(capsys, "validate", "--ckpt_path", path, *options, *trainer)[0] == 0
        assert not Path("code-ran").exists()
