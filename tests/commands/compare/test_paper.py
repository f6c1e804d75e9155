from __future__ import annotations

import yaml

from n2n.commands.compare.paper import reported
from n2n.system.config_files import bundled_names, find_config


def test_every_network_of_table_1_has_its_figures() -> None:
    names = [name for name in bundled_names() if name.startswith("table1/")]
    rows = [reported(yaml.safe_load(find_config(name).read_text())["model"]["backbone"]) for name in names]
    assert [row and row.psnr for row in rows] == [23.78, 24.92, 24.98, 24.94, 24.52, 25.01, 24.87, 25.44, 25.45, 25.11]


def test_other_networks_and_other_widths_have_none() -> None:
    assert reported({"class_path": "n2n.backbones.Model2", "init_args": {"hidden": 33}}) is None
    assert reported({"class_path": "mine.Model2", "init_args": {}}) is None
    assert reported({}) is None
