"""Reading YAML files that may be damaged or hostile: made to use up the memory, or to be read for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from n2n.errors import InputError, reason
from n2n.system.files import file_size
from n2n.system.nested import MOST_VALUES, nested_values

# Far more than any configuration has.
_MOST_BYTES = 2**20


def load_yaml(path: Path, wanted: str) -> Any:
    """Read a YAML file of plain values.

    Args:
        path: the file.
        wanted: what is expected in it, for messages.

    Raises:
        InputError: if it is no file, too large, no YAML, or has too many values.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Limits merged keys (<<), whose number PyYAML before 6.0.4 lets double again and again."""

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            super().flatten_mapping(node)
            if len(node.value) > MOST_VALUES:
                raise InputError(f"more than {MOST_VALUES:,} keys are merged")

    if file_size(path, wanted) > _MOST_BYTES:
        raise InputError(f"{path} has more than {_MOST_BYTES:,} bytes: expected {wanted}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
        for _ in nested_values(content):  # raises if there are too many
            pass
    except Exception as error:  # of many kinds, as for dates that do not exist
        raise InputError(f"{path} cannot be read ({reason(error)}): expected {wanted}") from None
    return content
