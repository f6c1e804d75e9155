"""The configuration of ``n2n fit`` that all trials of a search share, and the check that each value of the space fits."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import CategoricalDistribution

from n2n.commands.search.space import Distribution, Search, Value, text
from n2n.errors import InputError
from n2n.system.config_files import flatten, resolve_configs
from n2n.system.options import option
from n2n.system.yaml_files import dump_yaml, load_yaml
from n2n.trainer.callbacks import default_monitor
from n2n.trainer.help import HELP_ALL
from n2n.trainer.parsing_only import ParsingOnly
from n2n.trainer.quiet import silence

# Options that may differ between the machines that share a study, or concern only the display.
_OF_THE_MACHINE = (
    *("trainer.accelerator", "trainer.devices", "trainer.strategy", "trainer.precision", "trainer.default_root_dir"),
    *("trainer.enable_progress_bar", "trainer.enable_model_summary", "ckpt_path"),
)
_NO_CHECKPOINT = "every trial starts without a checkpoint: leave --ckpt_path out"


def arguments(parameters: dict[str, Value]) -> list[str]:
    """Return parameters as arguments of ``n2n fit``."""
    return [part for key, value in parameters.items() for part in (f"--{key}", text(value))]


def take_section(args: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Take the section ``search:`` out of the configs that the arguments name.

    Returns:
        The arguments, with the content of those configs instead of their names, and the section. If several configs have one,
        fields of later configs replace those of earlier ones.

    Raises:
        InputError: if a config cannot be read, or none has the section.
    """
    kept: list[str] = []
    section: dict[str, Any] = {}
    found = is_path = False
    for argument in resolve_configs(list(args)):
        if is_path:
            content = load_yaml(Path(argument), "a configuration")
            if isinstance(content, dict) and "search" in content:
                found, own = True, content.pop("search")
                if not isinstance(own, dict):
                    raise InputError(f"{argument}: the section search is {own!r}: expected sampler, space, ...")
                section |= own
                argument = dump_yaml(content)
        is_path = not is_path and argument == "--config"
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
        options: of ``n2n search`` itself, to suggest for a misspelt one.

    Raises:
        InputError: if ``n2n fit`` does not accept the arguments, or a search cannot use them.
    """

    def __init__(self, args: list[str], options: Sequence[str]) -> None:
        if option(args, "--ckpt_path") is not None:
            raise InputError(_NO_CHECKPOINT)
        super().__init__(["fit", *args], options, "search")
        self.content = self.resolved
        trainer = self.content["trainer"]
        if self.content["ckpt_path"] is not None:
            raise InputError(_NO_CHECKPOINT)
        if trainer["fast_dev_run"]:
            raise InputError(
                "a fast_dev_run has no figures to compare: leave it out, or set --trainer.limit_train_batches"
            )
        if trainer["devices"] not in ("auto", 1, "1") or trainer["num_nodes"] != 1:
            raise InputError(
                f"a trial trains on one device, and trainer.devices is {trainer['devices']}: start the same command once for "
                "each device (CUDA_VISIBLE_DEVICES chooses it); they share the study"
            )

    def dump(self) -> str:
        """Return the configuration for ``n2n fit --config``."""
        return dump_yaml(self.content)

    @property
    def name(self) -> str:
        """Name of the search and its folder."""
        return str(self.content["name"])

    @property
    def folder(self) -> Path:
        """Folder of the trials and the results."""
        return Path(self.content["trainer"]["default_root_dir"] or ".") / "lightning_logs" / self.name

    def settings(self, search: Search) -> dict[str, Any]:
        """Return the settings that all trials of a study must share, by dotted names."""
        flat = flatten(self.content)
        kept = {key: flat[key] for key in flat if key not in _OF_THE_MACHINE and not key.endswith("cache_dir")}
        return {f"search.{key}": value for key, value in search.settings().items()} | kept

    def figure(self, search: Search) -> str:
        """Return the figure that the validation images allow, chosen as for the best checkpoint of a training.

        Raises:
            InputError: if the images cannot be opened.
        """
        if any(key.partition(".init_args")[0] in ("data.source", "data.val_source") for key in search.space):
            return search.monitor  # the images differ between the trials
        with silence():
            data = self.parser.instantiate(self.config).data
            data.setup("validate")
        figure = default_monitor(data)
        if not data.has_clean:
            print(f"There are no clean images to validate with: trials are compared by {figure}.", flush=True)
        return figure

    def check(self, search: Search) -> None:
        """Parse a configuration with each value of the space.

        Raises:
            InputError: if a key does not exist, with the most similar one, or a value does not fit.
        """
        common = self.dump()
        for key, distribution in search.space.items():
            for value in _ends(distribution):
                errors = []
                for classes in _classes(key, search):
                    try:
                        self.parser.parse_args(["--config", common, *arguments(classes | {key: value})])
                        break
                    except InputError as error:
                        errors.append(str(error))
                else:
                    raise InputError(self._explain(key, value, errors[0], search))

    def _known(self, search: Search) -> set[str]:
        """Return the keys of the configuration, for each class in the space."""
        known = set(flatten(self.content))
        for key, distribution in search.space.items():
            for value in distribution.choices if isinstance(distribution, CategoricalDistribution) else ():
                try:
                    parsed = self.parser.parse_args(arguments({key: value}))
                except InputError:
                    continue
                known |= set(flatten(yaml.safe_load(self.parser.dump(parsed))))
        return known | {key.removesuffix(".class_path") for key in known}

    def _explain(self, key: str, value: Value, error: str, search: Search) -> str:
        if "unrecognized arguments" in error or "is not accepted" in error:
            close = difflib.get_close_matches(key, self._known(search), n=1)
            hint = f"did you mean {close[0]}?" if close else f"n2n fit {HELP_ALL} lists the options"
            return f"search.space: there is no key {key} in the configuration ({hint})"
        return f"search.space: {key} cannot be {text(value)}: {error[:300]}"


def _ends(distribution: Distribution) -> Sequence[Value]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    return (distribution.low, distribution.high)


def _classes(key: str, search: Search) -> Iterator[dict[str, Value]]:
    """Yield the choices of the classes that have a parameter as an argument; one {} if those are not searched."""
    above = {
        name: one.choices
        for name, one in search.space.items()
        if isinstance(one, CategoricalDistribution) and key.startswith(f"{name}.")
    }
    for values in itertools.product(*above.values()):
        yield dict(zip(above, values, strict=True))
