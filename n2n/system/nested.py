"""Nested plain values of files that may be hostile: a few references to references claim any number of values."""

from __future__ import annotations

from collections.abc import Iterator

from n2n.errors import InputError

# Far above those of any configuration.
MOST_VALUES = 100_000


def every(content: object) -> Iterator[object]:
    """Give a value and all that it holds: those of lists and tuples, keys and values of dicts.

    Raises:
        InputError: if they are far too many, as in what holds itself.
    """
    waiting, count = [content], 0
    while waiting:
        value = waiting.pop()
        yield value
        if isinstance(value, dict):
            # An OrderedDict out of a file may have attributes in the place of its methods.
            inside = [*value, *dict.values(value)]
        else:
            inside = list(value) if isinstance(value, list | tuple) else []
        count += len(inside)
        if count > MOST_VALUES:
            raise InputError(f"it holds more than {MOST_VALUES:,} values")
        waiting += inside
