from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_configurations_are_utf8_where_the_system_is_not() -> None:
    """On Windows, files have another encoding unless the program names one. Here it is ASCII."""
    Path("own.yaml").write_text("# Größe der Zellen\nname: Zelle ß → 1\n", encoding="utf-8")
    command = [sys.executable, "-m", "n2n", "fit", "--config", "quick.yaml", "--config", "own.yaml", "--print_config"]
    done = subprocess.run(command, env=os.environ | ASCII, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.isascii()
    assert yaml.safe_load(done.stdout)["name"] == "Zelle ß → 1"
