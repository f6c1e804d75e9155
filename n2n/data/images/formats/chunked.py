"""Arrays that are kept in chunks: where rows of a page are in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from n2n.data.images.axes import Layout
from n2n.data.images.base import Array, ImageReader, check_piece
from n2n.data.images.formats.table import split_part
from n2n.data.images.writer import ImageWriter, regroup
from n2n.errors import InputError

# Chunks that are missing have the fill value, so a small file may claim any size. An array may claim the first number of bytes,
# or the second for each byte that is stored.
_ALWAYS_ALLOWED, _ALLOWED_PER_BYTE = 2**30, 2**15
# Rows and columns of a chunk, if the source file has no chunks.
_CHUNK = 512
# Names that a remark lists, and those that it counts; hostile files may have millions.
_LISTED, _COUNTED = 5, 1000


def unwritten(others: Iterable[str]) -> str | None:
    """Return the remark on what is in a file beside the image; None if there is nothing else."""
    names = list(islice(others, _COUNTED))
    if not names:
        return None
    listed = ", ".join([f"{name:.80}" for name in names[:_LISTED]] + ["..."] * (len(names) > _LISTED))
    count = f"{len(names)} or more" if len(names) == _COUNTED else f"{len(names)}"
    return f"what else is in the file is not written ({count}: {listed})"


def note_unwritten(writer: ImageWriter, line: str | None) -> None:
    """Let a writer remark on what else is in the source file.

    Raises:
        InputError: if the source file would be replaced, and so what else is in it would be lost.
    """
    if line is None:
        return
    source = split_part(writer.like.path)[0]
    if writer.path.exists() and writer.path.samefile(source):
        raise InputError(f"would replace {source}, and {line}: name another --output")
    writer.remarks.append(line)


def check_claims(path: Path, shape: tuple[int, ...], chunk: tuple[int, ...], itemsize: int, stored: int) -> None:
    """Refuse an array that claims far more bytes than it has, or has chunks larger than n2n takes.

    Args:
        path: for the message.
        shape: of the array.
        chunk: shape of what is decoded together.
        itemsize: bytes of a value.
        stored: bytes that are there.
    """
    claimed = int(np.prod(shape, dtype=object)) * itemsize
    if claimed > max(_ALWAYS_ALLOWED, _ALLOWED_PER_BYTE * stored):
        raise InputError(f"{path} claims {claimed:,} bytes, and holds {stored:,}: it was not written in full")
    check_piece(path, int(np.prod(chunk, dtype=object)) * itemsize)


def read_rows(array: Any, layout: Layout, page: int, start: int, stop: int) -> Array:
    """Read rows of a page from an array that takes NumPy's indices, (stop - start)×W×C."""
    rows = np.asarray(array[_place(layout, page, start, stop)])
    rows = rows if layout.rows < layout.columns else np.moveaxis(rows, 0, 1)
    return rows.reshape(*rows.shape[:2], -1)


def write_rows(array: Any, like: ImageReader, strips: Iterator[Array], block: int) -> None:
    """Write all rows of an image to an array, as many at a time as a chunk has (``block``)."""
    layout = Layout.of(like.axes, like.shape)
    block = min(like.height, block)
    tops = range(0, like.height, block)
    for page in range(like.pages):
        heights = (min(block, like.height - top) for top in tops)
        for top, strip in zip(tops, regroup(strips, heights), strict=True):
            rows = strip if layout.channels is not None else strip[..., 0]
            rows = rows if layout.rows < layout.columns else np.moveaxis(rows, 0, 1)
            array[_place(layout, page, top, top + len(strip))] = rows


def default_chunks(like: ImageReader) -> tuple[int, ...]:
    """Return a shape of chunks for an image that comes from a file without chunks."""
    layout = Layout.of(like.axes, like.shape)
    chunks = [1] * len(like.shape)
    chunks[layout.rows], chunks[layout.columns] = min(_CHUNK, like.height), min(_CHUNK, like.width)
    if layout.channels is not None:
        chunks[layout.channels] = like.shape[layout.channels]
    return tuple(chunks)


def _place(layout: Layout, page: int, start: int, stop: int) -> tuple[int | slice, ...]:
    """Return the index of rows of a page in an array: rows and columns remain, in their order in the array."""
    index: list[int | slice] = [slice(None)] * len(layout.shape)
    if layout.pages:
        for axis, at in zip(layout.pages, np.unravel_index(page, layout.page_shape), strict=True):
            index[axis] = int(at)
    index[layout.rows] = slice(start, stop)
    return tuple(index)
