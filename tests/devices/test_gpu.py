"""``python -m tests.devices.gpu`` on the CPU: its cheapest checks, its table, and its time-outs. The rest needs a GPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]

from tests.devices.gpu.__main__ import CHECKS, ORDER, _child, _environment, main
from tests.devices.gpu.correctness import sweep
from tests.devices.gpu.setting import FAILED, OK, Row, Setting
from tests.devices.gpu.speed import kernels_of
from tests.devices.target import VARIABLE
from tests.processes import run


@pytest.fixture(autouse=True)
def _no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def rows(document: str) -> list[list[str]]:
    lines = [line.strip("| ").split(" | ") for line in document.splitlines() if line.startswith("| ")]
    return lines[2:]


def in_a_fork(name: str, setting: Setting, *_: object) -> list[Row]:
    """Run a check in a process that starts at once, however long it takes."""
    own = Setting(setting.device, setting.quick, setting.data, setting.folder / name)
    own.folder.mkdir()
    own.write(own.folder / "setting.json")
    done = run(name, own.folder, target=_child, environment={"N2N_CACHE": str(setting.folder / "cache")})
    assert done.poll() == 0, done.err
    return own.rows()


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


def test_check_that_breaks_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str, setting: Setting, *_: object) -> list[Row]:
        if name == "memory":
            raise OSError("no room")
        return [Row("fine", OK)]

    output = tmp_path / "table.md"
    monkeypatch.setattr("tests.devices.gpu.__main__._run", broken)
    assert (
        main(["--device", "cpu", "--quick", "--only", "memory", "processes", "profile", "--output", str(output)]) == 1
    )
    found = {check: row for check, *row in rows(output.read_text())}
    assert found[CHECKS["memory"].title] == ["the check", FAILED, "OSError: no room"]
    assert found[CHECKS["processes"].title][:2] == found[CHECKS["profile"].title][:2] == ["fine", OK]


def test_rows_count_that_came_before_a_check_was_killed(tmp_path: Path) -> None:
    setting = Setting("cpu", True, None, tmp_path)
    setting.add(Row("one", OK))
    with next(tmp_path.iterdir()).open("a") as file:
        file.write('{"what": "cut')
    assert setting.rows() == [Row("one", OK)]


def test_packages_that_the_caller_has_put_in_the_path_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    environment = _environment(Setting("cpu", True, None, tmp_path), 3)
    assert environment["PYTHONPATH"].split(os.pathsep)[1:] == [str(tmp_path)]
    assert environment["OMP_NUM_THREADS"] == "3"


def test_tests_that_fail_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that cannot be collected."""
    (tmp_path / "test_wrong.py").write_text("def test_one():\n    assert 1 == 2\n\n\ndef test_two():\n    pass\n")
    (tmp_path / "test_broken.py").write_text("import nothing_of_this_name\n")
    monkeypatch.setattr("tests.devices.gpu.correctness.SWEEP", tmp_path)
    monkeypatch.setenv(VARIABLE, "cpu")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    setting = Setting("cpu", True, None, tmp_path)
    found: Iterator[Row] = sweep(["wrong"], "test", "test")(setting)
    assert next(found).value.startswith("1 passed, 1 failed")
    assert [(row.what, row.result) for row in setting.rows()] == [("`test_one`", FAILED)]
    assert "1 == 2" in setting.rows()[0].value
    assert next(sweep(["broken"], "test", "test")(setting)).result == FAILED
    assert "nothing_of_this_name" in setting.rows()[1].value


def test_kernels_count_once() -> None:
    def event(device: DeviceType, annotation: bool = False) -> Any:
        return SimpleNamespace(device_type=device, is_user_annotation=annotation, self_device_time_total=1.0)

    launch, kernel, note = event(DeviceType.CPU), event(DeviceType.CUDA), event(DeviceType.CUDA, True)
    assert kernels_of([launch, kernel, note]) == [kernel]


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
