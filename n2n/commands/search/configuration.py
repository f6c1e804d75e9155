"""What all trials of a search have in common: a configuration of ``n2n fit``, in which every value searched is tried to fit."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from n2n.commands.search.space import Choices, Range, Search, Value, text
from n2n.errors import InputError
from n2n.system.config_files import resolve_configs
from n2n.system.options import option, option_names
from n2n.trainer.parsing import ParsingOnly

# What may differ between the machines that share a study, or says only how a run is shown.
_OF_THE_MACHINE = (
    *("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.precision", "trainer.default_root_dir"),
    *("trainer.enable_progress_bar", "trainer.enable_model_summary", "ckpt_path"),
)


def arguments(parameters: dict[str, Value]) -> list[str]:
    """Return parameters as arguments of ``n2n fit``."""
    return [part for key, value in parameters.items() for part in (f"--{key}", text(value))]


def flatten(content: Any, name: str = "") -> dict[str, Any]:
    """Return a configuration with dotted keys; lists stay whole."""
    if not isinstance(content, dict) or not content:
        return {name: content}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{name}.{key}" if name else str(key))
    return flat


def take_section(args: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Take the section ``search:`` out of the configs that are named in arguments.

    Returns:
        The arguments, with the content of those configs in the place of their names, and the section; of several configs the
        later one wins, field by field.

    Raises:
        InputError: if a config cannot be read, or none has the section.
    """
    kept: list[str] = []
    section: dict[str, Any] = {}
    found = expected = False
    for argument in resolve_configs(list(args)):
        name, equals, value = argument.partition("=")
        path = argument if expected else value if name in ("--config", "-c") and equals else None
        expected = not expected and argument in ("--config", "-c")
        if path is not None:
            try:
                content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                raise InputError(f"the config {path} cannot be read: {' '.join(str(error).split())}") from None
            if isinstance(content, dict) and "search" in content:
                found, own = True, content.pop("search")
                if not isinstance(own, dict):
                    raise InputError(f"{path}: the section search is {own!r}: expected sampler, space, ...")
                section |= own
                content = yaml.safe_dump(content, sort_keys=False)
                argument = content if argument == path else f"{name}={content}"
        kept.append(argument)
    if not found:
        raise InputError(
            "none of the configs has a section search: add --config search/tpe.yaml, or write one (n2n search --help shows it)"
        )
    return kept, section


class FitConfig(ParsingOnly):
    """The configuration of ``n2n fit``, parsed and not run.

    Args:
        args: of ``n2n fit``.
        options: those of ``n2n search`` itself, which a misspelt one may have meant.

    Raises:
        InputError: for what fit does not accept, or a search cannot use.
    """

    def __init__(self, args: list[str], options: Iterable[str]) -> None:
        refusal = "every trial starts from nothing: leave --ckpt_path out"
        # Before parsing, which would look for the file.
        if option(args, "--ckpt_path") is not None:
            raise InputError(refusal)
        super().__init__(["fit", *args], list(options), "search")
        self.content = self.resolved
        trainer = self.content["trainer"]
        if self.content["ckpt_path"] is not None:
            raise InputError(refusal)
        if trainer["fast_dev_run"]:
            raise InputError(
                "a fast_dev_run has no figures to compare: leave it out, or set --trainer.limit_train_batches"
            )
        if trainer["devices"] not in ("auto", 1, "1") or trainer["num_nodes"] != 1:
            raise InputError(
                f"a trial trains on one device, and trainer.devices is {trainer['devices']}: start the same command once for "
                "each device (CUDA_VISIBLE_DEVICES chooses it); they share the study"
            )

    def dump(self, config: Namespace) -> str:
        """Return a configuration as ``n2n fit --config`` takes it."""
        return str(self.parser.dump(config, skip_unset=False))

    @property
    def name(self) -> str:
        """Name of the search and its folder."""
        return str(self.content["name"])

    @property
    def folder(self) -> Path:
        """Where the trials and the results go."""
        return Path(self.content["trainer"]["default_root_dir"] or ".") / "lightning_logs" / self.name

    def identity(self) -> dict[str, Any]:
        """Return what decides the value of a trial beside its parameters, flat and plain."""
        flat = flatten(self.content)
        return {
            key: value for key, value in flat.items() if key not in _OF_THE_MACHINE and not key.endswith("cache_dir")
        }

    def check(self, search: Search) -> None:
        """Parse a configuration with each value of the space.

        Raises:
            InputError: for a key that does not exist, with the nearest that does, and for a value that does not fit.
        """
        text_of_all = self.dump(self.config)
        for parameter in search.parameters:
            for value in _ends(parameter):
                errors = []
                for classes in _classes(parameter, search):
                    try:
                        self.parser.parse_args(["--config", text_of_all, *arguments(classes | {parameter.key: value})])
                        break
                    except InputError as error:
                        errors.append(str(error))
                else:
                    raise InputError(self._explain(parameter.key, value, errors[0], search))

    def _known(self, search: Search) -> set[str]:
        """Return the keys that exist, with each class that is in the space."""
        known = {option.removeprefix("--") for option in option_names(self.parser) if option.startswith("--")}
        known |= set(flatten(self.content))
        for parameter in search.parameters:
            for value in parameter.values if isinstance(parameter, Choices) else ():
                try:
                    parsed = self.parser.parse_args(arguments({parameter.key: value}))
                except InputError:
                    continue
                known |= set(flatten(yaml.safe_load(self.dump(parsed))))
        return known

    def _explain(self, key: str, value: Value, error: str, search: Search) -> str:
        if "unrecognized arguments" in error or "is not accepted" in error:
            close = difflib.get_close_matches(key, self._known(search), n=1)
            hint = f"did you mean {close[0]}?" if close else "n2n fit --help lists the options"
            return f"search.space: there is no key {key} in the configuration ({hint})"
        return f"search.space: {key} cannot be {text(value)}: {error[:300]}"


def _ends(parameter: Choices | Range) -> Sequence[Value]:
    return parameter.values if isinstance(parameter, Choices) else (parameter.low, parameter.high)


def _classes(parameter: Choices | Range, search: Search) -> Iterator[dict[str, Value]]:
    """Yield the choices of the classes whose argument a parameter is; one {} if those are not searched."""
    above = [p for p in search.parameters if isinstance(p, Choices) and parameter.key.startswith(f"{p.key}.")]
    for values in itertools.product(*(p.values for p in above)):
        yield {p.key: value for p, value in zip(above, values, strict=True)}
