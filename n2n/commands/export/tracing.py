"""Capturing the graph of a backbone for all batch sizes, heights and widths that it takes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbolic

from n2n.errors import InputError

# N, H, W of the images that a backbone is tried on: odd and even sides, wide and tall images, one and several.
TRIED = ((1, 64, 96), (3, 33, 47), (1, 101, 40), (2, 36, 51))


@dataclass(frozen=True)
class Sides:
    """The image sizes that a backbone takes: multiples of ``step``, at least ``least``; if ``width`` is given, only that W."""

    step: int = 1
    width: int | None = None
    least: int = 1

    def fit(self, H: int, W: int) -> tuple[int, int]:
        """Return the next larger size that the backbone takes."""
        return -(-H // self.step) * self.step, self.width or -(-W // self.step) * self.step

    def __str__(self) -> str:
        multiples = f", H and W multiples of {self.step}" if self.step > 1 else ""
        least = f", H and W at least {self.least}" if self.least > 1 else ""
        return f"H×{self.width or 'W'}{multiples}{least}"


class _Network(nn.Module):
    """A backbone whose argument has the name of the file's input."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, noisy: Tensor) -> Tensor:
        denoised: Tensor = self.backbone(noisy)
        return denoised


def main_line(error: Exception) -> str:
    """Return the most informative line of an exporter's message, which may have hundreds."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # torch.export lists the sizes that a graph is not valid for below a general line.
    listed = [line.removeprefix("- ") for line in lines if line.startswith("- Not all values")]
    return [*listed, *lines, type(error).__name__][0][:200]


def _takes(backbone: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        with torch.inference_mode():
            return bool(backbone(torch.zeros(shape)).shape == torch.Size(shape))
    except Exception:  # a backbone can raise anything for a size that it does not take
        return False


def find_sides(backbone: nn.Module, channels: int) -> Sides:
    """Find the sizes that a backbone takes: all, multiples of a power of two, or those of one width."""
    choices = [Sides(step) for step in (1, 2, 4, 8, 16, 32, 64)]
    if isinstance(width := getattr(backbone, "width", None), int) and width > 0:
        choices.append(Sides(width=width))  # as Model1
    for sides in choices:
        if all(_takes(backbone, (N, channels, *sides.fit(H, W))) for N, H, W in TRIED):
            return sides
    raise InputError(
        f"the backbone {type(backbone).__name__} takes none of the sizes tried (33×47 and others, multiples of 2 to 64): only "
        "backbones that keep the shape N×C×H×W for many H and W can be exported"
    )


def _axes(sides: Sides) -> dict[int, Any]:
    """Return the axes of N×C×H×W that may have any size."""

    def any_of(name: str) -> Any:
        if sides.step > 1:
            return sides.step * Dim(f"{name}_steps", min=-(-sides.least // sides.step))
        return Dim(name, min=sides.least)

    height, width = any_of("height"), any_of("width")
    return {0: Dim("batch"), 2: height, **({3: width} if sides.width is None else {})}


def trace(backbone: nn.Module, channels: int, sides: Sides) -> tuple[ExportedProgram, Sides]:
    """Capture the backbone's graph for all N, H and W that it takes; return it, and ``sides`` with the least valid H and W.

    The least H and W are more than 1 for networks that pad by reflection, or pool and interpolate.
    """
    # No size is 1 here, because the exporter would take it as a constant.
    example = torch.zeros(2, channels, *sides.fit(35 + sides.step, 47 + 2 * sides.step))
    # Weights in contiguous order: with channels_last, the exporter adds checks of the memory format between layers, which fail
    # for sides of 1 pixel.
    network, why = _Network(deepcopy(backbone)).to(memory_format=torch.contiguous_format), ""  # type: ignore[call-overload]
    for least in (1, 8, 32):
        sides = replace(sides, least=least)
        try:
            # As torch's ONNX exporter does; there is no public name for it (tried with torch 2.9 and 2.13). Otherwise the
            # exporter assumes that sizes, as of an image halved several times, are more than 1, and small images fail.
            with symbolic.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]  # made when it is imported
                program = torch.export.export(network, (example,), dynamic_shapes=(_axes(sides),), strict=False)
            break
        except Exception as error:  # of many kinds
            why = why or main_line(error)  # later attempts are about larger sizes than asked for
    else:
        raise InputError(
            f"the backbone {type(backbone).__name__} cannot be exported for every batch, height and width ({why}): keep "
            "Python branches on sizes and values out of its forward"
        )
    # The graph does not need the example, which is half of a small file, nor the stack traces, which name local folders.
    program.example_inputs = None
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program, sides
