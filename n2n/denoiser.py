"""Denoising images from a checkpoint alone; needs no Trainer and no Lightning."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from n2n.backbones.spec import build
from n2n.errors import InputError
from n2n.torch_file import load_torch_file

_PREFIX = "backbone."
# Tiles start at multiples of this, so that networks that pool see the same grid in every tile.
_GRID = 16


class Denoiser:
    """A trained backbone, ready for images of any size.

    Args:
        backbone: maps N×C×H×W in [0, 1] to the same shape.
        channels: C of the images it was trained on; None if unknown.
        device: to run on; a GPU if there is one, else the CPU.
        tile: side in pixels of the pieces that a large image is denoised in, which bounds the memory.
        overlap: pixels that a piece sees beyond its edge. The result is that of the whole image wherever this covers the
            backbone's receptive field (6 px for the paper's final network).
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: int | None = None,
        device: str | torch.device | None = None,
        tile: int = 512,
        overlap: int = 32,
    ) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if tile < _GRID or overlap < 0 or tile % _GRID or overlap % _GRID:
            raise InputError(
                f"tile is {tile} and overlap {overlap}: expected multiples of {_GRID}, tile at least {_GRID}"
            )
        self.channels, self.tile, self.overlap = channels, tile, overlap
        backbone = backbone.eval().requires_grad_(False)
        # As in training: convolutions run faster in this order.
        self.backbone = backbone.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike[str], device: str | torch.device | None = None) -> Denoiser:
        """Rebuild the denoiser that a run of ``n2n fit`` saved.

        Nothing in the file is run but the constructor of the backbone that it names, which must be a
        ``torch.nn.Module`` of an installed package.

        Raises:
            InputError: if the file is missing, damaged, no checkpoint of n2n, or its backbone cannot be built.
        """
        wanted = "a checkpoint written by n2n fit"
        content = load_torch_file(Path(path), wanted)
        try:
            spec = content["hyper_parameters"]["backbone"]
            weights = {k.removeprefix(_PREFIX): v for k, v in content["state_dict"].items() if k.startswith(_PREFIX)}
            channels = content["n2n"]["image_channels"]
        except (KeyError, TypeError, AttributeError):
            raise InputError(f"{path} is a PyTorch file of another kind: expected {wanted}") from None
        backbone = build(spec)
        try:
            backbone.load_state_dict(weights)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: the weights do not fit the backbone it names ({reason})") from None
        return cls(backbone, channels, device)

    @torch.inference_mode()
    def denoise(self, noisy: Tensor) -> Tensor:
        """Denoise images, N×C×H×W float32 in [0, 1]; the result is on the CPU and not clipped.

        Grey images (C = 1) for a network of C channels are repeated, and its output averaged; images of several channels for
        a network of grey ones are denoised channel by channel.

        Raises:
            InputError: if the network cannot take images of this many channels or this size.
        """
        N, C, H, W = noisy.shape
        channels = self.channels or C
        if channels == C:
            return self._tiled(noisy, self._forward)
        if C == 1:
            return self._tiled(noisy, lambda x: self._forward(x.expand(-1, channels, -1, -1)).mean(1, keepdim=True))
        if channels == 1:
            return self._tiled(noisy.reshape(N * C, 1, H, W), self._forward).reshape(N, C, H, W)
        raise InputError(f"the network was trained on images of {channels} channels and got {C}")

    def _forward(self, noisy: Tensor) -> Tensor:
        denoised: Tensor = self.backbone(noisy.contiguous(memory_format=torch.channels_last))
        return denoised

    def _tiled(self, noisy: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
        """Denoise piece by piece; each piece sees ``overlap`` pixels around it, which are cut off again."""
        H, W = noisy.shape[-2:]
        denoised = torch.empty_like(noisy, device="cpu")
        for top in range(0, H, self.tile):
            for left in range(0, W, self.tile):
                bottom, right = min(top + self.tile, H), min(left + self.tile, W)
                y, x = max(0, top - self.overlap), max(0, left - self.overlap)
                piece = noisy[..., y : bottom + self.overlap, x : right + self.overlap].to(self.device)
                out = forward(piece)[..., top - y : bottom - y, left - x : right - x]
                denoised[..., top:bottom, left:right] = out.cpu()
        return denoised

    def __call__(self, noisy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Denoise one image, H×W×C float32 in [0, 1]; the result is not clipped."""
        images = torch.from_numpy(np.ascontiguousarray(noisy)).movedim(2, 0)[None]
        return self.denoise(images)[0].movedim(0, 2).numpy()
