from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from n2n.cli import main
from n2n.commands.search.configuration import FitConfig, take_section
from n2n.commands.search.results import show
from n2n.commands.search.space import read_search
from tests.commands.search.conftest import write_search

SPACE = {"data.batch_size": [10, 20]}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "search.space is None"),
        ({"space": SPACE, "samplr": "tpe"}, "did you mean sampler?"),
        ({"space": SPACE, "sampler": "gird", "trials": 1}, "did you mean grid?"),
        ({"space": SPACE}, "search.trials is missing"),
        ({"space": SPACE, "trials": 0}, "search.trials is 0"),
        ({"space": SPACE, "trials": True}, "search.trials is True"),
        ({"space": SPACE, "trials": 1, "pruner": "medain"}, "expected one of none, median"),
        (
            {"space": SPACE, "trials": 1, "pruner": {"class_path": "MedianPruner", "init_args": {"x": 1}}},
            "MedianPruner does not accept",
        ),
        ({"space": SPACE, "trials": 1, "direction": "up"}, "maximize, minimize"),
        ({"space": {"data.batch_sise": [1]}, "trials": 1}, "did you mean data.batch_size?"),
        ({"space": {"model.optimizer.init_args.lrr": [1]}, "trials": 1}, "did you mean model.optimizer.init_args.lr?"),
        ({"space": {"data.batch_size": [10, "many"]}, "trials": 1}, "data.batch_size cannot be many"),
        ({"space": {"data.batch_size": {"low": 0.5, "high": 1.5}}, "trials": 1}, "data.batch_size cannot be 0.5"),
        ({"space": {"data.batch_size": []}, "trials": 1}, "has no values"),
        ({"space": {"data.batch_size": [10, 10]}, "trials": 1}, "has 10 twice"),
        ({"space": {"data.batch_size": 10}, "trials": 1}, "expected a list or a range"),
        ({"space": {"data.batch_size": {"low": 1}}, "trials": 1}, "at least low and high"),
        ({"space": {"data.batch_size": {"low": 2, "high": 1}}, "trials": 1}, "`low <= high` must hold"),
        ({"space": {"data.batch_size": {"low": 0, "high": 1, "log": True}}, "trials": 1}, "must hold for `log=True`"),
        ({"space": {"data.batch_size": {"low": 1, "high": 2, "lgo": True}}, "trials": 1}, "has 'lgo'"),
        ({"space": {"data.batch_size": {"low": 1, "high": 9}}, "sampler": "grid"}, "range without a step"),
        ({"space": {"name": ["a", "b"]}, "trials": 1}, "belongs to the search itself"),
    ],
)
def test_mistakes_get_one_line(section: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(write_search(**section)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("n2n search: error: ")
    assert message in line
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trails", "3"], "did you mean --trials?"),
        (["--trainer.max_epoch", "3"], "did you mean --trainer.max_epochs?"),
        (["--ckpt_path", "x.ckpt"], "leave --ckpt_path out"),
        (["--trainer.fast_dev_run", "true"], "leave it out"),
        (["--trainer.devices", "2"], "one device"),
        (["--storage", "study"], "expected a URL"),
        (["--storage", "nonsense://x:secret@y/z"], "the storage y/z cannot be used"),
        (["--grace", "1"], "--grace is 1: expected at least 2"),
    ],
)
def test_options_that_cannot_be_get_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*write_search(trials=1, space=SPACE), *options]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert "secret" not in line


def test_a_config_without_the_section_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--config", "quick.yaml"]) == 2
    assert "add --config search/tpe.yaml" in capsys.readouterr().err


def test_fit_and_search_name_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", "search/tpe.yaml"]) == 2
    assert "is for n2n search" in capsys.readouterr().err


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "optuna" else find(name))
    assert main(write_search(trials=1, space=SPACE)) == 2
    assert capsys.readouterr().err == "n2n search: error: n2n search needs optuna: pip install optuna\n"


@pytest.mark.usefixtures("no_plots")
def test_an_argument_of_one_class_alone_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    # Only SGD has a momentum; the trials with Adam fail.
    space = {
        "model.optimizer.init_args.momentum": [0.9],
        "model.optimizer": ["torch.optim.Adam", "torch.optim.SGD"],
    }
    assert main(write_search(sampler="grid", space=space)) == 0
    shown = capsys.readouterr().out
    assert "failed: " in shown
    assert "2 trials: 1 finished, 0 pruned, 1 failed" in shown


def test_a_grid_counts_with_its_steps() -> None:
    space = {"a": {"low": 0.1, "high": 0.4, "step": 0.1}, "b": {"low": 1, "high": 5, "step": 2}}
    search = read_search({"sampler": "grid", "space": space})
    assert search.trials == 12
    points = [search.grid_point(i) for i in range(12)]
    assert points[:4] == [{"a": 0.1, "b": 1}, {"a": 0.1, "b": 3}, {"a": 0.1, "b": 5}, {"a": 0.2, "b": 1}]
    assert points[-1] == {"a": 0.4, "b": 5}
    assert read_search({"sampler": "grid", "space": space}, 5).trials == 5


@pytest.mark.parametrize(("name", "trials"), [("grid", 72), ("tpe", 30)])
def test_the_bundled_searches_are_valid(name: str, trials: int) -> None:
    args, section = take_section(["--config", f"search/{name}"])
    search = read_search(section)
    assert search.trials == trials
    config = FitConfig(args, [])
    config.check(search)
    assert config.folder == Path(f"lightning_logs/search/{name}")


def test_help_shows_the_section(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["search", "--help"])
    shown = capsys.readouterr().out
    assert "space:" in shown
    assert "--storage URL" in shown


def test_values_are_shown_without_packages() -> None:
    texts = ("torch.optim.Adam", "images.pkl", "v1.5", "noisy")
    assert [*map(show, texts), show(1 / 3)] == ["Adam", "images.pkl", "v1.5", "noisy", "0.3333"]
