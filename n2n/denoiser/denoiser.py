"""Denoising images with a checkpoint alone, without a Trainer and without Lightning."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from n2n.checkpoints.bundled import describe_checkpoint, find_checkpoint
from n2n.checkpoints.rebuild import load_checkpoint, rebuild
from n2n.checkpoints.trust import packages
from n2n.data.images.axes import check_axes, check_named, unnamed
from n2n.data.images.base import DTYPES
from n2n.data.images.gaps import fill_gaps, find_gaps
from n2n.data.images.in_memory import as_array
from n2n.data.images.values import from_unit, to_unit
from n2n.data.noise import TrainedNoise
from n2n.data.value_range import TrainedRange, ValueRange
from n2n.denoiser.array_planes import Planes
from n2n.denoiser.network import TrainedNetwork
from n2n.denoiser.survey import Survey
from n2n.denoiser.tiling import GRID, Tiling, denoise_bands
from n2n.denoiser.watch import Watch
from n2n.errors import InputError

# Far more than any image has. A damaged checkpoint may name a number that takes all of the memory.
MAX_CHANNELS = 1024
# Pixels from tile to tile. On CPUs the outputs of the layers should stay in the cache; GPUs are fast on large tiles.
_CPU_TILE, _GPU_TILE = 256, 512
# A CPU's tile grows to this many overlaps, at most to a GPU's tile: smaller tiles would compute too much twice.
_OVERLAPS = 4
# Tiles at once on a GPU; fewer if they do not fit into its memory.
_GPU_BATCH = 8

Image = TypeVar("Image", NDArray[Any], Tensor)


class Denoiser:
    """A trained backbone that denoises images of any size.

    Args:
        backbone: maps N×C×H×W in [0, 1] to the same shape.
        channels: C of the training images; None if unknown.
        device: to run on. By default "cuda" if there is such a GPU, else the CPU. Apple GPUs must be asked for: "mps".
        precision: "32" (the default), or "bf16" or "16" for autocast, which is faster on GPUs and on CPUs with bf16
            arithmetic. bf16 may change an 8-bit value by one or two.
        tile: side, in pixels, of the tiles that a large image is divided into, which bounds the memory; a multiple of 16. By
            default 512 on GPUs, and on CPUs 256, or up to 512 where the overlap is more than 64.
        overlap: pixels that a tile extends beyond its edge, where tiles are blended; a multiple of 16. By default the
            backbone's measured receptive field, so that tiling changes nothing; 64 for backbones that see the whole image.
        batch: tiles at once. By default 1 on CPUs; on GPUs 8, or as many as fit into the memory.
        ensemble: whether to average over the 8 flips and rotations of every image, which takes 8 times as long.
        range: the image values that are mapped to 0 and 1. By default :meth:`TrainedRange.resolve` chooses them.
        trained: the range and the dtype of the training images; by default 8-bit images.
        axes: a letter for each axis of the arrays, such as "ZYX" or "TCYX", see :mod:`n2n.data.images.axes`. By default an
            array is ...×H×W, or ...×H×W×C with up to 4 channels, and a torch tensor is H×W, C×H×W or N×C×H×W.
        noise: the noise of the training images; images with another noise cause a warning. None if unknown.

    Attributes:
        backbone: on its device, in evaluation mode.

    Raises:
        InputError: if an argument is invalid, or the device cannot be used.
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
        axes: str | None = None,
        noise: TrainedNoise | None = None,
    ) -> None:
        if not isinstance(backbone, nn.Module):
            kind = type(backbone).__name__
            raise InputError(f"the backbone is a {kind}: expected a torch.nn.Module; from_checkpoint reads a file")
        for name, size, least in (("tile", tile, GRID), ("overlap", overlap, 0)):
            if size is not None and (size < least or size % GRID):
                raise InputError(f"{name} is {size}: expected a multiple of {GRID}, at least {least}")
        if batch is not None and batch < 1:
            raise InputError(f"batch is {batch}: expected at least 1")
        if range is not None and len(range) != 2:
            raise InputError(f"range is {range}: expected two numbers, low and high")
        self.range = None if range is None else ValueRange(float(range[0]), float(range[1]))
        self.trained, self.axes, self.noise = trained or TrainedRange(), axes, noise
        self.network = TrainedNetwork(backbone, channels, device, precision, ensemble)
        self.backbone = self.network.backbone
        on_gpu = self.network.device.type != "cpu"
        self.tile, self.overlap = tile or (_GPU_TILE if on_gpu else _CPU_TILE), overlap
        self._tile_given = tile is not None
        self.batch = batch or (_GPU_BATCH if on_gpu else 1)

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
        axes: str | None = None,
    ) -> Denoiser:
        """Build the denoiser from a checkpoint of ``n2n fit``.

        ``path`` is the checkpoint, or the name of one that comes with n2n. ``trust`` names packages whose classes it may name
        beside ``n2n.backbones``; their code is imported and run, and no other is. The other arguments are those of the class.

        Raises:
            InputError: if the file is missing, damaged or no checkpoint of n2n, or the backbone cannot be built.
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
            noise = TrainedNoise.from_plain(images.get("noise"))
            backbone = rebuild(content, packages(trust))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        return cls(backbone, channels, device, precision, tile, overlap, batch, ensemble, range, trained, axes, noise)

    def value_range(self, dtype: np.dtype[Any], white: float | None = None) -> ValueRange:
        """Return the range of images of a dtype; takes and raises the same as :meth:`TrainedRange.resolve`."""
        return self.trained.resolve(dtype, self.range, white)

    def watch(self, dtype: np.dtype[Any], white: float | None = None) -> Watch:
        """Return what watches an image being denoised; takes and raises the same as :meth:`value_range`."""
        same = dtype == self.trained.dtype or dtype.kind == self.trained.dtype.kind == "f"
        return Watch(
            self.value_range(dtype, white), guessed=self.range is None and white is None and not same, noise=self.noise
        )

    def __call__(self, noisy: Image) -> Image:
        """Denoise a NumPy array or a torch tensor; the result has its kind, shape, dtype and device.

        Every Y×X plane is denoised. The channels go through the network together if it has as many, else one by one. NaN and
        infinity mean that a value has no data: they stay as they are, and do not change their neighbours.

        Args:
            noisy: an array with the denoiser's axes; uint8, int8, uint16, int16 or any float. Remove opacity before: it is no
                channel. :meth:`TrainedRange.resolve` chooses the range; values outside it cause a warning.

        Returns:
            The denoised images. Integers are rounded and clipped, floats are not clipped.

        Raises:
            InputError: if the network cannot take this dtype, these axes or channels, or if the axes can be read in two ways.
        """
        array, dtype, planes = self._read(noisy)
        # Torch takes no other byte order, no negative strides and no read-only memory.
        images = torch.from_numpy(np.require(planes.take(array), dtype, ["C", "W"]))
        scale, survey = self.value_range(dtype), Survey.of(array)
        survey.check(scale)
        unit = self.denoise(to_unit(images, scale.low, scale.high))
        values = from_unit(unit, scale.low, scale.high, images.dtype, survey.limits(scale, dtype))
        if survey.gaps:
            values = torch.where(images.isfinite(), values, images)
        watch = self.watch(dtype)
        for before, after in zip(images.movedim(1, 3).numpy(), values.movedim(1, 3).numpy(), strict=True):
            watch.add(before, after, find_gaps(before, None))
        lines: list[str] = survey.remarks(scale, dtype.kind == "f") + watch.remarks()
        for line in lines:
            warnings.warn(f"the image: {line}", stacklevel=2)
        denoised = planes.put_back(values.numpy())
        if isinstance(noisy, Tensor):
            return torch.from_numpy(denoised).to(noisy.device, noisy.dtype)
        return denoised.astype(noisy.dtype, copy=False)

    def spreading(self) -> Denoiser:
        """Return a denoiser of the same network that gives the spread of the results, not their mean; see :meth:`spread`."""
        other = copy(self)
        other.network = copy(self.network)
        other.network.spread = True
        return other

    def spread(self, noisy: Image) -> Image:
        """Return how much the results of the eight flips and rotations of images differ, pixel by pixel.

        A network that has learnt nothing about a place in the image often answers differently there when the image is turned,
        so the spread is a cheap map of what not to trust. It does not show errors that all eight share.

        Args:
            noisy: as for a call.

        Returns:
            The standard deviation over the eight results, float32, in the units of the images; of the kind and the shape of
            ``noisy``.

        Raises:
            InputError: as a call.
        """
        array, dtype, planes = self._read(noisy)
        scale = self.value_range(dtype)
        Survey.of(array).check(scale)
        images = torch.from_numpy(np.require(planes.take(array), dtype, ["C", "W"]))
        found = self.spreading().denoise(to_unit(images, scale.low, scale.high)) * (scale.high - scale.low)
        back = planes.put_back(found.numpy())
        return torch.from_numpy(back).to(noisy.device) if isinstance(noisy, Tensor) else back

    def _read(self, noisy: NDArray[Any] | Tensor) -> tuple[NDArray[Any], np.dtype[Any], Planes]:
        """Return an array or a tensor as an array, its dtype in the machine's byte order, and its planes."""
        array = as_array(noisy)
        dtype = array.dtype.newbyteorder("=")
        if str(dtype) not in DTYPES:
            raise InputError(f"got {array.dtype} values: expected one of {', '.join(DTYPES)}")
        return array, dtype, self._planes(array.shape, isinstance(noisy, Tensor))

    def _planes(self, shape: tuple[int, ...], tensor: bool) -> Planes:
        """Find out which axes of an array go through the network."""
        if len(shape) < 2 or 0 in shape or (tensor and self.axes is None and len(shape) > 4):
            raise InputError(
                f"got an array of shape {shape}: expected H×W or more, none of them empty; axes= names them"
            )
        if self.axes is not None:
            axes = check_axes(self.axes, shape)
        elif tensor:
            axes = "QCYX"[4 - len(shape) :]
            if len(shape) >= 3 and shape[-1] <= 4 < shape[-3]:
                last = "YXC" if len(shape) == 3 else "QYXC"
                raise InputError(
                    f"got a tensor of shape {tuple(shape)}: expected (N×)C×H×W; if C is last, give axes='{last}'"
                )
        else:
            axes = unnamed(shape)
            check_named(self.network.channels, axes, shape, False, "axes=")
        planes = Planes.of(axes, shape, self.network.channels)
        self.network.check_channels(planes.channels)
        if "C" in axes and not planes.has_channels and (channels := shape[axes.index("C")]) > 1:
            count = f"{channels} channels and the network {self.network.channels}"
            warnings.warn(f"the image has {count}: each is denoised by itself, as a grey image", stacklevel=4)
        return planes

    def denoise(self, noisy: Tensor) -> Tensor:
        """Denoise images, N×C×H×W float in [0, 1]; the result is float32 on the CPU and not clipped.

        For a network of several channels, a grey image (C = 1) is repeated and the output averaged. A network of one channel
        denoises each channel by itself. In place of NaN and infinity the network sees the mean of their neighbours.

        Raises:
            InputError: if the network cannot take this number of channels or this size, or the memory is too small.
        """
        C, H, W = noisy.shape[1:]
        self.network.check_channels(C)
        gaps = not bool(noisy.isfinite().all())
        denoised = torch.empty(noisy.shape, dtype=torch.float32)
        # A batch of small images has as many pixels as a batch of tiles.
        count = max(1, self.batch * self.tile**2 // (H * W)) if max(H, W) <= self.tile else 1
        for inputs, outputs in zip(torch.split(noisy, count), torch.split(denoised, count), strict=True):

            def read(start: int, stop: int, inputs: Tensor = inputs) -> Tensor:
                # Cast first: Apple GPUs have no float64.
                return inputs[:, :, start:stop].float().to(self.network.device)

            top = 0
            with self.network.rows_in_memory(W):
                for rows in self.denoise_rows(read, H, W, gaps):
                    outputs[:, :, top : top + rows.shape[2]] = rows
                    top += rows.shape[2]
        return denoised

    def denoise_rows(self, read: Callable[[int, int], Tensor], H: int, W: int, gaps: bool = False) -> Iterator[Tensor]:
        """Yield rows of denoised H×W images, float32 in [0, 1] on the device, as :func:`denoise_bands` does.

        ``gaps`` says whether NaN and infinity are to be filled in, see :func:`n2n.data.images.gaps.fill_gaps`.
        """
        field = self.network.field if max(H, W) > self.tile else None
        if field is None:
            # One tile, for a small image or for a network that takes images of one size only.
            tiling = Tiling(max(H, W), 0, 0)
        else:
            tiling = Tiling.plan(field, self.tile, self.overlap)
            larger = min(_OVERLAPS * tiling.overlap, _GPU_TILE)
            if not self._tile_given and larger > tiling.tile:
                tiling = Tiling.plan(field, larger, self.overlap)
        # In each tile, which knows as much of a pixel's neighbours as the network sees.
        forward: Callable[[Tensor], Tensor] = (lambda x: self.network(fill_gaps(x))) if gaps else self.network
        return denoise_bands(read, (H, W), tiling, forward, self.batch, self.network.device)
