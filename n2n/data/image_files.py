"""Image files to denoise, and where to write them: the data of ``Trainer.predict``."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import lightning as L

from n2n.data.images import (
    EXPECTED,
    find_format,
    find_images,
    find_suffix,
    is_image,
    left_out,
    split_part,
    without_suffix,
    written_name,
)
from n2n.data.reading import FileBatches, FileReader, ImageFile
from n2n.errors import InputError
from n2n.system.files import expanded


def match_files(source: Path, output: Path, overwrite: bool, spread: bool = False) -> list[ImageFile]:
    """Return each input with the output that belongs to it, and a map of the spread before it if asked.

    Args:
        source: an image, one of several in a file (``FILE:PART``), or a folder of images.
        output: the folder to write to; for one image also a file.
        overwrite: whether outputs that exist are replaced.
        spread: whether to write a map of the spread of each image too, ``NAME.spread.ome.tif`` beside the output.

    Raises:
        InputError: if there is nothing to denoise, an output would replace a file, or an output cannot be written there.
    """
    if not split_part(source)[0].exists():
        raise InputError(f"--input {source} is not there: expected an image or a folder of images")
    if source.is_dir() and not is_image(source):
        if output.is_file():
            raise InputError(f"--output {output} is a file and --input a folder: name a folder to write to")
        # Path.resolve raises RuntimeError for a loop of links, os.path.realpath follows it as far as it goes.
        to, within = (Path(os.path.realpath(path)) for path in (output, source))
        inside = to != within and to.is_relative_to(within)
        found = [
            file for file in find_images([source]) if not (inside and Path(os.path.realpath(file)).is_relative_to(to))
        ]
        if not found:
            others = f" ({line})" if (line := left_out([source], output)) else ""
            raise InputError(f"there is no image in {source}{others}: expected {EXPECTED}")
        files = [ImageFile(file, output / file.relative_to(source).with_name(written_name(file))) for file in found]
    else:
        as_file = find_format(output) is not None and (not output.is_dir() or is_image(output))
        files = [ImageFile(source, output if as_file else output / written_name(source))]
    if spread:
        files = [both for file in files for both in (_map_of(file), file)]
    _check_distinct(files)
    if not overwrite:
        _check_free(files)
    for folder in {file.target.parent for file in files}:
        existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not existing.is_dir():
            raise InputError(f"--output cannot be in {folder}: {existing} is a file; name a folder")
        if not os.access(existing, os.W_OK):
            raise InputError(f"--output cannot be in {folder}: {existing} may not be written to; name another folder")
    return files


def _map_of(file: ImageFile) -> ImageFile:
    """Return the map of the spread of an image, which is read before the image may be replaced."""
    if file.target.exists() and file.target.samefile(split_part(file.source)[0]):
        raise InputError(f"--spread needs {file.source} unchanged: name another --output")
    name = f"{without_suffix(file.target.name)}.spread.ome.tif"
    return ImageFile(file.source, file.target.with_name(name), spread=True)


def describe_suffixes(files: Sequence[ImageFile]) -> str:
    """Say which of the files that were written have another suffix than their inputs, because n2n does not write that one."""
    changed = Counter(
        f"{find_suffix(file.source.name)} as {find_suffix(file.target.name)}"
        for file in files
        if file.done and file.target.name == written_name(file.source) != split_part(file.source)[0].name
    )
    return ", ".join(f"{count} {pair}" for pair, count in sorted(changed.items()))


def _check_distinct(files: Sequence[ImageFile]) -> None:
    """Refuse inputs that would get one output or one map, because they differ in their suffixes only."""
    first: dict[str, Path] = {}
    for file in files:
        target = str(file.target)
        if sys.platform in ("darwin", "win32"):  # A.png and a.png are one file there
            target = unicodedata.normalize("NFC", target).casefold()
        if (other := first.setdefault(target, file.source)) != file.source:
            raise InputError(f"{other} and {file.source} would both be written as {file.target}: rename one of them")


def _check_free(files: Sequence[ImageFile]) -> None:
    there = [file for file in files if file.target.exists()]
    for file in there:
        if file.target.samefile(split_part(file.source)[0]):
            raise InputError(f"--output would replace the input {file.source}: name another folder, or add --overwrite")
    if there:
        found = f"{there[0].target} exists" if len(there) == 1 else f"{there[0].target} and {len(there) - 1} more exist"
        raise InputError(f"{found} already: name another --output, or add --overwrite")


class ImageFiles(L.LightningDataModule):
    """Image files for ``Trainer.predict``, shared out among the processes, each file once.

    The Trainer needs the callback :class:`n2n.trainer.image_writer.WriteImages`, which writes the results.

    Args:
        input: an image, or a folder of images (subfolders too).
        output: the folder to write to, under the names of the inputs; for one image also a file, whose suffix may name another
            format.
        overwrite: whether to replace outputs that exist, and inputs that ``output`` names.
        spread: whether to write a map of the spread beside each result too, ``NAME.spread.ome.tif``; see
            :meth:`n2n.Denoiser.spread`.
        axes: the letters of the axes of all files, such as TCYX; by default those that each file names. See
            :mod:`n2n.data.images.axes`.

    Raises:
        InputError: if a name is empty.
    """

    # A process without files has nothing to do.
    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(
        self,
        input: str,  # noqa: A002  # the name of the option
        output: str,
        overwrite: bool = False,
        spread: bool = False,
        axes: str | None = None,
    ) -> None:
        super().__init__()
        # An empty name, as of a variable that is not set, would mean the current folder.
        if not (input and output):
            raise InputError(f"--input is {input!r} and --output {output!r}: expected names that are not empty")
        self.spread = spread
        self.input, self.output, self.overwrite, self.axes = expanded(input), expanded(output), overwrite, axes
        # All files; after the prediction each says what became of it, in all processes.
        self.files: list[ImageFile] = []
        # A line on the files that n2n does not read; known to the first process.
        self.left_out: str | None = None
        self._reader = FileReader([])

    def setup(self, stage: str) -> None:
        """Match inputs and outputs, in the first process: others might see files that it has written already.

        Raises:
            InputError: as :func:`match_files`.
        """
        assert self.trainer is not None
        found: list[ImageFile] | InputError = []
        if self.trainer.is_global_zero:
            try:
                found = match_files(self.input, self.output, self.overwrite, self.spread)
                self.left_out = left_out([self.input], self.output)
            except InputError as error:
                found = error
        found = self.trainer.strategy.broadcast(found)
        if isinstance(found, InputError):
            if self.trainer.is_global_zero:
                raise found
            raise SystemExit(2)  # one process says it
        self.files = found
        self._reader = FileReader(self.share, self.axes)

    @property
    def share(self) -> list[ImageFile]:
        """The files of this process."""
        assert self.trainer is not None
        return self.files[self.trainer.global_rank :: self.trainer.world_size]

    def predict_dataloader(self) -> FileBatches:
        """Return the files of this process, each a batch."""
        return FileBatches(self.share, self._reader)

    def on_exception(self, exception: BaseException) -> None:
        """Stop reading."""
        self._reader.close()

    def teardown(self, stage: str) -> None:
        """Tell all processes what became of each file.

        Raises:
            InputError: if no callback has written the files.
        """
        assert self.trainer is not None
        self._reader.close()
        for rank in range(self.trainer.world_size):
            fates = self.trainer.strategy.broadcast([(file.done, file.failure) for file in self.share], src=rank)
            for file, fate in zip(self.files[rank :: self.trainer.world_size], fates, strict=True):
                file.done, file.failure = fate
        if not any(file.done or file.failure for file in self.files):
            raise InputError("no file was written: give the Trainer callbacks=[n2n.trainer.image_writer.WriteImages()]")
