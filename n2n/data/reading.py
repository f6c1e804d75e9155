"""Image files to denoise, opened and read ahead in a thread, the next file too while the last strips of one are denoised."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from n2n.data.images import ImageReader, ImageWriter, create_image, open_image
from n2n.data.images.planes import Floats, channels_together
from n2n.errors import InputError, one_line
from n2n.system.threads import Prefetch

# Strips that wait to be denoised.
_WAITING = 2


@dataclass
class ImageFile:
    """One file to denoise.

    Attributes:
        source: an image.
        target: where to write it, in the format of the suffix; a file that exists is replaced.
        failure: why it was not denoised; the message names the file.
        done: whether the target is written.
        spread: whether the target is a map of how much the results of the flips and rotations differ, float32 in the units of
            the image.
    """

    source: Path
    target: Path
    failure: InputError | None = None
    done: bool = False
    spread: bool = False

    def fail(self, error: BaseException) -> None:
        """Keep the first failure; later ones follow from it.

        Raises:
            BaseException: the error itself, if no file can have caused it.
        """
        if isinstance(error, MemoryError):
            error = InputError(f"{self.source} needs more memory than there is: give a smaller --tile, or cut it up")
        if not isinstance(error, InputError):
            raise error
        if self.failure is None:
            named = any(one_line(str(path)) in str(error) for path in (self.source, self.target))
            self.failure = error if named else InputError(f"{self.source}: {error}")


class Preparation(NamedTuple):
    """What a denoiser finds out about an open image before it denoises it.

    Attributes:
        rows: height in pixels of the strips to read.
        survey: the range of the image's values, as the denoiser takes it.
        remarks: lines on what differs from the training images, and on what is not written.
    """

    rows: int
    survey: Any
    remarks: list[str]


@dataclass
class OpenImage:
    """An image that is being read, with its writer; its strips follow, and an :class:`End`."""

    file: ImageFile
    image: ImageReader
    writer: ImageWriter
    found: Preparation
    # Closes the image that the writer asks for tags; the reading thread closes the other one.
    files: ExitStack = field(default_factory=ExitStack)


@dataclass
class End:
    """The end of a file's strips, or the error that ended them."""

    error: BaseException | None = None


Event = ImageFile | OpenImage | End | NDArray[Any]
Prepare = Callable[[ImageReader], Preparation]


class FileReader:
    """Reads files ahead in a thread, which starts with the first :meth:`open` and stops with :meth:`close`.

    Args:
        files: to be opened in this order.
        axes: the letters of the axes of all files; by default those that each names.
    """

    def __init__(self, files: Sequence[ImageFile], axes: str | None = None) -> None:
        self._files, self._axes, self._stack = files, axes, ExitStack()
        self._events: Iterator[Event] | None = None

    def open(
        self, file: ImageFile, prepare: Prepare, channels: int | None
    ) -> tuple[OpenImage, Iterator[NDArray[Any]]] | None:
        """Return a file and its strips; None if it cannot be opened, and then it says why.

        Args:
            file: after those that were opened before; strips that are left of these are dropped.
            prepare: called in the thread for every file; that of the first call of this method is kept.
            channels: C of the network. Pages that are the channels of one image are read together if they are as many.
        """
        if self._events is None:
            events = _read(self._files, self._axes, prepare, channels)
            self._events = iter(self._stack.enter_context(Prefetch(events, _WAITING)))
        for event in self._events:
            if event is file:
                return None
            if isinstance(event, OpenImage) and event.file is file:
                return event, until_end(self._events)
        return None

    def close(self) -> None:
        """Stop the thread."""
        self._stack.close()


class FileBatch:
    """One image file as a batch of a data loader: ``predict_step`` opens it.

    Args:
        file: to denoise.
        reader: of this file and those before and after it.
    """

    def __init__(self, file: ImageFile, reader: FileReader) -> None:
        self.file, self._reader = file, reader

    def open(self, prepare: Prepare, channels: int | None) -> tuple[OpenImage, Iterator[NDArray[Any]]] | None:
        """Open the file, as :meth:`FileReader.open`."""
        return self._reader.open(self.file, prepare, channels)


class FileBatches:
    """The data loader of a process's files.

    Args:
        files: to denoise.
        reader: of these files.
    """

    def __init__(self, files: Sequence[ImageFile], reader: FileReader) -> None:
        self._files, self._reader = files, reader

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[FileBatch]:
        return (FileBatch(file, self._reader) for file in self._files)


def _read(files: Sequence[ImageFile], axes: str | None, prepare: Prepare, channels: int | None) -> Iterator[Event]:
    """Open and read files."""

    def opened(file: ImageFile) -> ImageReader:
        image = open_image(file.source, axes)
        together = channels_together(image)
        return together if together.channels == channels else image

    for file in files:
        try:
            with opened(file) as image, ExitStack() as others:
                # Tags are read while strips are: from a file of its own.
                like = others.enter_context(opened(file))
                writer = create_image(file.target, Floats(like) if file.spread else like)
                found = prepare(image)
                found.remarks.extend(writer.remarks)
                yield OpenImage(file, image, writer, found, others.pop_all())
                end = End()
                try:
                    for strip in image.strips(found.rows):
                        if file.failure is not None:
                            raise file.failure  # it cannot be written: the rest need not be read
                        yield strip
                except (InputError, MemoryError) as error:
                    end = End(error)
            yield end  # the image is closed: Windows replaces no open file
        except (InputError, MemoryError) as error:
            file.fail(error)
            yield file


def until_end(events: Iterator[Event]) -> Iterator[NDArray[Any]]:
    """Yield the strips of one file, and raise the error that ended them."""
    for event in events:
        if isinstance(event, End):
            if event.error is not None:
                raise event.error
            return
        assert not isinstance(event, ImageFile | OpenImage)
        yield event


def skip(strips: Iterator[NDArray[Any]]) -> None:
    """Drop what is left of a file's strips. Its errors are known already, or follow from those."""
    try:
        for _ in strips:
            pass
    except (InputError, MemoryError):
        pass
