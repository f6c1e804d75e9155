"""Going on from a checkpoint: what fit and validate put back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import write_course, write_photos
from tests.hostile import content, doubled, run, spec

TRAINER = ("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false")

TRAINED: dict[str, tuple[dict[str, Any], str]] = {
    "wide": (spec("n2n.backbones.ModelFinal", widths=[20_000, 20_000]), "do not fit the backbone"),
    "doubled callbacks": ({"callbacks": doubled(60)}, "more than 100,000 values"),
    "data of another kind": ({"datamodule_hyper_parameters": 5}, "does not say what it was trained on"),
    "version": ({"pytorch-lightning_version": "x"}, "cannot be resumed"),
    "loops": ({"loops": 5}, "cannot be resumed"),
    "callbacks": ({"callbacks": 5}, "cannot be resumed"),
    "other files": ({"callbacks": {"a": {"best_model_path": "checkpoints/../../precious"}}}, "outside its folder"),
    "files of a protocol": ({"callbacks": {"a": {"best_model_path": "local:///precious"}}}, "outside its folder"),
    "files of two protocols": ({"callbacks": {"a": {"b": ["dir::file"]}}}, "outside its folder"),
    "further weights": ({"state_dict": {"x": torch.zeros(1)}}, "cannot be resumed"),
}


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("command", ["validate", "fit"])
def test_hostile_checkpoints_are_not_gone_on_with(name: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    changed, message = TRAINED[name]
    torch.save(content(**changed), "x.ckpt")
    root = write_course(Path("data"), 4, (3, 16, 16))
    data = ("--data.source", "n2n.data.CourseFiles", "--data.source.root", str(root))
    status, lines = run(capsys, command, "--ckpt_path", "x.ckpt", *data, *TRAINER)
    assert (status, len(lines)) == (2, 1)
    assert message in lines[0]


FIT = (*TRAINER, "--model.backbone.init_args.widths", "[4,4]")


def set_in(content: Any, path: list[Any], value: object) -> None:
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["optimizer_states", 0, "state", 0, "exp_avg"], torch.zeros(7)),
        (["optimizer_states", 0, "state", 0, "step"], torch.zeros(0)),
        (["optimizer_states", 0, "state", 0], {"step": torch.zeros(())}),
        (["optimizer_states", 0, "param_groups", 0, "betas"], "much"),
        (["n2n", "training", "random"], torch.zeros(3)),
        (["n2n", "training", "losses"], 5),
        (["n2n", "training", "least_val_loss"], "low"),
        (["n2n", "training", "loader"], [1]),
        (["n2n", "range"], "wide"),
        (["optimizer_states", 0], 5),
        (["loops", "fit_loop", "state_dict"], 5),
    ],
)
def test_trainings_of_another_state_are_not_gone_on_with(
    path: list[Any], value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_course(Path("data"), 4, (3, 16, 16))
    command = ("fit", "--config", "data/ee559", "--data.source.root", str(root), "--name", "x", *FIT)
    assert run(capsys, *command, "--trainer.max_epochs", "1")[0] == 0
    last = Path("lightning_logs/x/version_0/checkpoints/last.ckpt")
    made = torch.load(last, weights_only=True)
    set_in(made, path, value)
    torch.save(made, last)
    status, lines = run(capsys, *command, "--trainer.max_epochs", "2", "--ckpt_path", str(last))
    assert (status, len(lines)) == (2, 1)
    assert f"{last} cannot be resumed (" in lines[0]


def test_a_checkpoint_does_not_say_where_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(Path("in"), 3, (300, 300))
    source = {"root": ["in"], "cache_dir": "precious", "val_fraction": 0.5, "max_pairs": 4}
    data = {"source": {"class_path": "n2n.data.Photographs", "init_args": source}, "batch_size": 2}
    torch.save(content(datamodule_hyper_parameters=data), "x.ckpt")
    assert run(capsys, "validate", "--ckpt_path", "x.ckpt", *TRAINER)[0] == 0
    assert Path("cache").is_dir()
    assert not Path("precious").exists()


@pytest.mark.parametrize(
    "name",
    ["{0}", "local://{0}", "file://{0}", "LOCAL://{0}", "simplecache::file://{0}", "local:{0}", "{0}/../precious"],
)
@pytest.mark.parametrize("by_config", [True, False])
def test_files_of_others_are_not_removed(name: str, by_config: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Lightning removes the checkpoint before the last one, with all that is in it if it is a folder."""
    root = write_course(Path("data"), 4, (3, 16, 16))
    command = ("fit", "--config", "data/ee559", "--data.source.root", str(root), "--name", "x", *FIT)
    assert run(capsys, *command, "--trainer.max_epochs", "1")[0] == 0
    folder = Path("lightning_logs/x/version_0/checkpoints")
    made = torch.load(folder / "last.ckpt", weights_only=True)
    Path("precious").mkdir()
    Path("precious/file").touch()
    path = name.format(Path("precious").absolute())
    for state in made["callbacks"].values():
        if "best_model_path" in state:
            state |= {key: path for key in state if key.endswith("model_path")}
            state["best_k_models"] = {path: torch.tensor(-100.0)}
            state["dirpath"] = "lightning_logs/y/version_0/checkpoints"
    torch.save(made, "x.ckpt")
    further = ["--name", "y", "--trainer.max_epochs", "3"]
    Path("go_on.yaml").write_text("ckpt_path: x.ckpt")
    further += ["--config", "go_on.yaml"] if by_config else ["--ckpt_path", "x.ckpt"]
    assert run(capsys, *command, *further)[0] in (0, 1, 2)
    assert Path("precious/file").exists()


@pytest.mark.parametrize("ckpt", ["pipe", "folder", "loop", "none", "/dev/zero", "a" * 300, "empty"])
@pytest.mark.parametrize("command", ["predict", "export", "validate", "fit"])
def test_checkpoints_that_are_no_files(ckpt: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    Path("empty").touch()
    write_photos(Path("in"), 1)
    options = {"predict": ("--input", "in", "--output", "out"), "export": ("--format", "torch")}.get(command, ())
    status, lines = run(capsys, command, "--ckpt_path", ckpt, *options)
    assert (status, len(lines)) == (2, 1)
    assert ckpt in lines[0]
