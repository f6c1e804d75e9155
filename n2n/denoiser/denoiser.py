"""Denoising images from a checkpoint alone; needs no Trainer and no Lightning."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from n2n.checkpoints.bundled import describe_checkpoint, find_checkpoint
from n2n.checkpoints.rebuild import load_checkpoint, rebuild
from n2n.checkpoints.trust import packages
from n2n.data.images import ImageReader
from n2n.data.images.base import DTYPES, Rows
from n2n.denoiser.network import TrainedNetwork
from n2n.denoiser.tiling import GRID, Tiling, bands
from n2n.denoiser.value_range import Survey, TrainedRange, ValueRange, full_range
from n2n.errors import InputError

# Far above any image's; a damaged checkpoint must not take the memory for more.
MAX_CHANNELS = 1024
# Pixels from tile to tile. On CPUs the values between two layers should stay in the cache; GPUs want large pieces.
_CPU_TILE, _GPU_TILE = 256, 512
# Where a CPU's tile is less than this many overlaps, much is computed twice: it grows, up to the GPU's.
_OVERLAPS = 4
# Tiles at once on a GPU, fewer where its memory is smaller.
_GPU_BATCH = 8
# Rows of a file that are surveyed at once.
_SURVEY_ROWS = 256

# Arrays of 2, 3 and 4 axes as N×C×H×W, and back.
_TO_BATCH: dict[int, Callable[[Tensor], Tensor]] = {
    2: lambda image: image[None, None],
    3: lambda image: image.movedim(2, 0)[None],
    4: lambda images: images,
}
_FROM_BATCH: dict[int, Callable[[Tensor], Tensor]] = {
    2: lambda images: images[0, 0],
    3: lambda images: images[0].movedim(0, 2),
    4: lambda images: images,
}

Image = TypeVar("Image", NDArray[Any], Tensor)


class Denoiser:
    """A trained backbone, ready for images of any size.

    Args:
        backbone: maps N×C×H×W in [0, 1] to the same shape.
        channels: C of the images it was trained on; None if unknown.
        device: to run on; a GPU if there is one, else the CPU.
        precision: "32" (the default), or "bf16" or "16" for autocast, which GPUs run faster, as do CPUs that multiply bf16
            themselves; bf16 may move an 8-bit value by one or two.
        tile: side in pixels of the pieces that a large image is denoised in, which bounds the memory; a multiple of 16. By
            default 512 on GPUs; on CPUs 256, or up to 512 where the overlap is more than 64.
        overlap: pixels that a piece sees beyond its edge, a multiple of 16; pieces are blended there. By default as many as
            the backbone looks far, which is measured: then the result is that of the whole image. It is 64 for backbones that
            look at all of the image.
        batch: pieces at once. By default 1 on CPUs; on GPUs 8, or as many as fit.
        ensemble: whether to average over the 8 flips and rotations of every image, which takes 8 times as long.
        range: the values of images that mean 0 and 1; by default the training's, as :class:`TrainedRange` tells.
        trained: what values the network was trained on.

    Raises:
        InputError: if an argument cannot be used.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: int | None = None,
        device: str | torch.device | None = None,
        precision: str | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        batch: int | None = None,
        ensemble: bool = False,
        range: Sequence[float] | None = None,  # noqa: A002  # the name of the option
        trained: TrainedRange | None = None,
    ) -> None:
        for name, size, least in (("tile", tile, GRID), ("overlap", overlap, 0)):
            if size is not None and (size < least or size % GRID):
                raise InputError(f"{name} is {size}: expected a multiple of {GRID}, at least {least}")
        if batch is not None and batch < 1:
            raise InputError(f"batch is {batch}: expected at least 1")
        if range is not None and len(range) != 2:
            raise InputError(f"range is {range}: expected two numbers, low and high")
        self.range = None if range is None else ValueRange(float(range[0]), float(range[1]))
        self.trained = trained or TrainedRange()
        self.network = TrainedNetwork(backbone, channels, device, precision, ensemble)
        on_gpu = self.network.device.type != "cpu"
        self.tile, self.overlap = tile or (_GPU_TILE if on_gpu else _CPU_TILE), overlap
        self._grown = _GPU_TILE if tile is None else 0
        self.batch = batch or (_GPU_BATCH if on_gpu else 1)

    @property
    def backbone(self) -> nn.Module:
        """The network, on its device and frozen."""
        return self.network.backbone

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        device: str | torch.device | None = None,
        precision: str | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        batch: int | None = None,
        ensemble: bool = False,
        range: Sequence[float] | None = None,  # noqa: A002
        trust: Sequence[str] = (),
    ) -> Denoiser:
        """Rebuild the denoiser that a run of ``n2n fit`` saved.

        The backbone's class must be defined in ``n2n.backbones`` or in a trusted package. Nothing else in the file is run.

        Args:
            path: the checkpoint, or the name of one that comes with n2n, such as "quick".
            device: as for the class, like all arguments up to ``range``.
            precision: as for the class.
            tile: as for the class.
            overlap: as for the class.
            batch: as for the class.
            ensemble: as for the class.
            range: as for the class.
            trust: names of packages whose classes the checkpoint may name, too. Their code is imported and run.

        Raises:
            InputError: if the file is missing, damaged, no checkpoint of n2n, or its backbone cannot be built.
        """
        path = find_checkpoint(path)
        content = load_checkpoint(path)
        images = content["n2n"]
        channels = images.get("image_channels")
        if not (channels is None or (isinstance(channels, int) and 0 < channels <= MAX_CHANNELS)):
            raise InputError(
                f"{path}: its number of channels is none from 1 to {MAX_CHANNELS}: expected {describe_checkpoint()}"
            )
        try:
            trained = TrainedRange.from_plain(images.get("range"), images.get("dtype"))
            backbone = rebuild(content, packages(trust))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        return cls(backbone, channels, device, precision, tile, overlap, batch, ensemble, range, trained)

    def __call__(self, noisy: Image) -> Image:
        """Denoise a NumPy array or a torch tensor; the result has its kind, shape, dtype and device.

        Args:
            noisy: H×W, H×W×C (three axes are always one image) or N×C×H×W; uint8, int8, uint16, int16 or any float. Opacity
                is no channel: take it off before. Which values mean 0 and 1 is told by :meth:`TrainedRange.resolve`, where
                integers of another dtype than the training's are taken to fill it; values outside are warned about.

        Returns:
            The denoised images. Integers are rounded and clipped, floats are not clipped.

        Raises:
            InputError: if the dtype, the number of axes or channels, or NaN or infinite values are not for this network.
        """
        tensor = noisy if isinstance(noisy, Tensor) else torch.from_numpy(_native(noisy))
        if tensor.ndim not in _TO_BATCH or tensor.numel() == 0:
            raise InputError(f"got an array of shape {tuple(tensor.shape)}: expected H×W, H×W×C or N×C×H×W")
        # NumPy has no bfloat16.
        plain = tensor.detach().cpu()
        values = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
        if str(values.dtype) not in DTYPES:
            raise InputError(f"got {values.dtype} values: expected one of {', '.join(DTYPES)}")
        images = _TO_BATCH[tensor.ndim](tensor)
        self.network.check_channels(images.shape[1])
        scale = self.trained.resolve(values.dtype, self.range)
        survey = Survey.of(values)
        survey.check(scale)
        if remark := survey.remark(scale, values.dtype.kind == "f"):
            warnings.warn(f"the image: {remark}", stacklevel=2)
        denoised = self._to_values(self.denoise(_to_unit(images.detach(), scale)), values.dtype, scale, survey)
        denoised = _FROM_BATCH[tensor.ndim](denoised)
        if isinstance(noisy, Tensor):
            return denoised.to(noisy.device, noisy.dtype)
        return np.ascontiguousarray(denoised.numpy()).astype(noisy.dtype, copy=False)

    def denoise(self, noisy: Tensor) -> Tensor:
        """Denoise images, N×C×H×W float in [0, 1]; the result is float32 on the CPU and not clipped.

        Grey images (C = 1) for a network of C channels are repeated, and its output averaged; images of several channels for
        a network of grey ones are denoised channel by channel.

        Raises:
            InputError: if the network cannot take images of this many channels or this size.
        """
        N, C, H, W = noisy.shape
        self.network.check_channels(C)
        denoised = torch.empty(noisy.shape, dtype=torch.float32)
        # As many small images at once as fill the tiles of one batch.
        several = max(1, self.batch * self.tile**2 // (H * W)) if max(H, W) <= self.tile else 1
        for first in range(0, N, several):
            some = noisy[first : first + several]

            def read(start: int, stop: int, some: Tensor = some) -> Tensor:
                return some[:, :, start:stop].to(self.network.device, torch.float32)

            at = 0
            for rows in self._bands(read, H, W):
                denoised[first : first + several, :, at : at + rows.shape[2]] = rows
                at += rows.shape[2]
        return denoised

    def survey(self, image: ImageReader) -> Survey | None:
        """Look over an image's values; None if it cannot have any that matter: integers whose range is their dtype's.

        Raises:
            InputError: if the image is damaged.
        """
        if image.dtype.kind != "f" and self.trained.resolve(image.dtype, self.range) == full_range(image.dtype):
            return None
        found = Survey()
        for page in range(image.pages):
            for top in range(0, image.height, _SURVEY_ROWS):
                found |= Survey.of(image.rows(page, top, min(top + _SURVEY_ROWS, image.height)))
        return found

    def remarks(self, image: ImageReader, survey: Survey | None) -> list[str]:
        """Say, in one line each, what in an image is not what the network was trained on."""
        scale = self.trained.resolve(image.dtype, self.range)
        lines = []
        if (
            self.range is None
            and image.dtype != self.trained.dtype
            and (image.dtype.kind, self.trained.dtype.kind) != ("f", "f")
        ):
            lines.append(f"it has {image.dtype} values and the network was trained on {self.trained.dtype}: {scale} was taken "
                         f"to mean the same as {self.trained.values} there")  # fmt: skip
        if survey is not None and (line := survey.remark(scale, image.dtype.kind == "f")):
            lines.append(line)
        return lines

    def strips(
        self,
        image: ImageReader,
        survey: Survey | None = None,
        progress: Callable[[int], object] | None = None,
        samples: Iterator[NDArray[Any]] | None = None,
    ) -> Iterator[NDArray[Any]]:
        """Denoise an open image, however large, holding one row of tiles in memory at a time.

        Args:
            image: of any number of pages, each denoised by itself.
            survey: what :meth:`survey` returned for it; asked for here if None.
            progress: called with the number of rows that were finished.
            samples: the image's rows as :meth:`ImageReader.strips` gives them; read here, when they are needed, if None.

        Yields:
            Rows of all pages in order, as :meth:`ImageWriter.write` takes them: rows×W×(C + extra) of the image's dtype.
            Extra samples, such as opacity, are the image's own.

        Raises:
            InputError: as :meth:`__call__`, and if the image is damaged.
        """
        self.network.check_channels(image.channels)
        scale = self.trained.resolve(image.dtype, self.range)
        survey = survey or self.survey(image)
        if survey is not None:
            survey.check(scale)
        samples = image.strips(self.tile) if samples is None else samples
        for _ in range(image.pages):
            rows = Rows(samples)
            extras: list[NDArray[Any]] = []

            def read(start: int, stop: int, rows: Rows = rows, extras: list[NDArray[Any]] = extras) -> Tensor:
                found = rows.take(stop - start)
                if image.extra:
                    extras.append(found[..., image.channels :])
                return self._to_device(np.ascontiguousarray(found[..., : image.channels]), scale)

            finished = (
                self._to_values(band, image.dtype, scale, survey)[0].movedim(0, 2)
                for band in self._bands(read, image.height, image.width)
            )
            for band in _on_host(finished):
                done = band.numpy()
                if image.extra:
                    alpha = np.concatenate(extras)
                    done = np.concatenate([done, alpha[: len(done)]], axis=2)
                    extras[:] = [alpha[len(done) :]]
                yield done
                if progress is not None:
                    progress(len(done))

    def _to_device(self, rows: NDArray[Any], scale: ValueRange) -> Tensor:
        """Bring an image's rows, h×W×C of its values, to the device and to [0, 1], 1×C×h×W."""
        # Torch warns of arrays that may not be written to, and nothing is written here.
        values = torch.from_numpy(rows if rows.flags.writeable else rows.copy())
        device = self.network.device
        if device.type == "cuda":
            # From pinned memory the copy waits for nothing that the GPU is still at.
            values = values.pin_memory().to(device, non_blocking=True)
        return _to_unit(values.to(device).movedim(2, 0)[None], scale)

    def _bands(self, read: Callable[[int, int], Tensor], H: int, W: int) -> Iterator[Tensor]:
        # What fits into one tile needs no measuring, and a network bound to a size takes the image whole or refuses it.
        if max(H, W) <= self.tile or self.network.field is None:
            tiling = Tiling(max(H, W), 0, 0)
        else:
            tiling = Tiling.plan(self.network.field, self.tile, self.overlap)
            if (tile := min(_OVERLAPS * tiling.overlap, self._grown)) > tiling.tile:
                tiling = Tiling.plan(self.network.field, tile, self.overlap)
        return bands(read, (H, W), tiling, self.network, self.batch)

    def _to_values(self, unit: Tensor, dtype: np.dtype[Any], scale: ValueRange, survey: Survey | None) -> Tensor:
        """Map [0, 1] back to an image's values, rounded and clipped if they are integers."""
        values = unit * (scale.high - scale.low) + scale.low
        wanted: torch.dtype = getattr(torch, str(dtype))
        if dtype.kind == "f":
            return values.to(wanted)
        least, most = (survey.least, survey.most) if survey is not None else (scale.low, scale.high)
        low, high = scale.limits(dtype, least, most)
        return values.round_().clamp_(low, high).to(wanted)


def _to_unit(images: Tensor, scale: ValueRange) -> Tensor:
    """Map an image's values to float32, where the range becomes [0, 1]."""
    # 64-bit values may lie so far from 0 that 32 bits do not tell them apart.
    wide = images if images.dtype == torch.float64 else images.to(torch.float32)
    return (wide - scale.low).div_(scale.high - scale.low).to(torch.float32)


def _on_host(bands: Iterator[Tensor]) -> Iterator[Tensor]:
    """Bring tensors to the CPU; from a CUDA device each while the next is computed."""
    waiting: tuple[Tensor, torch.cuda.Event] | None = None
    for band in bands:
        if band.device.type != "cuda":
            yield band.cpu()
            continue
        copied = torch.empty_like(band, device="cpu", pin_memory=True).copy_(band, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        if waiting is not None:
            waiting[1].synchronize()
            yield waiting[0]
        waiting = copied, event
    if waiting is not None:
        waiting[1].synchronize()
        yield waiting[0]


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array as torch takes it: in the machine's byte order, with no negative strides."""
    array = np.asarray(array)
    if str(array.dtype.newbyteorder("=")) not in DTYPES:
        raise InputError(f"got {array.dtype} values: expected one of {', '.join(DTYPES)}")
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    return array if array.flags.writeable else array.copy()
