from __future__ import annotations

import inspect
from typing import Any

import pytest
import yaml

from n2n import backbones
from n2n.cli import main
from n2n.system.config_files import bundled_folder
from n2n.trainer.run import parse_fit


def config(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    with pytest.raises(SystemExit, match="0"):
        main(["fit", *options, "--print_config"])
    parsed: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return parsed


@pytest.mark.parametrize("path", sorted((bundled_folder() / "table1").iterdir()), ids=lambda path: path.stem)
def test_table1_trains_the_networks_of_the_paper(path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    backbone = config(capsys, "--config", str(path))["model"]["backbone"]
    name = backbone["class_path"].rpartition(".")[2]
    assert name.lower() == path.stem.replace("_", "")
    parameters = inspect.signature(getattr(backbones, name)).parameters
    expected = {key: list(p.default) if isinstance(p.default, tuple) else p.default for key, p in parameters.items()}
    assert backbone["init_args"] == expected


def test_nothing_of_a_replaced_class_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--config", "quick.yaml", "--model.optimizer", "AdamW", "--model.optimizer.lr", "0.1"]
    options += ["--data.source", "n2n.data.Captures", "--data.source.root", "x"]
    parsed = config(capsys, *options)
    assert parsed["model"]["optimizer"]["init_args"]["weight_decay"] == 0.01
    assert parsed["model"]["optimizer"]["init_args"]["lr"] == 0.1
    # Generated images are of three channels; those of a folder are of as many as they have.
    assert parsed["data"]["source"]["init_args"]["channels"] is None


def test_arguments_of_the_same_class_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--config", "quick.yaml", "--data.source.seed", "3", "--model.backbone", "n2n.backbones.NAFNet"]
    parsed = config(capsys, *options, "--model.backbone.middle_blocks", "1")
    assert parsed["data"]["source"]["init_args"]["pairs"] == 12000
    assert parsed["data"]["source"]["init_args"]["seed"] == 3
    assert parsed["model"]["backbone"]["init_args"]["width"] == 16
    assert parsed["model"]["backbone"]["init_args"]["middle_blocks"] == 1


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ("", 30),
        ("--trainer.max_steps 200", -1),
        ("--trainer.max_time 00:01:00:00", -1),
        ("--trainer.max_steps 200 --epochs 4", 4),
        ("--config speedrun --trainer.max_steps 200", 2),
    ],
)
def test_another_limit_that_is_given_alone_counts_alone(options: str, epochs: int) -> None:
    assert parse_fit(options.split())["trainer"]["max_epochs"] == epochs
