"""Planning a comparison: one training for each combination of configuration, variation and seed."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from n2n.commands.compare.job import Job, needs_end, seconds
from n2n.errors import InputError
from n2n.system.config_files import find_config
from n2n.system.options import option
from n2n.system.text import without_package

# Bytes of a folder's name; file systems allow 255, and Windows 260 for the whole path of a file.
_MOST_BYTES = 80 if os.name == "nt" else 200
_NO_CHECKPOINT = "--ckpt_path is not for a comparison: what was interrupted goes on by itself"


@dataclass(frozen=True)
class Variation:
    """A key of the configuration, such as ``data.target``, and its values, as on the command line."""

    key: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Variation:
        """Read ``KEY=VALUE,VALUE``; a value may be a list in brackets."""
        key, equals, values = text.partition("=")
        try:
            parsed = yaml.safe_load(f"[{values}]") if equals and re.fullmatch(r"[\w.]+", key) else []
            found = tuple(value if isinstance(value, str) else json.dumps(value) for value in parsed)
        except (yaml.YAMLError, TypeError, ValueError):  # JSON has no dates
            found = ()
        if not found:
            line = " ".join(text.split())
            raise InputError(f"--vary {line} is not a key and its values: expected such as data.target=noisy,clean")
        if twice := _twice(found):
            raise InputError(f"--vary {key} has the value {twice} twice: give each once")
        return cls(key, found)

    def labels(self, others: Sequence[Variation]) -> list[str]:
        """Return the label of each value in the table. Keys and classes are shortened if the labels remain distinct."""
        name = self.key.rpartition(".")[2]
        if sum(other.key.rpartition(".")[2] == name for other in others) > 1:
            name = self.key
        short = [without_package(value) for value in self.values]
        return [f"{name}={value}" for value in (self.values if _twice(short) else short)]


def plan(
    configs: Sequence[str],
    variations: Sequence[Variation],
    seeds: Sequence[int],
    options: Sequence[str],
    name: str,
    further_options: Sequence[str] = (),
    base: str | None = None,
) -> list[Job]:
    """Plan a comparison. All configurations are parsed, so that mistakes are found before the first training.

    ``options`` are those of ``n2n fit``, the same for all runs, and ``further_options`` those of ``n2n compare``, which are
    suggested for misspelt ones. The other arguments are options of the command. Each run gets a folder in
    ``lightning_logs/NAME``.

    Raises:
        InputError: if a configuration is missing or wrong, two have the same name, or an option is not for a comparison.
    """
    from n2n.trainer.run import parse_fit

    names = [Path(config).name.removesuffix(".yaml") for config in configs]
    if twice := _twice(names):
        raise InputError(f"two configurations are called {twice}: the names tell the runs apart, so rename one")
    if twice := _twice(variation.key for variation in variations):
        raise InputError(f"--vary {twice} is given twice: give all its values at once")
    if twice := _twice(map(str, seeds)):
        raise InputError(f"--seeds has {twice} twice: give each once")
    if not (name and name.isprintable() and all(len(part.encode()) <= _MOST_BYTES for part in Path(name).parts)):
        raise InputError(f"--name is {name!r}: expected what can be the name of a folder")
    if wrong := [seed for seed in seeds if not 0 <= seed < 2**32]:
        raise InputError(f"--seeds has {wrong[0]}: expected 0 to {2**32 - 1}")
    if option(options, "--ckpt_path") is not None:
        raise InputError(_NO_CHECKPOINT)
    common, below = _split(options, variations)
    values = [list(zip(v.values, v.labels(variations), strict=True)) for v in variations]
    first = [] if base is None else ["--config", str(find_config(base, "--base"))]
    jobs: dict[Path, Job] = {}
    for config, stem in zip(configs, names, strict=True):
        path = str(find_config(config, "CONFIG"))
        for chosen in itertools.product(*values):
            pairs = [(variation.key, value) for variation, (value, _) in zip(variations, chosen, strict=True)]
            label = " ".join([stem, *(said for _, said in chosen)])
            varied: list[str] = []
            # A class before its arguments.
            for key, value in sorted(pairs, key=lambda pair: _class_key(pair[0]).count(".")):
                varied += [f"--{key}", value, *below[key]]
            for seed in seeds or (None,):
                args = [*first, "--config", path, *common, *varied]
                parts = [stem, *(f"{key}={value}" for key, value in pairs)]
                if seed is not None:
                    args += ["--seed_everything", str(seed)]
                    parts.append(f"seed={seed}")
                parsed = parse_fit(args, further_options)
                _check(parsed)
                root = Path(parsed["trainer"]["default_root_dir"] or ".")
                folder = root / "lightning_logs" / name / _folder_name(parts)
                if (other := jobs.get(folder)) is not None:
                    raise InputError(f"{other.label} and {label} would share the folder {folder}: rename one")
                jobs[folder] = Job(label, seed, tuple(args), folder, parsed)
    return list(jobs.values())


def _check(config: dict[str, Any]) -> None:
    """Refuse a configuration whose run could not be compared or resumed."""
    trainer = config["trainer"]
    if trainer["logger"] not in (None, True) or trainer["enable_checkpointing"] is False or trainer["fast_dev_run"]:
        raise InputError(
            "a comparison needs the metrics.csv and the best checkpoint of each run: leave trainer.logger, "
            "trainer.enable_checkpointing and trainer.fast_dev_run out"
        )
    if config["ckpt_path"] is not None:
        raise InputError(_NO_CHECKPOINT)
    if config["seed_everything"] is True:
        raise InputError("seed_everything is true, another seed each time: give one, or several with --seeds")
    seconds(trainer["max_time"])
    if trainer["max_epochs"] == -1 and trainer["max_steps"] == -1 and (what := needs_end(config)):
        raise InputError(f"{what} depends on the length of the training: give --epochs, not --minutes")


def _class_key(key: str) -> str:
    return key.removesuffix(".class_path")


def _split(options: Sequence[str], variations: Sequence[Variation]) -> tuple[list[str], dict[str, list[str]]]:
    """Separate the options below each varied key from the others. They must follow the varied class, which resets them."""
    common: list[str] = []
    below: dict[str, list[str]] = {variation.key: [] for variation in variations}
    into = common
    for argument in options:
        if argument.startswith(("--", "-c")):
            above = [key for key in below if argument.startswith(f"--{_class_key(key)}.")]
            into = below[max(above, key=len)] if above else common
        into.append(argument)
    return common, below


def _folder_name(parts: Sequence[str]) -> str:
    """Return a folder name made of parts. A name that is too long for a file system ends with a checksum."""
    name = re.sub(r"[^\w.=,+-]+", "_", ",".join(parts))
    if len(name.encode()) <= _MOST_BYTES:
        return name
    end = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name.encode()[: _MOST_BYTES - 13].decode(errors='ignore')}-{end}"


def _twice(values: Iterable[str]) -> str | None:
    """Return a value that occurs twice, or None."""
    return next((value for value, count in Counter(values).items() if count > 1), None)
