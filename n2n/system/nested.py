"""Nested values from files that may be hostile: in a few bytes, lists that hold one another claim any number of values."""

from __future__ import annotations

from collections.abc import Iterator

from n2n.errors import InputError

# Far more than any configuration has.
MOST_VALUES = 100_000


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
            # An OrderedDict out of a file may have attributes in the place of its methods.
            inside = [*value, *dict.values(value)]
        else:
            inside = list(value) if isinstance(value, list | tuple) else []
        count += len(inside)
        if count > MOST_VALUES:
            raise InputError(f"it holds more than {MOST_VALUES:,} values")
        waiting += inside
