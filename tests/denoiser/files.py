"""Files denoised in a row, as ``n2n predict`` does it, without a Trainer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import closing

from n2n.data.reading import FileBatch, FileReader, ImageFile
from n2n.denoiser.denoiser import Denoiser
from n2n.denoiser.pipeline import Prediction, file_writer, write


def denoise_files(
    denoiser: Denoiser,
    files: Sequence[ImageFile],
    warn: Callable[[str], object] = warnings.warn,
    progress: Callable[[int, float], object] | None = None,
) -> None:
    """Denoise files into others, in order. Each file says what became of it: ``done`` or ``failure``.

    Args:
        denoiser: to use.
        files: to denoise.
        warn: takes a line on what in an image differs from the training images.
        progress: takes the number of a file, from 0, and the share of its image that was finished.
    """
    with file_writer() as behind, closing(FileReader(files)) as reader:
        for number, file in enumerate(files):
            prediction = Prediction(denoiser, FileBatch(file, reader))
            write(
                prediction,
                behind,
                lambda part, number=number: progress and progress(number, part),  # type: ignore[misc]
                lambda source, line: warn(f"{source}: {line}"),
            )
