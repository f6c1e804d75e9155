"""The help of n2n fit and n2n validate, and the shorter ways to give options."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from n2n.cli import main
from n2n.system.config_files import bundled_names, describe_config
from n2n.trainer.help import help_screen
from n2n.trainer.parsing_only import ParsingOnly
from n2n.trainer.run import parse_fit


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_help_fits_a_screen(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--config", "quick", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 80
    # Each configuration says what it is in a line.
    assert not any(line.endswith("…") for line in lines)


def test_help_needs_no_torch() -> None:
    code = "import sys; from n2n.cli import main; main(['fit', '--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0


def test_each_config_says_what_it_is() -> None:
    described = {name: describe_config(name) for name in bundled_names()}
    assert [name for name, text in described.items() if not 10 <= len(text) <= 160] == []
    assert described["data/captures.yaml"] == "One folder of captures, grouped into scenes by their names"
    screen = help_screen("fit")
    for name in bundled_names():
        if "/" not in name or name.startswith("data/"):
            assert re.search(rf"^  {name.removesuffix('.yaml')} ", screen, re.MULTILINE)


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_every_option_of_the_screen_is_one(command: str) -> None:
    named = set(re.findall(r"(?<!\S)--?[a-z][\w.-]*", help_screen(command)))
    source = ["--data.source", "Captures", "--root", "x", "--data.source.clean", "y", "--data.source.axes", "YX"]
    source += ["--data.source.val_fraction", "0.5"]
    given = source if command == "fit" else [*source, "--ckpt_path", "quick"]
    parsed = ParsingOnly([command, *given])
    known = set(parsed.parser._option_string_actions) | {f"--{key}" for key, _ in parsed.config.items()}
    known |= {key.replace(".init_args", "") for key in known} | {"--root", "--epochs", "--help-all"}
    assert named <= known


def test_the_examples_can_be_parsed() -> None:
    examples = [line.strip() for line in help_screen("fit").splitlines() if line.startswith("  n2n fit")]
    assert len(examples) == 5
    sources = [parse_fit(shlex.split(line)[2:])["data"]["source"]["class_path"] for line in examples[:4]]
    assert sources == [f"n2n.data.{name}" for name in ("DeadLeaves", "Folders", "Photographs", "Stack")]


def test_all_options_begin_with_ours(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--help-all"])
    shown = capsys.readouterr().out
    assert shown.index("--model.backbone") < shown.index("--data.source") < shown.index("--trainer.accelerator")
    assert "Conv2d" not in shown
    assert " ".join(shown.split()).count("n2n's: Captures, CleanImages, CourseFiles, DeadLeaves,") == 2


def test_the_arguments_of_a_class_are_found_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--data.source.help", "Captures"])
    assert "--data.source.pattern PATTERN" in capsys.readouterr().out


def test_short_names_and_shorter_options(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    content: dict[str, Any] = {
        "model": {"backbone": "UNet", "optimizer": {"class_path": "Muon"}, "scheduler": "OneCycle"},
        "data": {"source": {"class_path": "Folders"}, "augmentations": ["FlipsAndRotations"]},
    }
    own.write_text(yaml.safe_dump(content))
    parsed = parse_fit(["--root", "a", "--config", str(own), "--root=b", "--trainer.epochs", "7"])
    assert parsed["data"]["source"]["class_path"] == "n2n.data.Folders"
    assert parsed["data"]["source"]["init_args"]["roots"] == ["a", "b"]
    assert parsed["data"]["augmentations"] == [{"class_path": "n2n.data.augmentation.FlipsAndRotations"}]
    assert parsed["model"]["backbone"]["class_path"] == "n2n.backbones.UNet"
    # torch.optim has one of this name, too.
    assert parsed["model"]["optimizer"]["class_path"] == "n2n.optimizers.Muon"
    assert parsed["model"]["scheduler"]["class_path"] == "n2n.schedules.OneCycle"
    assert parsed["trainer"]["max_epochs"] == 7


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ("--data.source SingleImages --root x", ["x"]),
        ("--data.source Photographs --root x --root y", ["x", "y"]),
        ("--data.source CleanImages --data.source.corruption Gaussian --root x", "x"),
        ("--data.source={class_path:\\ Captures} --root x", "x"),
        ("--root x --data.source.class_path Stack", "x"),
        ("--root x --config data/captures", "x"),
    ],
)
def test_root(given: str, root: str | list[str]) -> None:
    found = parse_fit([*shlex.split(given), "--epochs", "2"])["data"]["source"]["init_args"]["root"]
    assert found in (root, root[0])


def test_images_may_stand_before_the_network() -> None:
    one, other = (
        parse_fit([part for name in names for part in ("--config", name)])
        for names in (("unet", "data/folders"), ("data/folders", "unet"))
    )
    assert one == other
    assert one["data"]["batch_size"] == 8


def test_options_may_stand_before_the_configs_they_change() -> None:
    options = ["--data.source.init_args.root", "x", "--data.batch_size=3"]
    configs = ["--config", "own", "--config", "data/captures"]
    before, after = parse_fit([*options, *configs]), parse_fit([*configs, *options])
    assert before == after
    assert before["data"]["source"]["init_args"]["root"] == "x"
    assert before["data"]["batch_size"] == 3


def test_what_a_later_config_overrides_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "own.yaml").write_text("data: {batch_size: 7, source: {class_path: Folders}}")
    assert main(["fit", "--config", "data/folders", "--config", "own.yaml", "--trainer.accelerator", "cpu"]) == 2
    line = "Warning: own.yaml comes after data/folders.yaml and changes data.batch_size: the later config wins"
    assert line in caplog.text
