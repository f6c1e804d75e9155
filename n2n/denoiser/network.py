"""A trained backbone on its device, applied to batches of tiles that fit into the memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from functools import cached_property

import torch
from torch import Tensor, nn

from n2n.denoiser.receptive_field import ReceptiveField, measure
from n2n.errors import InputError, reason
from n2n.system.hardware import default_accelerator, default_device, is_out_of_memory

# The network sees values up to this many times the range beyond it, more than noise reaches. What lies farther is not denoised.
FARTHEST = 1.0
PRECISIONS = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}


class TrainedNetwork:
    """A backbone that denoises batches of tiles; takes arguments of :class:`n2n.Denoiser`, and raises the same errors."""

    def __init__(
        self,
        backbone: nn.Module,
        channels: int | None,
        device: str | torch.device | None,
        precision: str | None,
        ensemble: bool,
    ) -> None:
        if str(precision or "32") not in PRECISIONS:
            raise InputError(f"precision is {precision}: expected one of {', '.join(PRECISIONS)}")
        self.channels, self.ensemble = channels, ensemble
        # Whether calls return the spread of the results in place of their mean.
        self.spread = False
        self.device, self._dtype = _device(device), PRECISIONS[str(precision or "32")]
        backbone = backbone.eval()
        # Convolutions run faster in this memory format. Training uses it, too. Weights in half precision ("bf16-true") take no
        # float32 images; autocast rounds both.
        self.backbone: nn.Module = backbone.float().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Most pixels in a batch; None until a batch was too large.
        self._most: int | None = None

    def __call__(self, noisy: Tensor) -> Tensor:
        """Denoise tiles. If a batch does not fit into the memory, halve it and later batches of its size.

        ``noisy`` is N×C×h×w float32 in [0, 1] on the device. Raises InputError if the backbone cannot take such images, or a
        single tile does not fit into the memory.
        """
        N, (h, w) = len(noisy), noisy.shape[2:]
        if self._most is not None and N > 1 and N * h * w > self._most:
            return torch.cat([self(half) for half in noisy.chunk(2)])
        try:
            return self._oriented(noisy)
        except RuntimeError as error:
            out_of_memory, message = is_out_of_memory(error), reason(error)
        # Not inside the except clause, where the error's traceback keeps the layers' outputs in memory.
        if not out_of_memory:
            size = "×".join(map(str, noisy.shape[1:]))
            raise InputError(f"the network cannot take images of {size} ({message})")
        if N == 1:
            raise InputError(
                f"a tile of {h}×{w} px does not fit into the memory of {self.device} ({message}): give a smaller one"
            )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # cuDNN and cuBLAS cannot use memory that torch keeps for later
        self._most = N * h * w // 2
        return self(noisy)

    @contextmanager
    def rows_in_memory(self, width: int) -> Iterator[None]:
        """Raise InputError if the body, which keeps whole rows of tiles on the device, runs out of memory."""
        try:
            yield
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(
                f"a row of tiles, {width} px wide, does not fit into the memory of {self.device} ({reason(error)}): give a "
                "smaller tile"
            ) from None

    def one_by_one(self, channels: int) -> bool:
        """Whether each of the channels of an image is denoised by itself, because their number does not fit the network."""
        return channels > 1 and self.channels not in (None, channels)

    def check_channels(self, channels: int) -> None:
        """Raise InputError if the network cannot take images with this number of channels."""
        if self.channels not in (None, 1, channels) and channels != 1:
            raise InputError(f"the network was trained on images of {self.channels} channels and got {channels}")

    @cached_property
    def field(self) -> ReceptiveField | None:
        """The measured receptive field; None if the backbone takes images of one size only.

        Raises:
            InputError: if there is too little memory to measure it.
        """
        # On the CPU, which computes each pixel from its neighbours alone, in float32, and keeps NaN. Libraries of GPUs may
        # round more, use transforms that mix all pixels, or lose NaN in a ReLU (pytorch#183571).
        backbone = self.backbone if self.device.type == "cpu" else deepcopy(self.backbone).cpu()

        def apply(images: Tensor) -> Tensor:
            out: Tensor = backbone(images.contiguous(memory_format=torch.channels_last))
            return out

        try:
            return measure(apply, self.channels or 1)
        except (InputError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise InputError(
                    f"the network's receptive field cannot be measured in the memory of cpu ({reason(error)})"
                ) from None
            return None

    def _oriented(self, noisy: Tensor) -> Tensor:
        """Denoise; average over the flips and rotations if asked, or return the standard deviation of their results."""
        if not self.ensemble and not self.spread:
            return self._any_channels(noisy)
        h, w = noisy.shape[2:]
        # If the sides are multiples of the stride, the rotated image lies on the network's grid as the image itself does.
        stride = self.field.stride if self.field is not None else 1
        if h % stride or w % stride:
            # Mirrored rather than repeated: noise in stripes is no noise to the network.
            rows, columns = (_mirrored(side, side + -side % stride).to(noisy.device) for side in (h, w))
            noisy = noisy[..., rows, :][..., columns]
        total, results = torch.zeros_like(noisy), []
        for turns in range(4):
            for mirrored in (False, True):
                turned = torch.rot90(noisy.flip(-1) if mirrored else noisy, turns, (-2, -1))
                back = torch.rot90(self._any_channels(turned), -turns, (-2, -1))
                back = back.flip(-1) if mirrored else back
                if self.spread:
                    results.append(back)
                else:
                    total += back
        found = torch.stack(results).std(0, correction=0) if self.spread else total / 8
        return found[..., :h, :w]

    def _any_channels(self, noisy: Tensor) -> Tensor:
        N, C, h, w = noisy.shape
        channels = self.channels or C
        if channels == C:
            return self._apply(noisy)
        if C == 1:
            return self._apply(noisy.expand(-1, channels, -1, -1)).mean(1, keepdim=True)
        return self._apply(noisy.reshape(N * C, 1, h, w)).reshape(N, C, h, w)

    def _apply(self, noisy: Tensor) -> Tensor:
        autocast: AbstractContextManager[object] = nullcontext()
        if self._dtype is not None:
            autocast = torch.autocast(self.device.type, self._dtype)
        # A hot pixel of a hundred times the range would spoil all pixels that see it.
        near = noisy.clamp(-FARTHEST, 1 + FARTHEST)
        with torch.no_grad(), autocast:
            denoised: Tensor = self.backbone(near.contiguous(memory_format=torch.channels_last))
        return denoised.float() + (noisy - near)


def _mirrored(side: int, padded: int) -> Tensor:
    """Return the positions in an axis of ``side`` pixels that extend it to ``padded`` ones: 0 1 2 1 0 1 for 3 and 6."""
    period = max(1, 2 * side - 2)
    positions = torch.arange(padded) % period
    return torch.where(positions < side, positions, period - positions)


def _device(name: str | torch.device | None) -> torch.device:
    """Choose the device and try it. Macs use the CPU unless "mps" is given, because n2n has not been run on Apple GPUs."""
    try:
        device = torch.device(name or default_device())
        if device.type == "cuda":
            default_accelerator("cuda")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises these for a device that it does not have
        raise InputError(
            f"the device {name} cannot be used ({reason(error)[:100]}): expected cpu, cuda, mps, ..."
        ) from None
    return device
