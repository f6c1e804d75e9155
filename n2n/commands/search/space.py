"""The section ``search:`` of a configuration: what is searched, how, and for what."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from optuna import Trial
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from n2n.errors import InputError
from n2n.metrics import better

Value = bool | int | float | str | None
Distribution = CategoricalDistribution | FloatDistribution | IntDistribution

FIELDS = ("sampler", "pruner", "trials", "monitor", "direction", "space")
SAMPLERS = ("grid", "tpe", "random")
# Options that the search itself sets for each trial.
_NOT_SEARCHED = ("name", "ckpt_path", "config", "trainer.default_root_dir", "trainer.devices", "trainer.fast_dev_run")


def text(value: Value) -> str:
    """Return a value as an argument of the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def _grid_values(distribution: Distribution) -> Sequence[Value]:
    """Return the values of a parameter in a grid."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    low, high, step = distribution.low, distribution.high, distribution.step
    assert step is not None
    values = [low + i * step for i in range(math.floor((high - low) / step + 1e-9) + 1)]
    return [value if isinstance(value, int) else round(value, 12) for value in values]


@dataclass(frozen=True)
class Search:
    """What is searched, how, and for what.

    Args:
        space: the distribution of each parameter, by its key in the configuration; each class before its arguments. Choices
            that are lists or mappings are JSON, since a study stores plain values only.
        sampler: one of SAMPLERS.
        pruner: a name, or class_path and init_args, of ``optuna.pruners``.
        trials: in total.
        monitor: name of the validation's figure.
        direction: "maximize" or "minimize".
    """

    space: dict[str, Distribution]
    sampler: str
    pruner: str | dict[str, Any]
    trials: int
    monitor: str
    direction: Literal["maximize", "minimize"]

    def grid_point(self, number: int) -> dict[str, Value]:
        """Return a point of the grid by its number; the last parameter changes fastest."""
        point: dict[str, Value] = {}
        for key in reversed(self.space):
            values = _grid_values(self.space[key])
            number, i = divmod(number, len(values))
            point[key] = values[i]
        return point

    def best_of(self, values: Iterable[float]) -> float | None:
        """Return the best value; None if there is none."""
        return (max if self.direction == "maximize" else min)(values, default=None)

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """Return the parameters of a trial by key. A trial that was begun before keeps its parameters."""
        chosen: dict[str, Value] = {}
        for key, d in self.space.items():
            if isinstance(d, CategoricalDistribution):
                chosen[key] = trial.suggest_categorical(key, d.choices)
            elif isinstance(d, IntDistribution):
                chosen[key] = trial.suggest_int(key, d.low, d.high, step=d.step, log=d.log)
            else:
                chosen[key] = trial.suggest_float(key, d.low, d.high, step=d.step, log=d.log)
        return chosen

    def settings(self) -> dict[str, Any]:
        """Return all fields but the number of trials, which may grow, by dotted names."""
        content = {name: getattr(self, name) for name in ("sampler", "pruner", "monitor", "direction")}
        for key, distribution in self.space.items():
            content[f"space.{key}"] = json.loads(distribution_to_json(distribution))["attributes"]
        return content


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        close = difflib.get_close_matches(str(value), known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"search.{name} is {value!r}: expected one of {', '.join(known)}{hint}")


def _range(where: str, given: dict[Any, Any], grid: bool) -> FloatDistribution | IntDistribution:
    known = ("low", "high", "log", "step")
    if unknown := [name for name in given if name not in known]:
        raise InputError(f"{where} has {unknown[0]!r}: a range has {', '.join(known)}, and choices are a list")
    numbers = {name: given[name] for name in ("low", "high", "step") if given.get(name) is not None}
    plain = all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers.values())
    if not plain or not {"low", "high"} <= numbers.keys():
        raise InputError(f"{where} is {given}: low, high and step are numbers, and a range has at least low and high")
    log = given.get("log", False)
    if not isinstance(log, bool):
        raise InputError(f"{where}: log is {log!r}: expected true or false")
    if grid and "step" not in numbers:
        raise InputError(
            f"{where} is a range without a step, and the sampler is grid: list its values, such as "
            f"[{numbers['low']}, {numbers['high']}]"
        )
    kind = IntDistribution if all(isinstance(number, int) for number in numbers.values()) else FloatDistribution
    try:
        return kind(log=log, **numbers)
    except ValueError as error:
        raise InputError(f"{where} is {given}: {error}") from None


def _choices(where: str, given: list[Any]) -> CategoricalDistribution:
    if not given:
        raise InputError(f"{where} has no values: list some, or give a range {{low: ..., high: ...}}")
    try:
        plain = [json.dumps(v, allow_nan=False) if isinstance(v, list | dict) else v for v in given]
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError):
        raise InputError(
            f"{where} is {given}: expected finite numbers, strings, true, false, null, lists or mappings"
        ) from None
    if twice := [value for i, value in enumerate(plain) if value in plain[:i]]:
        raise InputError(f"{where} has {twice[0]!r} twice")
    return CategoricalDistribution(plain)


def read_search(section: dict[str, Any], trials: int | None = None) -> Search:
    """Read the section ``search:`` of a configuration.

    Args:
        section: content of the YAML.
        trials: instead of the section's.

    Raises:
        InputError: if a field is unknown or wrong. The pruner's arguments are checked when it is built.
    """
    for name in section:
        if name not in FIELDS:
            close = difflib.get_close_matches(str(name), FIELDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(FIELDS)}"
            raise InputError(f"the section search has no {name!r} ({hint})")
    sampler, pruner = section.get("sampler", "tpe"), section.get("pruner") or "none"
    monitor, given = section.get("monitor", "val/psnr_per_image"), section.get("space")
    _one_of("sampler", sampler, SAMPLERS)
    if not isinstance(monitor, str):
        raise InputError(
            f"search.monitor is {monitor!r}: expected a figure of the validation, such as val/psnr_per_image"
        )
    direction = section.get("direction", f"{better(monitor)}imize")
    _one_of("direction", direction, ("maximize", "minimize"))
    if not isinstance(given, dict) or not given:
        raise InputError(f"search.space is {given!r}: expected keys of the configuration, each with a list or a range")
    # A class first: choosing a class resets its arguments.
    space: dict[str, Distribution] = {}
    for name in sorted(given, key=lambda name: sum(str(name).startswith(f"{other}.") for other in given)):
        values, key = given[name], str(name).removeprefix("--")
        where = f"search.space: {key}"
        if key in _NOT_SEARCHED:
            raise InputError(f"{where} belongs to the search itself and cannot be searched")
        if not isinstance(values, dict | list):
            raise InputError(f"{where} is {values!r}: expected a list or a range {{low: ..., high: ...}}")
        space[key] = _range(where, values, sampler == "grid") if isinstance(values, dict) else _choices(where, values)

    size = math.prod(len(_grid_values(one)) for one in space.values()) if sampler == "grid" else None
    trials = section.get("trials", size) if trials is None else trials
    if trials is None:
        raise InputError(f"search.trials is missing: say how many trials the sampler {sampler} should make, such as 30")
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise InputError(f"search.trials is {trials!r}: expected a whole number of at least 1")
    return Search(space, sampler, pruner, min(trials, size or trials), monitor, direction)
