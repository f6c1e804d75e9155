"""Base class of the corruptions, and their levels: fixed, or drawn for each image."""

# No postponed annotations: jsonargparse looks for the names in them in the module of the derived dataclass. Where that has no
# ClassVar, it accepts any value for the arguments.

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from n2n.errors import InputError

# Types of devices for which PyTorch has no torch.poisson.
WITHOUT_POISSON = {"mps"}


# Not a Protocol: jsonargparse takes a Protocol whose __call__ returns a class (Tensor) for a factory of that class.
class Corruption(ABC):
    """Draws noise for clean images, on their device.

    Each call draws new noise, independent for each image, so two calls on the same images give the two views that Noise2Noise
    needs. The result is not clipped, which would bias the noise; only :class:`Camera` clips, as cameras do.

    To add your own, inherit from this class, write ``__call__``, and set the attributes that differ. It is chosen by its import
    path (``class_path``) and needs no registration.

    Attributes:
        zero_mean: whether the mean of the noisy images is ``clean(images)``. Only then has the squared error (MSE) to a noisy
            target its minimum at the clean image (Lehtinen et al. 2018, section 2).
        suited_loss: import path of the loss whose minimum is the clean image.
        scale: factor by which a noisy image is smaller than its original; 1 for most corruptions.
    """

    zero_mean: ClassVar[bool] = True
    suited_loss: ClassVar[str] = "torch.nn.MSELoss"

    @property
    def scale(self) -> int:
        """Noisy images are H/scale×W/scale."""
        return 1

    @abstractmethod
    def __call__(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """Make images noisy: N×C×H×W float32 in [0, 1] -> N×C×(H/scale)×(W/scale), not limited to [0, 1].

        Args:
            clean: the images; they are not changed.
            generator: random number generator on the device of ``clean``; None for PyTorch's default. The same seed gives the
                same noise on the same kind of device.
        """

    def clean(self, images: Tensor) -> Tensor:
        """Return the ideal result of denoising: N×C×H×W -> N×C×(H/scale)×(W/scale)."""
        return images

    def pair(self, images: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Draw two noisy views with independent noise, and the ideal result of denoising them, which may depend on the draw.

        By default each view draws its own level. Noise that one camera makes draws its parameters once for both.
        """
        return self(images, generator), self(images, generator), self.clean(images)


# A range from YAML can also be a list.
Level = float | tuple[float, float]


def check_level(name: str, level: Level, most: float = math.inf, above: bool = False) -> None:
    """Raise InputError unless a level, a number or a range (low, high), lies in 0 to ``most``; ``above`` refuses 0, too."""
    ends = tuple(level) if isinstance(level, tuple | list) else (level, level)
    good = len(ends) == 2 and all(math.isfinite(end) and 0 <= end <= most and not (above and end == 0) for end in ends)
    if not good or ends[0] > ends[1]:
        bounds = "above 0" if above else "of at least 0"
        bounds += "" if math.isinf(most) else f" and at most {most:g}"
        raise InputError(f"{name} is {level}: expected a number {bounds}, or a range [low, high] of such numbers")


def highest(level: Level) -> float:
    """Return the highest level that can be drawn."""
    return max(level) if isinstance(level, tuple | list) else level


def draw_level(level: Level, images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw the level of each of N images, uniform over a range. Returns N×1×1×1 on the device of the images."""
    shape = (len(images), 1, 1, 1)
    if not isinstance(level, tuple | list):
        return images.new_full(shape, level)
    low, high = level
    return low + (high - low) * torch.rand(shape, generator=generator, device=images.device)


def count_photons(clean: Tensor, peak: Tensor, generator: torch.Generator | None) -> Tensor:
    """Count photons: x becomes Poisson(peak·x) / peak.

    Args:
        clean: the images, N×C×H×W; negative values count as 0.
        peak: mean number of photons of a white pixel, N×1×1×1. Beyond 1e9 it is 1e9, whose noise is below 0.01 grey levels.
        generator: on the device of the images.
    """
    # CUDA counts in 32 bits, and gives 4e9 for whatever is more.
    peak = peak.clamp(max=1e9)
    # A negative rate is an error that leaves a GPU unusable in this process.
    rates = (clean * peak).clamp_(min=0.0)
    if rates.device.type in WITHOUT_POISSON:
        # The seed comes from the generator, which moves on.
        seed = int(torch.randint(2**31, (), generator=generator, device=rates.device))
        on_cpu = torch.Generator().manual_seed(seed)
        return torch.poisson(rates.cpu(), generator=on_cpu).to(rates.device).div_(peak)
    return torch.poisson(rates, generator=generator).div_(peak)


def draw_log_level(level: Level, images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw the level of each of N images, uniform in its logarithm: the same as :func:`draw_level` otherwise."""
    low, high = level if isinstance(level, tuple | list) else (level, level)
    return draw_level((math.log(low), math.log(high)), images, generator).exp()
