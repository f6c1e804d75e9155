"""The section ``search:`` of a configuration: what is searched, how, and for what."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from n2n.errors import InputError

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution

Value = bool | int | float | str | None

FIELDS = ("sampler", "pruner", "trials", "monitor", "direction", "space")
SAMPLERS = ("grid", "tpe", "random")
# What would change the very frame of a search: where it lies, and what every trial is given by the search itself.
_NOT_SEARCHED = ("name", "ckpt_path", "config", "trainer.default_root_dir", "trainer.devices", "trainer.fast_dev_run")


@dataclass(frozen=True)
class Choices:
    """One of several values.

    Args:
        key: of the configuration, without dashes.
        values: those of lists and mappings as JSON, since a study keeps plain values.
    """

    key: str
    values: tuple[Value, ...]

    def distribution(self) -> BaseDistribution:
        """Return what Optuna draws from."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def point(self, i: int) -> Value:
        """Return the value of a grid."""
        return self.values[i]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Range:
    """A number from ``low`` to ``high``, both included; an integer if those are."""

    key: str
    low: float
    high: float
    log: bool = False
    step: float | None = None

    def distribution(self) -> BaseDistribution:
        """Return what Optuna draws from."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if all(isinstance(number, int) for number in (self.low, self.high, self.step or 1)):
            return IntDistribution(int(self.low), int(self.high), self.log, int(self.step or 1))
        return FloatDistribution(self.low, self.high, self.log, self.step)

    def point(self, i: int) -> Value:
        """Return the value of a grid."""
        assert self.step is not None
        value = self.low + i * self.step
        return value if isinstance(value, int) else round(value, 12)

    def __len__(self) -> int:
        assert self.step is not None
        return math.floor((self.high - self.low) / self.step + 1e-9) + 1


def text(value: Value) -> str:
    """Return a value as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True)
class Search:
    """What is searched, how, and for what.

    Args:
        parameters: a class before its arguments.
        sampler: one of SAMPLERS.
        pruner: a name, or class_path and init_args, of ``optuna.pruners``.
        trials: how many in all.
        monitor: the figure of the validation.
        direction: "maximize" or "minimize".
    """

    parameters: tuple[Choices | Range, ...]
    sampler: str
    pruner: str | dict[str, Any]
    trials: int
    monitor: str
    direction: Literal["maximize", "minimize"]

    def grid_point(self, number: int) -> dict[str, Value]:
        """Return a point of the grid; the last parameter changes fastest."""
        point: dict[str, Value] = {}
        for parameter in reversed(self.parameters):
            number, i = divmod(number, len(parameter))
            point[parameter.key] = parameter.point(i)
        return point

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value is better than another, or the first."""
        return than is None or (value > than if self.direction == "maximize" else value < than)

    def best_of(self, values: Mapping[int, float]) -> float | None:
        """Return the best of the values of a trial's epochs; None if there are none."""
        finite = [value for value in values.values() if math.isfinite(value)]
        return (max if self.direction == "maximize" else min)(finite) if finite else None

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """Return the parameters of a trial by key; those of a trial that was begun before stay what they were."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        chosen: dict[str, Value] = {}
        for parameter in self.parameters:
            d, key = parameter.distribution(), parameter.key
            if isinstance(d, CategoricalDistribution):
                chosen[key] = trial.suggest_categorical(key, d.choices)
            elif isinstance(d, IntDistribution):
                chosen[key] = trial.suggest_int(key, d.low, d.high, step=d.step, log=d.log)
            elif isinstance(d, FloatDistribution):
                chosen[key] = trial.suggest_float(key, d.low, d.high, step=d.step, log=d.log)
        return chosen

    def identity(self) -> dict[str, Any]:
        """Return all but the number of trials, flat and plain: what a study must keep."""
        content: dict[str, Any] = {"sampler": self.sampler, "pruner": self.pruner}
        content |= {"monitor": self.monitor, "direction": self.direction}
        for parameter in self.parameters:
            content[f"space.{parameter.key}"] = (
                list(parameter.values)
                if isinstance(parameter, Choices)
                else {name: value for name, value in vars(parameter).items() if name != "key"}
            )
        return content


def _number(value: Any) -> Any:
    """Return 1e-3 as the number that it is: YAML 1.1 wants a dot in it, and jsonargparse does not."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        close = difflib.get_close_matches(str(value), known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"search.{name} is {value!r}: expected one of {', '.join(known)}{hint}")


def _range(key: str, given: dict[Any, Any], grid: bool) -> Range:
    where, known = f"search.space: {key}", ("low", "high", "log", "step")
    for name in given:
        if name not in known:
            raise InputError(f"{where} has {name!r}: a range has {', '.join(known)}, and choices are a list")
    low, high, step = (_number(given.get(name)) for name in ("low", "high", "step"))
    log = given.get("log", False)
    if any(
        isinstance(n, bool) or not isinstance(n, int | float) or not math.isfinite(n) for n in (low, high, step or 1)
    ):
        raise InputError(f"{where} is {given}: low, high and step are numbers, and a range has at least low and high")
    if not isinstance(log, bool):
        raise InputError(f"{where}: log is {log!r}: expected true or false")
    if low >= high or (step is not None and step <= 0):
        raise InputError(f"{where} is {given}: expected low < high and a step above 0")
    if log and (low <= 0 or step is not None):
        raise InputError(f"{where} is {given}: with log, low is above 0 and there is no step")
    if grid and step is None:
        raise InputError(
            f"{where} is a range without a step, and the sampler is grid: list its values, such as [{low}, {high}]"
        )
    return Range(key, low, high, log, step)


def _choices(key: str, given: list[Any]) -> Choices:
    where = f"search.space: {key}"
    values = [_number(value) for value in given]
    if not values:
        raise InputError(f"{where} has no values: list some, or give a range {{low: ..., high: ...}}")
    try:
        plain = [json.dumps(v, allow_nan=False) if isinstance(v, list | dict) else v for v in values]
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError):
        raise InputError(
            f"{where} is {given}: expected finite numbers, strings, true, false, null, lists or mappings"
        ) from None
    for i, value in enumerate(plain):
        if value in plain[:i]:
            raise InputError(f"{where} has {value!r} twice")
    return Choices(key, tuple(plain))


def _trials(trials: Any, sampler: str, parameters: tuple[Choices | Range, ...]) -> int:
    size = math.prod(len(parameter) for parameter in parameters) if sampler == "grid" else None
    trials = size if trials is None else trials
    if trials is None:
        raise InputError(f"search.trials is missing: say how many trials the sampler {sampler} should make, such as 30")
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise InputError(f"search.trials is {trials!r}: expected a whole number of at least 1")
    return min(trials, size or trials)


def read_search(section: Any, trials: int | None = None) -> Search:
    """Read the section ``search:`` of a configuration.

    Args:
        section: as YAML gives it.
        trials: instead of the section's.

    Raises:
        InputError: for what is not as it should be.
    """
    from n2n.commands.search.study import make_pruner
    from n2n.metrics import better

    if not isinstance(section, dict):
        raise InputError(
            f"the section search is {section!r}: expected sampler, space, ...; n2n search --help shows one"
        )
    for name in section:
        if name not in FIELDS:
            close = difflib.get_close_matches(str(name), FIELDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(FIELDS)}"
            raise InputError(f"the section search has no {name!r} ({hint})")
    sampler, pruner = section.get("sampler", "tpe"), section.get("pruner") or "none"
    monitor, space = section.get("monitor", "val/psnr_per_image"), section.get("space")
    _one_of("sampler", sampler, SAMPLERS)
    if not isinstance(monitor, str):
        raise InputError(
            f"search.monitor is {monitor!r}: expected a figure of the validation, such as val/psnr_per_image"
        )
    direction = section.get("direction", f"{better(monitor)}imize")
    _one_of("direction", direction, ("maximize", "minimize"))
    if not isinstance(space, dict) or not space:
        raise InputError(f"search.space is {space!r}: expected keys of the configuration, each with a list or a range")
    # A class first: giving one drops the arguments of the class before it.
    parameters: list[Choices | Range] = []
    for key in sorted(space, key=lambda key: sum(str(key).startswith(f"{other}.") for other in space)):
        given, name = space[key], str(key).removeprefix("--")
        if name in _NOT_SEARCHED:
            raise InputError(f"search.space: {name} belongs to the search itself and cannot be searched")
        if isinstance(given, dict):
            parameters.append(_range(name, given, sampler == "grid"))
        elif isinstance(given, list):
            parameters.append(_choices(name, given))
        else:
            raise InputError(f"search.space: {name} is {given!r}: expected a list or a range {{low: ..., high: ...}}")
    search = Search(
        tuple(parameters),
        sampler,
        pruner,
        _trials(section.get("trials") if trials is None else trials, sampler, tuple(parameters)),
        monitor,
        direction,
    )
    make_pruner(search, None)
    return search
