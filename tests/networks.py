"""Backbones of users."""

import time

import torch
from torch import nn


class Residual(nn.Module):
    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.hidden = hidden
        self.first, self.last = nn.Conv2d(3, hidden, 3, padding=1), nn.Conv2d(hidden, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x - self.last(self.first(x).relu())
        return out


class Spectral(nn.Module):
    """A factor for each frequency."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1, 1, dtype=torch.complex64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = torch.fft.irfft2(torch.fft.rfft2(x.float()) * self.weight, x.shape[-2:])
        return out


class Mean(nn.Module):
    """The mean of 3×3 pixels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(x, 3, 1, 1)


class Slow(nn.Module):
    """Nothing, but slowly."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.02)
        return x


class Interrupting(nn.Module):
    """What happens when the user presses Ctrl-C in the first step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise KeyboardInterrupt
        return self.weight * x


class Dropping(nn.Module):
    """Draws random numbers of the process's generator."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Dropout(0.5), nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


class Collapsing(nn.Module):
    """Does nothing to the images in the first epoch of 60 in batches of 20, and turns them black later."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += self.training
        return x * self.weight.clamp(0.99, 1.01) * float(self.steps <= 3)


class Windowed(nn.Module):
    """Has a weight of two names, a buffer that no checkpoint holds, and a tuple."""

    window: torch.Tensor

    def __init__(self, size: tuple[int, int] = (3, 3), inner: nn.Module | None = None) -> None:
        super().__init__()
        assert isinstance(size, tuple)
        self.size, self.inner = size, inner
        self.first, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.last.weight = self.first.weight
        self.register_buffer("window", torch.ones(size).cumsum(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.first(x))
        return out


class Dead(nn.Module):
    """Gives one learnt value everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.value + 0 * x
