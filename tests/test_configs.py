"""The configurations that come with n2n."""

from __future__ import annotations

import fnmatch
import re
from typing import Any

import pytest

from n2n.cli import main
from n2n.commands.compare.plan import plan
from n2n.system.config_files import bundled_folder, bundled_names, matching
from n2n.trainer.run import parse_fit

DATA = ["--data.source", "n2n.data.Photographs", "--data.source.root", "photos"]
RATE = {"model.optimizer.init_args.lr", "model.scheduler", "model.scheduler_interval"}
FRESH = "data.source.init_args.fresh"
# What each ingredient changes of the base.
CHANGES = {
    "base": set(),
    "adamw": {"model.optimizer"},
    "batch_25": {"data.batch_size"},
    "batch_100": {"data.batch_size"},
    "channel_shuffle": {"data.augmentations"},
    "constant_rate": RATE,
    "constant_rate_ema": RATE | {"trainer.callbacks"},
    "contrast": {"data.augmentations"},
    "fresh": {FRESH},
    "pair_swap": {"data.augmentations"},
    "pixel_exchange": {"data.augmentations"},
    "without_flips": {"data.augmentations"},
    "zoom_and_turn": {FRESH, "data.source.init_args.zoom", "data.source.init_args.turn"},
}


def changes(one: dict[str, Any], other: dict[str, Any], above: str = "") -> set[str]:
    """Name the keys in which two configurations differ; of another class only the class."""
    found = set()
    for key in one.keys() | other.keys():
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= (
                {f"{above}{key}"} if a.get("class_path") != b.get("class_path") else changes(a, b, f"{above}{key}.")
            )
        elif a != b:
            found.add(f"{above}{key}")
    return found


def test_each_ingredient_changes_one_thing_of_the_base() -> None:
    jobs = plan(list(matching(["ingredients/*.yaml"])), [], [], DATA[2:], "name", base="ingredients/base.yaml")
    parsed = {job.label: job.config for job in jobs}
    assert {label: changes(parsed["base"], config) - {"name"} for label, config in parsed.items()} == CHANGES
    assert parsed["adamw"]["model"]["optimizer"]["init_args"]["lr"] == 2e-3
    assert parsed["base"]["data"]["source"]["init_args"]["max_pairs"] == 10_000


def test_a_base_that_is_not_there_gets_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "table1/model2", "--base", "none.yaml", *DATA]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "there is no config 'none.yaml'" in line


@pytest.mark.parametrize(
    "name", [n for n in bundled_names() if n.split("/")[0] not in ("data", "ingredients", "search")]
)
def test_each_network_is_trained_on_whatever_data_follows(name: str) -> None:
    config = parse_fit(["--config", str(bundled_folder() / name), *DATA])
    assert config["name"] == name.removesuffix(".yaml")
    assert config["data"]["source"]["class_path"] == "n2n.data.Photographs"


def test_the_guide_names_every_config() -> None:
    text = (bundled_folder() / "README.md").read_text()
    named = re.findall(r"`([\w/*]+\.yaml)`", text)
    assert all(fnmatch.filter(bundled_names(), name) for name in named)
    assert [n for n in bundled_names() if not any(fnmatch.fnmatch(n, pattern) for pattern in named)] == []
