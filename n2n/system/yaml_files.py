"""Reading YAML files and nested values that may be hostile, as a few bytes may claim any number of values; writing YAML."""

from __future__ import annotations

import codecs
import locale
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from n2n.errors import InputError, reason
from n2n.system.files import file_size

# Far more than any configuration has.
MOST_VALUES, _MOST_BYTES = 100_000, 2**20
# Text that is a number to jsonargparse, as in YAML 1.2, and none to PyYAML, such as 1e5.
_NUMBER = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")
_FLOAT = "tag:yaml.org,2002:float", _NUMBER, list("-+0123456789")


def nested_values(content: object) -> Iterator[object]:
    """Yield a value and all values inside it: items of lists and tuples, keys and values of dicts.

    Raises:
        InputError: if there are more than ``MOST_VALUES``, as in a list that holds itself.
    """
    waiting, count = [content], 0
    while waiting:
        value = waiting.pop()
        yield value
        if isinstance(value, dict):
            # Not ``value.values()``: an OrderedDict from a file may have attributes in place of its methods.
            inside = [*value, *dict.values(value)]
        else:
            inside = list(value) if isinstance(value, list | tuple) else []
        count += len(inside)
        if count > MOST_VALUES:
            raise InputError(f"it holds more than {MOST_VALUES:,} values")
        waiting += inside


def load_yaml(path: Path, wanted: str) -> Any:
    """Read a YAML file of plain values; ``wanted`` says in messages what is expected in it.

    Raises:
        InputError: if it is no file, too large, no YAML, or has too many values.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Limits merged keys (<<), whose number may double again and again in PyYAML before 6.0.4."""

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            super().flatten_mapping(node)
            if len(node.value) > MOST_VALUES:
                raise InputError(f"more than {MOST_VALUES:,} keys are merged")

    Loader.add_implicit_resolver(*_FLOAT)
    if file_size(path, wanted) > _MOST_BYTES:
        raise InputError(f"{path} has more than {_MOST_BYTES:,} bytes: expected {wanted}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
        for _ in nested_values(content):  # raises if there are too many
            pass
    except Exception as error:  # of many kinds, as for dates that do not exist
        raise InputError(f"{path} cannot be read ({reason(error)}): expected {wanted}") from None
    return content


def is_utf8_here() -> bool:
    """Whether files without a stated encoding, as jsonargparse opens them, are UTF-8. On Windows they are not."""
    return codecs.lookup(locale.getpreferredencoding(False)).name == "utf-8"


def dump_yaml(content: Any) -> str:
    """Return plain values as YAML of a configuration, in which text such as 1e5, the name of a folder, stays text.

    Where jsonargparse would not write it as UTF-8, it is ASCII: other letters are escaped.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes such text in quotes."""

    Dumper.add_implicit_resolver(*_FLOAT)
    return str(yaml.dump(content, Dumper=Dumper, allow_unicode=is_utf8_here(), sort_keys=False))
