"""A backbone's graph, captured for every batch, height and width that it takes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbolic

from n2n.errors import InputError

# N, H, W of the images that a backbone is tried on: odd and even sides, wide and high ones, one and several at once.
TRIED = ((1, 64, 96), (3, 33, 47), (1, 101, 40), (2, 36, 51))


@dataclass(frozen=True)
class Sides:
    """Which image sizes a backbone takes.

    Attributes:
        step: H and W must be multiples of it, in pixels.
        width: the one W that it takes; None if any multiple of ``step``.
        least: H and W must be at least this, in pixels.
    """

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
    """A backbone whose argument has the name of the file's input, whatever its author called it."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, noisy: Tensor) -> Tensor:
        denoised: Tensor = self.backbone(noisy)
        return denoised


def reason(error: Exception) -> str:
    """Return the line that says most of a message that may have hundreds."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # torch.export's list of the sizes that a graph does not hold for stands below a line that says there is one.
    listed = [line.removeprefix("- ") for line in lines if line.startswith("- Not all values")]
    return [*listed, *lines, type(error).__name__][0][:200]


def _takes(backbone: nn.Module, shape: tuple[int, ...]) -> bool:
    try:
        with torch.inference_mode():
            return bool(backbone(torch.zeros(shape)).shape == torch.Size(shape))
    except Exception:  # an author's backbone can fail in any way; all mean that it does not take this size
        return False


def find_sides(backbone: nn.Module, channels: int) -> Sides:
    """Find out which sizes a backbone takes: all, or multiples of a power of two, or those of one width.

    Raises:
        InputError: if it is none of these.
    """
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
    """Return what is free in an input N×C×H×W, by axis."""

    def any_of(name: str) -> Any:
        if sides.step > 1:
            return sides.step * Dim(f"{name}_steps", min=-(-sides.least // sides.step))
        return Dim(name, min=sides.least)

    height, width = any_of("height"), any_of("width")
    return {0: Dim("batch"), 2: height, **({3: width} if sides.width is None else {})}


def trace(backbone: nn.Module, channels: int, sides: Sides) -> tuple[ExportedProgram, Sides]:
    """Capture the backbone's graph for every N, H and W that it takes.

    Returns:
        The graph, and ``sides`` with the least H and W that it holds for: networks that pad by reflection, or pool and
        interpolate, have one.

    Raises:
        InputError: if it cannot be captured, or only for some sizes.
    """
    # At least two of everything: the exporter takes a size of one for a constant.
    example = torch.zeros(2, channels, *sides.fit(35 + sides.step, 47 + 2 * sides.step))
    # In their plain order: from weights in channels_last order the exporter would go on to ask for the order of every image
    # between the layers, for which sides of 1 pixel are a case of their own.
    network, why = _Network(deepcopy(backbone)).to(memory_format=torch.contiguous_format), ""  # type: ignore[call-overload]
    for least in (1, 8, 32):
        sides = replace(sides, least=least)
        try:
            # As in torch's own ONNX exporter. Otherwise a size that can be 1, such as that of an image halved several times,
            # is taken to be more, and the graph holds for larger images alone.
            with symbolic.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]  # made when it is imported
                program = torch.export.export(network, (example,), dynamic_shapes=(_axes(sides),), strict=False)
            break
        except Exception as error:  # of many kinds
            # The first try's reason: the later ones' are about sizes that no one asked for.
            why = why or reason(error)
    else:
        raise InputError(
            f"the backbone {type(backbone).__name__} cannot be exported for every batch, height and width ({why}): keep "
            "Python branches on sizes and values out of its forward"
        )
    # What the graph is good for without; the first would be half of a small file, the second names this machine's folders.
    program.example_inputs = None
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program, sides
