"""A trained backbone on its device, applied to tiles: channels, precision, ensemble, and how much fits into the memory."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cached_property

import torch
from torch import Tensor, nn

from n2n.denoiser.receptive_field import ReceptiveField, measure
from n2n.errors import InputError

PRECISIONS = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}


class TrainedNetwork:
    """A backbone ready for tiles.

    Args:
        backbone: maps N×C×H×W in [0, 1] to the same shape.
        channels: C of the images it was trained on; None if unknown.
        device: to run on; a GPU if there is one, else the CPU.
        precision: a name in ``PRECISIONS``; others than 32 are autocast's.
        ensemble: whether to average over the 8 flips and rotations.

    Raises:
        InputError: if the device or the precision cannot be used.
    """

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
        self.device, self._dtype = _device(device), PRECISIONS[str(precision or "32")]
        backbone = backbone.eval().requires_grad_(False)
        # As in training: convolutions run faster in this order.
        self.backbone: nn.Module = backbone.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Pixels at once, known when more did not fit.
        self._most: int | None = None

    def __call__(self, noisy: Tensor) -> Tensor:
        """Denoise tiles, N×C×h×w in [0, 1] on the device, of any C that :meth:`check_channels` lets pass.

        Raises:
            InputError: if they are no images for this network, or one of them does not fit into the memory.
        """
        N, (h, w) = len(noisy), noisy.shape[2:]
        if self._most is not None and N > 1 and noisy.shape[0] * h * w > self._most:
            return torch.cat([self(half) for half in noisy.chunk(2)])
        try:
            return self._any_channels(noisy)
        except InputError:
            raise
        except torch.OutOfMemoryError:
            if N == 1:
                raise InputError(
                    f"a tile of {h}×{w} px does not fit into the memory of {self.device}: give a smaller one"
                ) from None
        except RuntimeError as error:
            size = "×".join(map(str, noisy.shape[1:]))
            raise InputError(f"the network cannot take images of {size} ({str(error).splitlines()[0]})") from None
        self._most = N * h * w // 2
        return self(noisy)

    def check_channels(self, channels: int) -> None:
        """Refuse images of a number of channels that the network cannot take.

        Raises:
            InputError: with both numbers.
        """
        if self.channels not in (None, 1, channels) and channels != 1:
            raise InputError(f"the network was trained on images of {self.channels} channels and got {channels}")

    @cached_property
    def field(self) -> ReceptiveField | None:
        """What is measured of the network; None if it takes no other images than some of one size."""

        def apply(images: Tensor) -> Tensor:
            out: Tensor = self.backbone(images.contiguous(memory_format=torch.channels_last))
            return out

        try:
            return measure(apply, self.channels or 1, self.device)
        except (InputError, RuntimeError):
            return None

    def _any_channels(self, noisy: Tensor) -> Tensor:
        N, C, h, w = noisy.shape
        channels = self.channels or C
        if channels == C:
            return self._oriented(noisy)
        if C == 1:
            return self._oriented(noisy.expand(-1, channels, -1, -1)).mean(1, keepdim=True)
        return self._oriented(noisy.reshape(N * C, 1, h, w)).reshape(N, C, h, w)

    def _oriented(self, noisy: Tensor) -> Tensor:
        if not self.ensemble:
            return self._apply(noisy)
        h, w = noisy.shape[-2:]
        # Turned images lie on the network's grid as the image itself does only if they fill it.
        stride = self.field.stride if self.field is not None else 1
        if h % stride or w % stride:
            noisy = nn.functional.pad(noisy, (0, -w % stride, 0, -h % stride), mode="replicate")
        total = torch.zeros_like(noisy)
        for turns in range(4):
            for mirrored in (False, True):
                turned = torch.rot90(noisy.flip(-1) if mirrored else noisy, turns, (-2, -1))
                back = torch.rot90(self._apply(turned), -turns, (-2, -1))
                total += back.flip(-1) if mirrored else back
        return total[..., :h, :w] / 8

    def _apply(self, noisy: Tensor) -> Tensor:
        autocast: AbstractContextManager[object] = nullcontext()
        if self._dtype is not None:
            autocast = torch.autocast(self.device.type, self._dtype)
        with torch.no_grad(), autocast:
            denoised: Tensor = self.backbone(noisy.contiguous(memory_format=torch.channels_last))
        return denoised.float()


def _device(name: str | torch.device | None) -> torch.device:
    """Choose the device, and try it."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # what torch raises for what it does not have
        raise InputError(
            f"the device {name} cannot be used ({str(error).splitlines()[0][:100]}): expected cpu, cuda, ..."
        ) from None
    return device
