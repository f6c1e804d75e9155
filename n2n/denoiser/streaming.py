"""Denoising open image files of any size, with one row of tiles in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from n2n.data.images import ImageReader
from n2n.data.images.axes import check_named
from n2n.data.images.gaps import find_gaps, keep_gaps
from n2n.data.images.values import from_unit, to_unit
from n2n.data.images.writer import Rows
from n2n.data.value_range import ValueRange
from n2n.denoiser.denoiser import Denoiser
from n2n.denoiser.survey import Survey
from n2n.denoiser.watch import Watch
from n2n.system.hardware import CUDA, to_device


def check_image(denoiser: Denoiser, image: ImageReader) -> None:
    """Check that the network can take an image's channels.

    Raises:
        InputError: if it cannot, or if the image does not say which of its axes are channels.
    """
    check_named(denoiser.network.channels, image.axes, image.shape, image.named, "--axes")
    if not _one_by_one(denoiser, image):
        denoiser.network.check_channels(image.channels)


def _one_by_one(denoiser: Denoiser, image: ImageReader) -> bool:
    """Whether each channel of an image is denoised by itself."""
    return image.axes[-1] == "C" and denoiser.network.one_by_one(image.channels)


def _range(denoiser: Denoiser, image: ImageReader) -> ValueRange:
    """Return the range of an image; raises as :meth:`Denoiser.value_range`."""
    return denoiser.value_range(image.dtype, image.white)


def survey_image(denoiser: Denoiser, image: ImageReader) -> Survey:
    """Survey an image's values. Integers are not read if none can be outside their range or without data.

    Raises:
        InputError: if the image is damaged, or its range is unknown.
    """
    if image.dtype.kind != "f" and image.nodata is None:
        scale, info = _range(denoiser, image), np.iinfo(image.dtype)
        if scale.low <= info.min and scale.high >= (info.max if image.white is None else image.white):
            return Survey(scale.low, scale.high)
    found = Survey()
    for strip in image.strips(256):
        found |= Survey.of(strip[..., : image.channels], image.nodata)
    return found


def remarks(denoiser: Denoiser, image: ImageReader, survey: Survey) -> list[str]:
    """Return a line for each way in which an image's values differ from those of the training images."""
    scale, trained = _range(denoiser, image), denoiser.trained
    floats = image.dtype.kind == "f"
    lines = list(image.remarks)
    if _one_by_one(denoiser, image):
        lines.append(
            f"it has {image.channels} channels and the network {denoiser.network.channels}: each is denoised by itself, as a "
            "grey image"
        )
    same = image.dtype == trained.dtype and scale == trained.values
    if denoiser.range is None and not same and not (floats and trained.dtype.kind == "f"):
        kind = f"{image.dtype}" if image.white is None else f"{int(image.white).bit_length()}-bit"
        lines.append(
            f"it has {kind} values and the network was trained on {trained.dtype}: {scale} was taken to mean the same "
            f"as {trained.values} there"
        )
    return lines + survey.remarks(scale, floats, image.nodata)


def denoise_image(
    denoiser: Denoiser, image: ImageReader, survey: Survey, strips: Iterator[NDArray[Any]], watch: Watch | None = None
) -> Iterator[NDArray[Any]]:
    """Denoise an open image, each page by itself; take ``strips`` from :meth:`ImageReader.strips` as they are needed.

    ``watch`` sees all rows, noisy and denoised.

    Yields:
        Rows of all pages in order, rows×W×(C + extra) in the image's dtype. Extra samples, such as opacity, are copied, and so
        are values without data. Of a denoiser that gives the spread, rows×W×C float32 in the units of the image.

    Raises:
        InputError: if the network cannot take the image or its values, the memory is too small, or the image is damaged.
    """
    device = denoiser.network.device
    # One by one, the channels are a batch of grey images.
    axis = 0 if _one_by_one(denoiser, image) else 1
    scale = _range(denoiser, image)
    survey.check(scale)
    dtype: torch.dtype = getattr(torch, str(image.dtype))
    limits = survey.limits(scale, image.dtype, image.white)

    spread = denoiser.network.spread

    def to_values(band: Tensor) -> Tensor:
        if spread:
            return (band * (scale.high - scale.low)).squeeze(1 - axis).movedim(0, 2)
        values = from_unit(band, scale.low, scale.high, dtype, limits)
        return values.squeeze(1 - axis).movedim(0, 2)

    for _ in range(image.pages):
        rows = Rows(strips)
        # Rows that were read and not denoised yet.
        ahead: list[NDArray[Any]] = []

        def read(start: int, stop: int, rows: Rows = rows, ahead: list[NDArray[Any]] = ahead) -> Tensor:
            samples = rows.take(stop - start)
            ahead.append(samples)
            values = torch.tensor(samples[..., : image.channels])
            gaps = None if image.nodata is None else (values == image.nodata).to(device)
            if device.type in CUDA:
                # File values take fewer bytes.
                values = to_device(values, device)
            # Map on the CPU for other devices, which lack dtypes of files, such as float64 on Apple GPUs.
            unit = to_unit(values.movedim(2, 0).unsqueeze(1 - axis), scale.low, scale.high).to(device)
            return unit if gaps is None else unit.masked_fill(gaps.movedim(2, 0).unsqueeze(1 - axis), torch.nan)

        with denoiser.network.rows_in_memory(image.width):
            denoised = denoiser.denoise_rows(read, image.height, image.width, survey.gaps > 0)
            for band in _on_cpu(denoised, to_values):
                done = band.numpy()
                before = ahead[0] if len(ahead) == 1 else np.concatenate(ahead)
                before, ahead[:] = before[: len(done)], [before[len(done) :]]
                if spread:
                    yield done
                    continue
                noisy = before[..., : image.channels]
                gaps = find_gaps(noisy, image.nodata) if survey.gaps else None
                if gaps is not None:
                    done = keep_gaps(noisy, done, gaps, image.nodata)
                if watch is not None:
                    watch.add(noisy, done, gaps)
                yield np.concatenate([done, before[..., image.channels :]], axis=2) if image.extra else done


def _on_cpu(bands: Iterator[Tensor], to_values: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """Turn bands into file values on the CPU; from a CUDA device, copy each while the next one is computed."""
    waiting: tuple[Tensor, torch.cuda.Event] | None = None
    for band in bands:
        if band.device.type != "cuda":
            yield to_values(band.cpu())
            continue
        values = to_values(band)
        copied = torch.empty_like(values, device="cpu", pin_memory=True).copy_(values, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        # Without an argument, it would record the stream of the current device, which need not be the band's.
        event.record(torch.cuda.current_stream(band.device))
        if waiting is not None:
            waiting[1].synchronize()
            yield waiting[0]
        waiting = copied, event
    if waiting is not None:
        waiting[1].synchronize()
        yield waiting[0]
