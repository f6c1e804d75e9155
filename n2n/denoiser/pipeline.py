"""Image files denoised into others, reading, network and writing at the same time.

A thread reads ahead, through the end of one file into the next; the network runs in the calling thread; another thread
writes behind. What waits between them is a few strips, so memory stays flat.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from n2n.data.images import ImageReader, ImageWriter, create_image, open_image
from n2n.denoiser.streaming import denoise_image, remarks, survey_image
from n2n.errors import InputError, one_line
from n2n.system.threads import Prefetch, WriteBehind

if TYPE_CHECKING:
    from n2n.denoiser.denoiser import Denoiser
    from n2n.denoiser.survey import Survey

# Strips that wait to be denoised, and to be written.
_WAITING = 2


@dataclass
class Job:
    """One file to denoise.

    Attributes:
        source: an image.
        target: where to write, in the format of its suffix; replaced if it is there.
        failure: why it was not denoised, once that is known; the message names the file.
        done: whether the target is written.
    """

    source: Path
    target: Path
    failure: InputError | None = None
    done: bool = False

    def fail(self, error: BaseException) -> None:
        """Keep the first failure; what follows from it is not told.

        Raises:
            BaseException: the error itself, if it is none of those that a file can cause.
        """
        if isinstance(error, MemoryError):
            error = InputError(f"{self.source} needs more memory than there is: give a smaller --tile, or cut it up")
        if not isinstance(error, InputError):
            raise error
        if self.failure is None:
            named = any(one_line(str(path)) in str(error) for path in (self.source, self.target))
            self.failure = error if named else InputError(f"{self.source}: {error}")


@dataclass
class _Opened:
    """A file's start, as it goes from thread to thread; its strips follow, and an :class:`_End`."""

    number: int
    job: Job
    image: ImageReader
    writer: ImageWriter
    survey: Survey
    remarks: list[str]
    # Closes the image that the writer asks for tags; the one that is read is closed by its reader.
    files: ExitStack = field(default_factory=ExitStack)


@dataclass
class _End:
    """The end of a file's strips, or what went wrong there."""

    error: BaseException | None = None


_Event = Job | _Opened | _End | NDArray[Any]


def denoise_files(
    denoiser: Denoiser,
    jobs: Sequence[Job],
    warn: Callable[[str], object] = warnings.warn,
    progress: Callable[[int, float], object] | None = None,
) -> None:
    """Denoise files into others, in order; of one that fails nothing is left, and the others go on.

    What became of each is told by its job: ``done`` or ``failure``. If this raises or is interrupted, no half file is left.

    Args:
        denoiser: to use.
        jobs: the files.
        warn: takes a line on what in an image is not what the network was trained on.
        progress: takes the number of a job, from 0, and the share of its image that was finished, again and again; the shares
            add up to 1.
    """
    with WriteBehind(_write, _WAITING) as behind, Prefetch(_read(denoiser, jobs), _WAITING) as ahead:
        events = iter(ahead)
        for opened in events:
            if not isinstance(opened, _Opened):
                continue  # could not be opened: its job says why
            for line in opened.remarks:
                warn(f"{opened.job.source}: {line}")
            behind.put(opened)
            image, strips = opened.image, _until_end(events)
            end = _End()
            try:
                for strip in denoise_image(denoiser, image, opened.survey, strips):
                    behind.put(strip)
                    if progress is not None:
                        progress(opened.number, len(strip) / (image.pages * image.height))
            except (InputError, MemoryError) as error:
                opened.job.fail(error)  # so that the rest is not read
                end = _End(error)
                _skip(strips)
            behind.put(end)


def _read(denoiser: Denoiser, jobs: Sequence[Job]) -> Iterator[_Event]:
    """Open and read files; runs ahead."""
    for number, job in enumerate(jobs):
        try:
            with open_image(job.source) as image, ExitStack() as files:
                # Tags are read while strips are: from a file of its own.
                writer = create_image(job.target, files.enter_context(open_image(job.source)))
                denoiser.network.check_channels(image.channels)
                survey = survey_image(denoiser, image)
                yield _Opened(number, job, image, writer, survey, remarks(denoiser, image, survey), files.pop_all())
                end = _End()
                try:
                    for strip in image.strips(denoiser.tile):
                        if job.failure is not None:
                            raise job.failure  # it cannot be written: the rest need not be read
                        yield strip
                except (InputError, MemoryError) as error:
                    end = _End(error)
                yield end
        except (InputError, MemoryError) as error:
            job.fail(error)
            yield job


def _write(events: Iterator[_Event]) -> None:
    """Write files; runs behind."""
    for opened in events:
        assert isinstance(opened, _Opened)
        strips = _until_end(events)
        with opened.files:
            try:
                opened.writer.write(strips)
                opened.job.done = True
            except (InputError, MemoryError) as error:
                opened.job.fail(error)
            # A writer that has all rows does not ask for the end, and one that failed not for the rest.
            _skip(strips)


def _until_end(events: Iterator[_Event]) -> Iterator[NDArray[Any]]:
    """Give the strips of one file, and raise what it ended with."""
    for event in events:
        if isinstance(event, _End):
            if event.error is not None:
                raise event.error
            return
        assert not isinstance(event, Job | _Opened)
        yield event


def _skip(strips: Iterator[NDArray[Any]]) -> None:
    """Take what is left of a file's strips from the way; what is wrong there has been told, or follows from what was."""
    try:
        for _ in strips:
            pass
    except (InputError, MemoryError):
        pass
