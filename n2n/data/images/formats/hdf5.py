"""HDF5 files: one data set of two axes or more; ``FILE:/path/to/dataset`` if there are several. This needs ``h5py``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py

from n2n.data.images.base import Array, ImageReader, refusing_damage
from n2n.data.images.formats.arrays import ArrayReader
from n2n.data.images.formats.chunked import (
    check_claims,
    default_chunks,
    note_unwritten,
    read_rows,
    unwritten,
    write_rows,
)
from n2n.data.images.formats.ome_axes import letters
from n2n.data.images.formats.table import split_part
from n2n.data.images.writer import ImageWriter
from n2n.errors import InputError

_WANTED = "an HDF5 file with an image"
# Longest path in a file, in characters.
_LONGEST = 4096
# Soft links that are followed to a data set.
_MOST_LINKS = 16
# Attributes that refer to other objects of the file, which are not written.
_REFERRING = ("DIMENSION_LIST", "REFERENCE_LIST")


class Hdf5Reader(ArrayReader):
    """A data set, read by rows of chunks. Its dimensions' labels name the axes if they are letters, Y and X among them.

    Nothing outside of the file is opened: links to other files are refused, and so are data sets that are kept there.
    """

    def _open(self) -> None:
        file, part = split_part(self.path)
        with refusing_damage(file, _WANTED, " or not an HDF5 file"):
            opened = self._files.enter_context(h5py.File(file, "r", locking=False))
            found = _resolve(opened, part, self.path) if part else self._only(opened)
            self.data: h5py.Dataset = found
            self._describe()

    def _only(self, file: h5py.File) -> h5py.Dataset:
        sets: list[h5py.Dataset] = []

        def visit(name: str, node: h5py.HLObject) -> None:
            if len(name) > _LONGEST:  # to visit deeper ones takes ever longer
                raise self._error(f"has a group whose path is longer than {_LONGEST:,} characters: expected an image")
            if isinstance(node, h5py.Dataset) and len(node.shape or ()) >= 2 and node.dtype.kind in "uif":
                sets.append(node)

        file.visititems(visit)  # follows no links to other files
        if len(sets) != 1:
            listed = ", ".join(f"{node.name} ({'×'.join(map(str, node.shape))})" for node in sets[:5]) or "none"
            raise self._error(f"holds {len(sets)} data sets of two axes or more ({listed}): name one, "
                              f"{self.path.name}:/path/to/dataset")  # fmt: skip
        return sets[0]

    def _describe(self) -> None:
        data = self.data
        if data.external or (data.is_virtual and any(source.file_name != "." for source in data.virtual_sources())):
            raise self._error("keeps its values in other files, which n2n does not open: copy them into one file")
        if data.shape is None or data.dtype.kind not in "uif":
            raise self._error(f"holds {data.dtype} in {data.name}: expected numbers")
        self.dtype = data.dtype.newbyteorder("=")
        named = letters([dimension.label for dimension in data.dims])
        self._layout = self._name_axes(data.shape, named)
        self.pages, self.height, self.width, self.channels = self._layout.sizes
        chunks = data.chunks or tuple(1 for _ in data.shape)
        self._block = max(1, min(self.height, chunks[self._layout.rows]))
        stored = Path(data.file.filename).stat().st_size if data.is_virtual else data.id.get_storage_size()
        check_claims(self.path, data.shape, chunks, data.dtype.itemsize, stored)

    def _decode(self, page: int, start: int, stop: int) -> Array:
        return read_rows(self.data, self._layout, page, start, stop).astype(self.dtype, copy=False)


def _resolve(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """Return a data set by its path in the file. Links to other files are refused."""
    parts, node, links = [part for part in name.split("/") if part], file, 0
    while parts:
        part = parts.pop(0)
        try:  # "part in node" would open the file that a link leads to
            link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        except KeyError:
            link = None
        if isinstance(link, h5py.ExternalLink):
            raise InputError(f"{path} is a link to another file, {link.filename:.80}: name that file")
        if isinstance(link, h5py.SoftLink) and links < _MOST_LINKS:
            links += 1
            node = file if link.path.startswith("/") else node
            parts = [step for step in link.path.split("/") if step] + parts
        elif isinstance(link, h5py.HardLink):
            node = node[part]
        else:
            raise InputError(f"{path} is not there: {part:.80} is not in {node.name}; name a data set of the file")
    if not isinstance(node, h5py.Dataset):
        raise InputError(f"{path} is a group: name a data set in it ({', '.join(list(node.keys())[:5])})")
    return node


class Hdf5Writer(ImageWriter):
    """Writes an HDF5 file with one data set, row by row.

    From HDF5 it keeps the path in the file, the attributes of the data set and of the groups that it is in, byte order, chunks
    and compression; a remark counts what else is in the file. From another format the data set is called ``image``.
    """

    def __init__(self, path: Path, like: ImageReader) -> None:
        super().__init__(path, like)
        if isinstance(like, Hdf5Reader):
            line = None
            # A remark must not keep the image from being written, and the rest of the file may be damaged.
            with suppress(Exception):
                line = unwritten(_others(like.data))
            note_unwritten(self, line)

    def _write(self, path: Path, strips: Iterator[Array]) -> None:
        like = self.like
        with h5py.File(path, "w") as file:
            if isinstance(like, Hdf5Reader):
                data = _copy_empty(file, like.data)
            else:
                data = file.create_dataset("image", like.shape, like.dtype, chunks=default_chunks(like))
                for dimension, letter in zip(data.dims, like.axes, strict=True) if like.named else ():
                    dimension.label = letter.lower()
            chunks = data.chunks or default_chunks(like)
            write_rows(data, like, strips, chunks[like.axes.index("Y")])


def _path(data: h5py.Dataset) -> list[bytes]:
    """Return the names of the groups that a data set is in, and its own. Names need not be valid text."""
    name: bytes = h5py.h5i.get_name(data.id)
    return name.strip(b"/").split(b"/")


def _others(data: h5py.Dataset) -> Iterator[str]:
    """Yield what else is in the groups that a data set is in. Nothing is opened for it."""
    group, above = data.file["/"], ""
    for part in _path(data):
        for key in group:
            if (name := key if isinstance(key, bytes) else key.encode()) != part:
                yield above + name.decode(errors="replace")
        group, above = group[part], f"{above}{part.decode(errors='replace')}/"


def _copy_empty(file: h5py.File, source: h5py.Dataset) -> h5py.Dataset:
    """Create a data set like another one, in groups of the same names."""
    *groups, name = _path(source)
    original, group = source.file["/"], file["/"]
    _copy_attributes(original, group)
    for part in groups:
        original, group = original[part], group.create_group(part)
        _copy_attributes(original, group)
    identifier = source.id
    # The creation properties hold chunks, compression and fill value. A virtual data set has other places in them.
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE) if source.is_virtual else identifier.get_create_plist()
    created = h5py.h5d.create(group.id, name, identifier.get_type(), identifier.get_space(), properties)
    data = h5py.Dataset(created)
    _copy_attributes(source, data)
    return data


def _copy_attributes(source: Any, target: Any) -> None:
    for name in source.attrs:
        kind = source.attrs.get_id(name).dtype
        if name not in _REFERRING and h5py.check_ref_dtype(kind) is None:
            value = source.attrs[name]
            target.attrs.create(name, value, dtype=None if isinstance(value, h5py.Empty | str) else kind)
