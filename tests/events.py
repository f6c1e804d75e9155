"""TensorBoard event files without training, with the times that a test needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
from torch import Tensor
from torch.utils.tensorboard.summary import image, text

# When the runs of the tests start, in seconds since 1970.
START = 1_700_000_000.0


def write_events(
    file: Path, epochs: Iterable[tuple[int, float, Mapping[str, float]]], start: float = 0.0, steps: int = 10
) -> Path:
    """Write what one process logs of a run.

    Args:
        file: whose name should have ``tfevents`` in it.
        epochs: for each the number, from 1; the seconds after START at which it ended; its figures.
        start: of the process, in seconds after START.
        steps: an epoch.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    events = [Event(wall_time=START + start, file_version="brain.Event:2")]
    for epoch, time, figures in epochs:
        for tag, value in {"epoch": epoch - 1, **figures}.items():
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            events.append(Event(wall_time=START + time, step=epoch * steps - 1, summary=summary))
    _append(file, events)
    return file


def add_best(file: Path, time: float) -> None:
    """Add what ``n2n fit`` logs when training ended."""
    summary = Summary(value=[Summary.Value(tag="best/psnr", simple_value=30.0)])
    _append(file, [Event(wall_time=START + time, step=100, summary=summary)])


def add_panel(
    file: Path, picture: Tensor | bytes, table: str | None, step: int, tag: str = "val/noisy_denoised_clean"
) -> None:
    """Add a panel, C×H×W of uint8 or an image file's bytes, and its table."""
    if isinstance(picture, bytes):
        shown = Summary(value=[Summary.Value(tag=tag, image=Summary.Image(encoded_image_string=picture))])
    else:
        shown = image(tag, picture.numpy(), dataformats="CHW")  # type: ignore[no-untyped-call]
    events = [Event(wall_time=START, step=step, summary=shown)]
    if table is not None:
        said = text("val/psnr_of_panel", table)  # type: ignore[no-untyped-call]
        events.append(Event(wall_time=START, step=step, summary=said))
    _append(file, events)


def _append(file: Path, events: Iterable[Any]) -> None:
    with file.open("ab") as raw:
        records = RecordWriter(raw)
        for event in events:
            records.write(event.SerializeToString())
