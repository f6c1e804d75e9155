"""The configurations that come with n2n, and how ``--config`` finds them."""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from n2n.errors import InputError
from n2n.system.options import options
from n2n.system.yaml_files import dump_yaml, is_utf8_here, load_yaml

# The bundled folder of configurations that choose the images.
_DATA = "data"


def bundled_folder() -> Path:
    """Return the folder of the bundled configurations: in the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    return folder if (folder := package / "configs").is_dir() else package.parent / "configs"


def bundled_names() -> list[str]:
    """Return the bundled configurations as they are given to ``--config``."""
    folder = bundled_folder()
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml"))


def describe_config(name: str) -> str:
    """Return the description of a bundled configuration: the start of the comment in its first line."""
    with (bundled_folder() / name).open(encoding="utf-8") as file:
        comment = file.readline().strip("# \n")
    return re.split(r"[:.;] | \(", comment)[0].rstrip(".:;")


def _expected() -> str:
    # Not those of other commands.
    names = [name for name in bundled_names() if name.startswith(f"{_DATA}/") or "/" not in name]
    return f"the path of a YAML file, or one of the bundled {', '.join(names)}, table1/*.yaml"


def find_config(name: str, option: str = "--config") -> Path:
    """Find a configuration: a path first, then the bundled ones, with or without ``.yaml``.

    Args:
        name: the path or the name.
        option: the one that names it, for the message.

    Raises:
        InputError: if there is none, with those that may have been meant, or if the file is not YAML in UTF-8.
    """
    if Path(name).is_file():
        load_yaml(Path(name), "a YAML file in UTF-8")
        return Path(name)
    names = bundled_names()
    for candidate in (name, f"{name}.yaml"):
        if candidate in names:
            return bundled_folder() / candidate
    stems = [full.removesuffix(".yaml") for full in names]
    # The folder may have been left out.
    known = {short: full for full in stems for short in (full.rpartition("/")[2], full)}
    close = difflib.get_close_matches(name.removesuffix(".yaml"), known, n=1, cutoff=0.65)
    hint = f" (did you mean {known[close[0]]}?)" if close else ""
    raise InputError(f"{option}: there is no config {name!r}{hint}: give {_expected()}")


def matching(names: Iterable[str]) -> Iterator[str]:
    """Replace patterns such as ``table1/*.yaml`` by the bundled names that they match; the shell leaves those as they are."""
    for name in names:
        yield from fnmatch.filter(bundled_names(), name) or [name]


def resolve_configs(args: list[str]) -> list[str]:
    """Replace the names after ``--config`` and ``-c`` in command line arguments by paths, and move them before all options.

    So an option always overrides a configuration, wherever it stands. A bundled configuration of images moves behind the
    bundled ones of networks that follow it, so that both orders mean the same: the images decide, for instance, the size of
    the batches.

    Raises:
        InputError: if there is no such configuration.
    """
    paths: list[Path] = []
    others: list[str] = []
    expected = False
    for argument in args:
        name, equals, value = argument.partition("=")
        is_option = not expected and name in ("--config", "-c")
        if expected or (is_option and equals):
            paths.append(find_config(argument if expected else value))
        elif not is_option:
            others.append(argument)
        expected = is_option and not equals
    if expected:
        raise InputError(f"--config needs a name: {_expected()}")
    configs = [part for path in _data_last(paths) for part in ("--config", str(path))]
    command = 1 if others and not others[0].startswith("-") else 0
    return [*others[:command], *configs, *others[command:]]


def _is_data(path: Path) -> bool:
    return path.parent == bundled_folder() / _DATA


def _data_last(paths: list[Path]) -> list[Path]:
    """Move the bundled configurations of images behind the other bundled ones that directly follow them."""
    ordered: list[Path] = []
    for path in paths:
        at = len(ordered)
        if path.is_relative_to(bundled_folder()) and not _is_data(path):
            while at and _is_data(ordered[at - 1]):
                at -= 1
        ordered.insert(at, path)
    return ordered


def named_configs(args: Sequence[str]) -> list[Path]:
    """Return the files that arguments from :func:`resolve_configs` name; a configuration may be given as text, too."""
    values = options(args, "--config")
    return [Path(value) for value in values if os.path.isfile(value)]  # noqa: PTH113  # Path.is_file fails for long texts


def in_ascii(args: Sequence[str]) -> list[str]:
    """Replace configurations that jsonargparse would misread by their text in ASCII.

    It reads files in the encoding of the system, which on Windows is not UTF-8. A name such as "Zelle ß" would become another.

    Args:
        args: from :func:`resolve_configs`.
    """
    paths = {str(path) for path in named_configs(args) if not is_utf8_here() and not path.read_bytes().isascii()}
    return [dump_yaml(load_yaml(Path(one), "a configuration")) if one in paths else one for one in args]


def config_contents(args: Sequence[str]) -> list[dict[str, Any]]:
    """Return the contents of these files; those that hold no names and values are left out."""
    contents = [load_yaml(path, "a configuration") for path in named_configs(args)]
    return [content for content in contents if isinstance(content, dict)]


def overridden(args: Sequence[str]) -> list[str]:
    """Return a line for each configuration that changes what a bundled configuration of images before it has set.

    Args:
        args: from :func:`resolve_configs`.
    """
    paths, lines = named_configs(args), []
    for number, later in enumerate(paths):
        for earlier in paths[:number]:
            if not _is_data(earlier) or _is_data(later):
                continue
            before, content = (flatten(load_yaml(path, "a configuration")) for path in (earlier, later))
            if names := [key for key in before if key in content and _short(content[key]) != _short(before[key])]:
                name = earlier.relative_to(bundled_folder())
                lines.append(f"{later} comes after {name} and changes {', '.join(names)}: the later config wins")
    return lines


def _short(value: Any) -> Any:
    """Return a class without its module: its name alone means the same."""
    return value.removeprefix("n2n.data.") if isinstance(value, str) else value


def differences(saved: Any, asked: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield the differences between two parts of configurations in the keys that both have: a dotted key, and both values."""
    if isinstance(saved, dict) and isinstance(asked, dict):
        for name in sorted(saved.keys() & asked.keys()):
            yield from differences(saved[name], asked[name], f"{key}.{name}")
    elif (list(saved) if isinstance(saved, tuple) else saved) != (list(asked) if isinstance(asked, tuple) else asked):
        yield key, saved, asked


def flatten(content: Any, name: str = "") -> dict[str, Any]:
    """Return a configuration with dotted keys; lists stay whole."""
    if not isinstance(content, dict) or not content:
        return {name: content}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{name}.{key}" if name else str(key))
    return flat
