from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from n2n.cli import main
from tests.conftest import write_photos

# Names that YAML would read as something else.
ODD = [
    "[raw]",
    "[1, 2]",
    "null",
    "~x",
    "2024",
    "true",
    "{x}",
    "a: b",
    "x, y",
    "a#b",
    "a=b",
    "-dash",
    "'q'",
    "a b ",
    "é",
]


def source(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, object]:
    """Return the source's arguments in the configuration that a command line gives."""
    with pytest.raises(SystemExit) as end:
        main(["fit", *options, "--print_config"])
    assert end.value.code in (0, None)
    arguments: dict[str, object] = yaml.safe_load(capsys.readouterr().out)["data"]["source"]["init_args"]
    return arguments


@pytest.mark.parametrize("name", ODD)
def test_root_is_a_name_and_no_yaml(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert source(capsys, "--config", "data/captures", f"--root={name}")["root"] == name
    assert source(capsys, "--config", "data/single", f"--root={name}")["root"] in (name, [name])
    assert source(capsys, "--config", "data/single", f"--root={name}", "--root", "b")["root"] == [name, "b"]
    assert source(capsys, "--config", "data/folders", f"--root={name}", "--root", "b")["roots"] == [name, "b"]


def test_root_keeps_the_other_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data.source.pattern", "{scene}-{capture}", "--root", "x", "--data.source.patch", "16"]
    found = source(capsys, *options, "--config", "data/captures.yaml", "--data.source.pattern", "{scene}+{capture}")
    assert (found["root"], found["pattern"], found["patch"]) == ("x", "{scene}+{capture}", 16)


def test_a_folder_in_brackets_is_not_the_folder_without(capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(Path("raw"), 3, (40, 40))
    assert main(["fit", "--config", "data/gaussian", "--root", "[raw]", "--epochs", "0"]) == 2
    assert "[raw] is not there" in capsys.readouterr().err
