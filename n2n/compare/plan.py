"""What a comparison trains: every configuration, with every variation, with every seed."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from n2n.config_files import find_config
from n2n.errors import InputError
from n2n.options import option
from n2n.runs import Run

# What may differ between a run and its continuation: where it computes and what it shows, not what it learns.
_FREE = {"callbacks", "default_root_dir", "devices", "accelerator", "strategy", "num_nodes", "logger", "precision"}
_FREE |= {"enable_progress_bar", "enable_model_summary", "enable_checkpointing", "profiler", "max_epochs", "max_time"}


@dataclass(frozen=True)
class Variation:
    """A key of the configuration and the values that it takes in turn.

    Attributes:
        key: such as ``data.target``.
        values: as they are given on the command line.
    """

    key: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Variation:
        """Read ``KEY=VALUE,VALUE``; a value may be a list in brackets.

        Raises:
            InputError: if it is anything else.
        """
        key, equals, values = text.partition("=")
        try:
            parsed = yaml.safe_load(f"[{values}]") if equals and re.fullmatch(r"[\w.]+", key) else []
        except yaml.YAMLError:
            parsed = []
        if not parsed:
            raise InputError(f"--vary {text} is not a key and its values: expected such as data.target=noisy,clean")
        return cls(key, tuple(value if isinstance(value, str) else json.dumps(value) for value in parsed))


@dataclass(frozen=True, eq=False)
class Job:
    """One training of a comparison.

    Attributes:
        label: what the table calls it; the same for all seeds.
        seed: of the run, where several are compared; else None.
        args: of ``n2n fit``.
        folder: of the run.
        config: the whole configuration, as it will be saved.
    """

    label: str
    seed: int | None
    args: tuple[str, ...]
    folder: Path
    config: dict[str, Any]

    def progress(self) -> tuple[Run | None, bool]:
        """Look at what is there of the run already: the run, if it has begun, and whether it is done.

        Of a run that has trained for more epochs than are asked for, what it was after these.

        Raises:
            InputError: if the folder holds a run of another configuration.
        """
        if not (self.folder / "config.yaml").is_file():
            return None, False
        try:
            run = Run.read(self.folder)
        except InputError:
            # Interrupted before it had logged anything.
            return None, False
        differing = list(differences(run.config, self.config))
        if differing:
            raise InputError(
                f"{self.folder} holds a run with another configuration ({'; '.join(differing[:3])}): give the comparison "
                "another --name, or remove that folder"
            )
        epochs = self.config["trainer"]["max_epochs"]
        if epochs is not None and 0 < epochs < run.epochs:
            return run.until(epochs), True
        return run, run.finished and not _is_longer(run.config.get("trainer", {}), self.config["trainer"])


def _is_longer(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a budget of epochs and time allows more than another did."""
    epochs = [
        float("inf") if budget.get("max_epochs") in (None, -1) else budget["max_epochs"] for budget in (before, now)
    ]
    times = [_seconds(budget.get("max_time")) for budget in (before, now)]
    return bool(epochs[1] > epochs[0] or times[1] > times[0])


def _seconds(max_time: Any) -> float:
    """Seconds of Lightning's ``max_time``, days:hours:minutes:seconds or a mapping of these; infinite where there is none."""
    if max_time is None:
        return float("inf")
    if isinstance(max_time, str):
        max_time = dict(zip(("days", "hours", "minutes", "seconds"), map(int, max_time.split(":")), strict=True))
    return timedelta(**max_time).total_seconds()


def _differences(saved: Any, asked: Any, key: str) -> Iterator[str]:
    """Name what differs between two parts of configurations, where both say something."""
    if isinstance(saved, dict) and isinstance(asked, dict):
        for name in sorted(saved.keys() & asked.keys()):
            yield from _differences(saved[name], asked[name], f"{key}.{name}")
    # Channels are fitted to the images when training starts.
    elif saved != asked and key != "model.backbone.init_args.channels":
        yield f"{key} was {saved} and is now {asked}"


def differences(saved: dict[str, Any], asked: dict[str, Any]) -> Iterator[str]:
    """Name what differs between two configurations of what a run learns; where it computes and what it shows may differ."""
    for part in ("model", "data", "seed_everything"):
        yield from _differences(saved.get(part), asked.get(part), part)
    before, now = (
        {name: value for name, value in config.get("trainer", {}).items() if name not in _FREE}
        for config in (saved, asked)
    )
    yield from _differences(before, now, "trainer")
    if asked["model"].get("scheduler") is not None:
        # A schedule is made for its length: the same run for longer is another one.
        length, asked_length = (config.get("trainer", {}).get("max_epochs") for config in (saved, asked))
        yield from _differences(length, asked_length, "trainer.max_epochs")


def plan(
    configs: Sequence[str],
    variations: Sequence[Variation],
    seeds: Sequence[int],
    options: Sequence[str],
    name: str,
) -> list[Job]:
    """Plan a comparison; every configuration is parsed, so that a mistake in the last one is found before the first trains.

    Args:
        configs: paths of configurations, or the names of bundled ones.
        variations: every combination of them is trained.
        seeds: of the runs; none for the one of the configuration.
        options: of ``n2n fit``, the same for all.
        name: of the comparison; each run gets a folder in ``lightning_logs/NAME``.

    Raises:
        InputError: for configurations that are missing, wrong, or of the same name, and for options that make no sense here.
    """
    from n2n.training import parse_fit

    names = [Path(config).name.removesuffix(".yaml") for config in configs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"two configurations are called {twice[0]}: the names tell the runs apart, so rename one")
    if option(options, "--ckpt_path") is not None:
        raise InputError("--ckpt_path is not for a comparison: what was interrupted goes on by itself")
    jobs = []
    for config, stem in zip(configs, names, strict=True):
        path = str(find_config(config))
        for values in itertools.product(*(variation.values for variation in variations)):
            chosen = [(variation.key, value) for variation, value in zip(variations, values, strict=True)]
            label = " ".join([stem, *(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in chosen)])
            for seed in seeds or (None,):
                args = ["--config", path, *options, *(x for key, value in chosen for x in (f"--{key}", value))]
                parts = [stem, *(f"{key}={value}" for key, value in chosen)]
                if seed is not None:
                    args += ["--seed_everything", str(seed)]
                    parts.append(f"seed={seed}")
                parsed = parse_fit(args)
                if parsed["trainer"]["logger"] is False or parsed["trainer"]["fast_dev_run"]:
                    raise InputError(
                        "a comparison reads its figures from the runs' TensorBoard events: without a logger, "
                        "or with fast_dev_run, there are none"
                    )
                root = Path(parsed["trainer"]["default_root_dir"] or ".")
                folder = root / "lightning_logs" / name / re.sub(r"[^\w.=,+-]+", "_", ",".join(parts))
                jobs.append(Job(label, seed, tuple(args), folder, parsed))
    return jobs


def _short(value: str) -> str:
    """Leave the packages out of the import path of a class."""
    return value.rpartition(".")[2] if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", value) else value
