"""The files that a run leaves for reports: their names, and how they are read. Imports no torch."""

from __future__ import annotations

import csv
import math
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from n2n.errors import InputError, reason
from n2n.system.files import file_size
from n2n.system.yaml_files import load_yaml

# A row for each epoch: ``epoch`` (completed, from 1), ``step``, ``minutes``, ``seconds``, ``best``, and every logged figure.
METRICS = "metrics.csv"
# Whether the training ended by itself, and what the network costs.
FACTS = "run.yaml"
# Panels of validation images: a PNG file for each, and a table beside it.
PANELS = "panels"

Row = dict[str, float]

# Far above the files of any training. Larger ones are refused before they take the memory.
_MOST_BYTES, _MOST_ROWS, _MOST_COLUMNS = 2**24, 100_000, 1_000
_MOST_EPOCHS = 2**53


def read_table(path: Path, wanted: str) -> list[dict[str, str]]:
    """Read a CSV file with a header.

    Args:
        path: the file.
        wanted: what is expected in it, for the messages.

    Raises:
        InputError: if it is not there, too large or damaged.
    """
    if (size := file_size(path, wanted)) > _MOST_BYTES:
        raise InputError(f"{path} has {size:,} bytes: expected {wanted}, of at most {_MOST_BYTES:,} bytes")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.DictReader(file, strict=True)
            columns = lines.fieldnames or []
            if len(columns) > _MOST_COLUMNS or len(set(columns)) < len(columns):
                raise ValueError("its columns are too many, or have the same name")
            rows = list(islice(lines, _MOST_ROWS + 1))
            if len(rows) > _MOST_ROWS:
                raise ValueError(f"it has more than {_MOST_ROWS:,} rows")
            # DictReader marks rows that are too long by a key None, and rows that are too short by values None.
            if any(None in row or None in row.values() for row in rows):
                raise ValueError("a row is longer or shorter than the header")
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): expected {wanted}") from None
    return rows


def read_metrics(folder: Path) -> list[Row]:
    """Read ``metrics.csv`` of a run: a row for each epoch, without the cells that are empty.

    Raises:
        InputError: if it is not there or damaged.
    """
    path, wanted = folder / METRICS, "the figures that n2n fit wrote, with a row for each epoch"
    rows = read_table(path, wanted)
    try:
        read = [{name: float(cell) for name, cell in row.items() if cell} for row in rows]
        epochs = [row["epoch"] for row in read]
        whole = all(epoch == int(epoch) and 0 < epoch < _MOST_EPOCHS for epoch in epochs)
        if not whole or any(one >= other for one, other in pairwise(epochs)):
            raise ValueError("its epochs are not rising whole numbers")
        if not all(math.isfinite(row[name]) for row in read for name in ("step", "minutes")):
            raise ValueError("its steps or minutes are not finite")
    except (KeyError, ValueError, OverflowError) as error:
        why = f"a row has no {error.args[0]}" if isinstance(error, KeyError) else reason(error)
        raise InputError(f"{path} is damaged ({why}): expected {wanted}") from None
    return read


def read_facts(folder: Path) -> dict[str, Any]:
    """Read ``run.yaml`` of a run; empty if there is none.

    Raises:
        InputError: if it is damaged.
    """
    path, wanted = folder / FACTS, "what n2n fit wrote of a run: finished, parameters, macs_per_pixel, device"
    if not path.exists():
        return {}
    facts = load_yaml(path, wanted)
    if not isinstance(facts, dict):
        raise InputError(f"{path} is damaged: expected {wanted}")
    return facts
