"""Image files denoised into others, reading, network and writing at the same time.

A thread reads ahead (:class:`n2n.data.reading.FileReader`); the network runs in the calling thread; another thread writes
behind. A few strips wait between them, so memory stays flat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from n2n.data.images import ImageReader
from n2n.data.reading import (
    End,
    Event,
    FileBatch,
    OpenImage,
    Preparation,
    skip,
    until_end,
)
from n2n.denoiser.denoiser import Denoiser
from n2n.denoiser.streaming import check_image, denoise_image, remarks, survey_image
from n2n.denoiser.watch import Watch
from n2n.errors import InputError
from n2n.system.threads import WriteBehind

# Strips that wait to be written.
_WAITING = 2


class Prediction:
    """A file that is being denoised.

    Attributes:
        file: with what became of it, once it was written.
        opened: the open image; None if it could not be opened.
        strips: its denoised rows, which are computed when they are asked for.
    """

    def __init__(self, denoiser: Denoiser, batch: FileBatch) -> None:
        spread = batch.file.spread
        if spread:
            denoiser = denoiser.spreading()

        def prepare(image: ImageReader) -> Preparation:
            check_image(denoiser, image)
            survey = survey_image(denoiser, image)
            # The denoised image, not its map, comes with the remarks.
            return Preparation(denoiser.tile, survey, [] if spread else remarks(denoiser, image, survey))

        self.file = batch.file
        self.opened: OpenImage | None = None
        self._watch: Watch | None = None
        self.strips: Iterator[NDArray[Any]] = iter(())
        self._read = self.strips
        if (found := batch.open(prepare, denoiser.network.channels)) is not None:
            self.opened, self._read = found
            image = self.opened.image
            self._watch = None if spread else denoiser.watch(image.dtype, image.white)
            self.strips = denoise_image(denoiser, image, self.opened.found.survey, self._read, self._watch)

    def remarks(self) -> list[str]:
        """Return lines on what its denoised rows showed, once all were computed."""
        return [] if self._watch is None else self._watch.remarks()

    def drop(self) -> None:
        """Drop what was read of the file."""
        skip(self._read)


def file_writer() -> WriteBehind[Event]:
    """Return a thread that writes predictions, one after the other; of a file that fails nothing is left.

    Where its context ends, all files are written; where it raises, the file at hand is dropped.
    """
    return WriteBehind(_write, _WAITING)


def write(
    prediction: Prediction,
    behind: WriteBehind[Event],
    progress: Callable[[float], object],
    warn: Callable[[Path, str], object],
) -> None:
    """Compute a prediction and hand it over to the thread, which says in ``prediction.file`` what became of it.

    Args:
        prediction: to write.
        behind: from :func:`file_writer`.
        progress: takes the share of the image that was finished, again and again; the shares add up to 1.
        warn: takes the file and a line on what in the image differs from the training images, or does not suit the network.
    """
    opened = prediction.opened
    if opened is None:
        return
    for line in opened.found.remarks:
        warn(prediction.file.source, line)
    behind.put(opened)
    end = End()
    try:
        for strip in prediction.strips:
            behind.put(strip)
            progress(len(strip) / (opened.image.pages * opened.image.height))
        for line in prediction.remarks():
            warn(prediction.file.source, line)
    except (InputError, MemoryError) as error:
        prediction.file.fail(error)  # so that the rest is not read
        end = End(error)
        prediction.drop()
    behind.put(end)


def _write(events: Iterator[Event]) -> None:
    """Write files."""
    for opened in events:
        assert isinstance(opened, OpenImage)
        strips = until_end(events)

        def close(opened: OpenImage = opened, strips: Iterator[NDArray[Any]] = strips) -> None:
            # A writer that has all rows does not ask for the end. With the end, the reading thread has closed the other image.
            skip(strips)
            opened.files.close()

        with opened.files:
            try:
                opened.writer.write(strips, close)
                opened.file.done = True
            except (InputError, MemoryError) as error:
                opened.file.fail(error)
            # A writer that failed does not ask for the rest.
            skip(strips)
