"""What a comparison trains: every configuration, with every variation, with every seed."""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
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
_FREE = {"default_root_dir", "devices", "accelerator", "strategy", "num_nodes", "logger", "precision"}
_FREE |= {"enable_progress_bar", "enable_model_summary", "enable_checkpointing", "profiler", "max_epochs", "max_time"}

# Bytes of a folder's name; file systems allow 255.
_MOST_BYTES = 200
_NO_CHECKPOINT = "--ckpt_path is not for a comparison: what was interrupted goes on by itself"


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
            found = tuple(value if isinstance(value, str) else json.dumps(value) for value in parsed)
        except (yaml.YAMLError, TypeError, ValueError):  # a date is no JSON
            found = ()
        if not found:
            line = " ".join(text.split())
            raise InputError(f"--vary {line} is not a key and its values: expected such as data.target=noisy,clean")
        if twice := _twice(found):
            raise InputError(f"--vary {key} has the value {twice} twice: give each once")
        return cls(key, found)

    def labels(self, others: Sequence[Variation]) -> list[str]:
        """Return what the table calls each value: short, where that tells it from the others."""
        name = self.key.rpartition(".")[2]
        if sum(other.key.rpartition(".")[2] == name for other in others) > 1:
            name = self.key
        short = [_short(value) for value in self.values]
        return [f"{name}={value}" for value in (self.values if _twice(short) else short)]


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

        Of a run that has trained for longer than is asked for, what it was after these epochs, or after the last epoch that
        ended within this time.

        Raises:
            InputError: if the folder holds a run of another configuration, or one whose time was not counted.
        """
        try:
            if not (self.folder / "config.yaml").is_file():
                return None, False
        except OSError as error:
            raise InputError(f"{self.folder} cannot be looked at ({error.strerror}): give another --name") from None
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
        before, now = run.config.get("trainer", {}), self.config["trainer"]
        epochs = now["max_epochs"]
        if epochs is not None and 0 < epochs < run.epochs:
            return run.until(epochs), True
        limit, limit_before = _seconds(now["max_time"]), _seconds(before.get("max_time"))
        if limit < limit_before and run.epochs:
            if run.minutes * 60 >= limit:
                curve = run.curves["train/loss"]
                ended = zip(curve.epochs, curve.minutes, strict=True)
                within = [epoch for epoch, minutes in ended if minutes * 60 <= limit]
                return run.until(max(within, default=curve.epochs[0])), True
            if limit_before == float("inf"):
                # Its checkpoint does not say for how long it has trained, and the time would begin anew.
                raise InputError(
                    f"{self.folder} holds a run that was trained without --minutes: give the comparison another --name, "
                    "or remove that folder"
                )
        return run, run.finished and not _is_longer(before, now)


def _is_longer(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a budget of epochs and time allows more than another did."""
    epochs = [
        float("inf") if budget.get("max_epochs") in (None, -1) else budget["max_epochs"] for budget in (before, now)
    ]
    times = [_seconds(budget.get("max_time")) for budget in (before, now)]
    return bool(epochs[1] > epochs[0] or times[1] > times[0])


def _seconds(max_time: Any) -> float:
    """Seconds of Lightning's ``max_time``, days:hours:minutes:seconds or a mapping of these; infinite where there is none.

    Raises:
        InputError: if it is anything else.
    """
    if max_time is None:
        return float("inf")
    try:
        if isinstance(max_time, str):
            max_time = dict(zip(("days", "hours", "minutes", "seconds"), map(int, max_time.split(":")), strict=True))
        return timedelta(**max_time).total_seconds()
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"max_time is {max_time}: expected days:hours:minutes:seconds, such as 00:00:10:00") from None


def _differences(saved: Any, asked: Any, key: str) -> Iterator[str]:
    """Name what differs between two parts of configurations, where both say something."""
    if isinstance(saved, dict) and isinstance(asked, dict):
        for name in sorted(saved.keys() & asked.keys()):
            yield from _differences(saved[name], asked[name], f"{key}.{name}")
    # Channels are fitted to the images when training starts.
    elif saved != asked and key != "model.backbone.init_args.channels":
        yield f"{key} was {saved} and is now {asked}"


def _anneals(spec: Any) -> bool:
    """Whether a class says of itself that what it does depends on the length of the training."""
    module, _, name = str(spec["class_path"]).rpartition(".") if isinstance(spec, dict) else ("", "", "")
    return bool(module and getattr(getattr(importlib.import_module(module), name, None), "anneals", False))


def differences(saved: dict[str, Any], asked: dict[str, Any]) -> Iterator[str]:
    """Name what differs between two configurations of what a run learns; where it computes and what it shows may differ."""
    for part in ("model", "data", "seed_everything"):
        yield from _differences(saved.get(part), asked.get(part), part)
    before, now = (
        {name: value for name, value in config.get("trainer", {}).items() if name not in _FREE}
        for config in (saved, asked)
    )
    yield from _differences(before, now, "trainer")
    if (
        asked["model"].get("scheduler") is not None
        or _anneals(asked["model"]["loss"])
        or _anneals(asked["data"]["source"])
    ):
        # What follows a schedule is made for its length: the same run for longer is another one.
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
    jobs: dict[Path, Job] = {}
    for config, stem in zip(configs, names, strict=True):
        path = str(find_config(config))
        for chosen in itertools.product(*values):
            pairs = [(variation.key, value) for variation, (value, _) in zip(variations, chosen, strict=True)]
            label = " ".join([stem, *(said for _, said in chosen)])
            varied: list[str] = []
            # A class before its arguments.
            for key, value in sorted(pairs, key=lambda pair: _class_key(pair[0]).count(".")):
                varied += [f"--{key}", value, *below[key]]
            for seed in seeds or (None,):
                args = ["--config", path, *common, *varied]
                parts = [stem, *(f"{key}={value}" for key, value in pairs)]
                if seed is not None:
                    args += ["--seed_everything", str(seed)]
                    parts.append(f"seed={seed}")
                parsed = parse_fit(args)
                _check(parsed)
                root = Path(parsed["trainer"]["default_root_dir"] or ".")
                folder = root / "lightning_logs" / name / _folder_name(parts)
                if (other := jobs.get(folder)) is not None:
                    raise InputError(f"{other.label} and {label} would share the folder {folder}: rename one")
                jobs[folder] = Job(label, seed, tuple(args), folder, parsed)
    return list(jobs.values())


def _check(config: dict[str, Any]) -> None:
    """Refuse a configuration whose run could not be compared, or not be gone on with.

    Raises:
        InputError: if it is one.
    """
    trainer = config["trainer"]
    if trainer["logger"] not in (None, True) or trainer["fast_dev_run"]:
        raise InputError(
            "a comparison reads its figures from the runs' TensorBoard events: without their logger, with another one, "
            "or with fast_dev_run, there are none"
        )
    if config["ckpt_path"] is not None:
        raise InputError(_NO_CHECKPOINT)
    if config["seed_everything"] is True:
        raise InputError("seed_everything is true, another seed each time: name one, or several with --seeds")
    _seconds(trainer["max_time"])
    if trainer["max_epochs"] == -1 and _anneals(config["model"]["loss"]):
        name = config["model"]["loss"]["class_path"].rpartition(".")[2]
        raise InputError(
            f"the loss {name} changes over the epochs, and their number is open: give --epochs, not --minutes"
        )


def _class_key(key: str) -> str:
    return key.removesuffix(".class_path")


def _split(options: Sequence[str], variations: Sequence[Variation]) -> tuple[list[str], dict[str, list[str]]]:
    """Take out of the options those of arguments of what is varied, by its key: a class that comes after them drops them."""
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
    """Name a folder by what it is of; what is too long for a file system ends with a checksum."""
    name = re.sub(r"[^\w.=,+-]+", "_", ",".join(parts))
    if len(name.encode()) <= _MOST_BYTES:
        return name
    end = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name.encode()[: _MOST_BYTES - 13].decode(errors='ignore')}-{end}"


def _twice(values: Iterable[str]) -> str | None:
    """Return a value that is there twice, or None."""
    seen: set[str] = set()
    return next((value for value in values if value in seen or seen.add(value)), None)  # type: ignore[func-returns-value]


def _short(value: str) -> str:
    """Leave the packages out of the import path of a class."""
    return value.rpartition(".")[2] if re.fullmatch(r"([A-Za-z_]\w*\.)+[A-Z]\w*", value) else value
