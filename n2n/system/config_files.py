"""The configurations that come with n2n, and how ``--config`` finds them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from pathlib import Path

from n2n.errors import InputError
from n2n.system.yaml_files import load_yaml


def bundled_folder() -> Path:
    """Return the folder of the bundled configurations: in the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    return folder if (folder := package / "configs").is_dir() else package.parent / "configs"


def bundled_names() -> list[str]:
    """Return the bundled configurations as they are given to ``--config``."""
    folder = bundled_folder()
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml"))


def find_config(name: str) -> Path:
    """Find a configuration: a path first, then the bundled ones, with or without ``.yaml``.

    Raises:
        InputError: if there is none, with a list of the bundled ones, or if the file is not YAML in UTF-8.
    """
    if Path(name).is_file():
        load_yaml(Path(name), "a YAML file in UTF-8")
        return Path(name)
    for candidate in (name, f"{name}.yaml"):
        if candidate in bundled_names():
            return bundled_folder() / candidate
    raise InputError(
        f"there is no config {name!r}: give the path of a YAML file, or one of the bundled {', '.join(bundled_names())}"
    )


def matching(names: Iterable[str]) -> Iterator[str]:
    """Replace patterns such as ``table1/*.yaml`` by the bundled names that they match; the shell leaves those as they are."""
    for name in names:
        yield from fnmatch.filter(bundled_names(), name) or [name]


def resolve_configs(args: list[str]) -> list[str]:
    """Replace the names after ``--config`` and ``-c`` in command line arguments by paths."""
    resolved: list[str] = []
    expected = False
    for argument in args:
        name, equals, value = argument.partition("=")
        if expected:
            resolved.append(str(find_config(argument)))
        elif name in ("--config", "-c") and equals:
            resolved.append(f"{name}={find_config(value)}")
        else:
            resolved.append(argument)
        expected = not expected and argument in ("--config", "-c")
    if expected:
        raise InputError(f"--config needs a name: a YAML file, or one of the bundled {', '.join(bundled_names())}")
    return resolved
