"""Reading YAML files that may be damaged, or written to take the memory or to be read for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from n2n.errors import InputError, reason
from n2n.system.files import file_size
from n2n.system.nested import MOST_VALUES, every

# The largest configuration has a few kilobytes.
_MOST_BYTES = 2**20


def load_yaml(path: Path, wanted: str) -> Any:
    """Read a YAML file of plain values.

    Args:
        path: the file.
        wanted: what is expected in it, for the messages.

    Raises:
        InputError: if it is no file, too large, no YAML, or its values refer to one another so that they are far too many.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Does not let keys that are merged (<<) double again and again, as PyYAML before 6.0.4 does."""

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            super().flatten_mapping(node)
            if len(node.value) > MOST_VALUES:
                raise InputError(f"more than {MOST_VALUES:,} keys are merged")

    if file_size(path, wanted) > _MOST_BYTES:
        raise InputError(f"{path} has more than {_MOST_BYTES:,} bytes: expected {wanted}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
        for _ in every(content):  # which refuses too many
            pass
    except Exception as error:  # values such as dates that are none fail in many ways
        raise InputError(f"{path} cannot be read ({reason(error)}): expected {wanted}") from None
    return content
