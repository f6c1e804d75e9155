"""TensorBoard's event files of a run, whole or not."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

from n2n.errors import InputError


def event_files(folder: Path) -> list[Path]:
    """Return the TensorBoard event files of a run, in no order of time."""
    try:
        return sorted(path for path in folder.iterdir() if "tfevents" in path.name and path.is_file())
    except OSError:
        return []


def read_events(folder: Path, images: int = 1) -> list[Any]:
    """Read all event files of a run, in order of time.

    Args:
        folder: of the run.
        images: how many to keep of each tag, the last one in any case; 0 for all.

    Returns:
        An ``EventAccumulator`` for each file that has a whole event.

    Raises:
        InputError: if there is no such folder.
    """
    # Here, so that asking for help does not wait for TensorBoard.
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: expected the folder of a run of n2n fit")
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise InputError(f"{folder} has a name that is not UTF-8, which TensorBoard does not read: rename it") from None
    read = []
    for file in event_files(folder):
        events = EventAccumulator(
            str(file), {"scalars": 0, "images": images, "histograms": 1}, purge_orphaned_data=False
        )
        # A damaged file fails in many ways; what came before the damage is kept.
        with contextlib.suppress(Exception):
            events.Reload()
        try:
            begun = events.FirstEventTimestamp()
        except Exception:  # there is no whole event in it
            continue
        if math.isfinite(begun):
            read.append(events)
    return sorted(read, key=lambda events: events.FirstEventTimestamp())
