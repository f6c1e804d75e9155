"""``python -m tests.devices.gpu`` on the CPU: its cheapest checks, its table, and its time-outs. The rest needs a GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.devices.gpu.__main__ import CHECKS, ORDER, _child, main
from tests.devices.gpu.setting import Row, Setting
from tests.devices.target import VARIABLE
from tests.processes import run


@pytest.fixture(autouse=True)
def _no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def rows(document: str) -> list[list[str]]:
    lines = [line.strip("| ").split(" | ") for line in document.splitlines() if line.startswith("| ")]
    return lines[2:]


def in_a_fork(name: str, setting: Setting, _: float) -> list[Row]:
    """Run a check in a process that starts at once, however long it takes."""
    own = Setting(setting.device, setting.quick, setting.data, setting.folder / name)
    own.folder.mkdir()
    own.write(own.folder / "setting.json")
    done = run(name, own.folder, target=_child, environment={"N2N_CACHE": str(setting.folder / "cache")})
    assert done.poll() == 0, done.err
    return [Row(**json.loads(line)) for line in (own.folder / "rows.jsonl").read_text().splitlines()]


def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "table.md"
    monkeypatch.setattr("tests.devices.gpu.__main__._run", in_a_fork)
    status = main(["--device", "cpu", "--quick", "--only", "trainer", "profile", "--output", str(output)])
    document = output.read_text()
    assert status == 0, document
    assert f"torch {torch.__version__}" in document
    assert "commit" in document
    assert document.strip() in capsys.readouterr().out
    found = {(check, what): (result, value) for check, what, result, value in rows(document)}
    result, value = found[CHECKS["trainer"].title, "tests of the sweep"]
    assert result == "ok"
    assert value.startswith("1 passed, 0 failed")
    result, value = found[CHECKS["profile"].title, "wall time"]
    assert result == "measured"
    assert float(value.split()[0]) > 0


def test_check_that_takes_too_long_is_stopped_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "table.md"
    # Too little to import torch.
    monkeypatch.setitem(CHECKS, "memory", replace(CHECKS["memory"], seconds=0.5))
    assert main(["--device", "cpu", "--quick", "--only", "memory", "--output", str(output)]) == 1
    ((check, what, result, value),) = rows(output.read_text())
    assert (check, what, result) == (CHECKS["memory"].title, "the check", "failed")
    assert value.startswith("stopped after")


def test_check_that_has_no_time_left_is_named(tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    arguments = ["--device", "cpu", "--quick", "--only", "memory", "processes", "--output", str(output)]
    assert main([*arguments, "--seconds", "0"]) == 0
    assert [row[1:] for row in rows(output.read_text())] == [["not run", "skipped", "no time was left"]] * 2


def test_missing_device_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit):
        main(["--device", "cuda"])
    assert "torch cannot use such a device here" in capsys.readouterr().err.splitlines()[-1]


def test_every_check_has_its_turn() -> None:
    assert sorted(ORDER) == sorted(CHECKS)
