"""Reading YAML files that may be damaged, or written to take the memory or to be read for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from n2n.errors import InputError, reason

# The largest configuration has a few kilobytes, and some hundred values.
_MOST_BYTES = 2**20
_MOST_VALUES = 100_000


def load_yaml(path: Path, wanted: str) -> Any:
    """Read a YAML file of plain values.

    Args:
        path: the file.
        wanted: what is expected in it, for the messages.

    Raises:
        InputError: if it is no file, too large, no YAML, or its values refer to one another so that they are far too many.
        FileNotFoundError: if it is not there.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Does not let keys that are merged (<<) double again and again, as PyYAML before 6.0.4 does."""

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            super().flatten_mapping(node)
            if len(node.value) > _MOST_VALUES:
                raise InputError(f"more than {_MOST_VALUES:,} keys are merged")

    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"it has more than {_MOST_BYTES:,} bytes")
        if not path.is_file():  # opening a pipe would wait for ever
            raise InputError("it is no file")
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
        _check(content)
    except FileNotFoundError:
        raise
    except Exception as error:  # values such as dates that are none fail in many ways
        raise InputError(f"{path} cannot be read ({reason(error)}): expected {wanted}") from None
    return content


def _check(content: object) -> None:
    """Refuse values that hold themselves, or hold others that hold others, ..., by which a few bytes become any number."""
    waiting, count = [content], 0
    while waiting:
        value = waiting.pop()
        inside = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
        count += len(inside)
        if count > _MOST_VALUES:
            raise InputError(f"it holds more than {_MOST_VALUES:,} values")
        waiting += inside
