"""Starting a training from the weights of a checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from n2n.checkpoints.bundled import find_checkpoint
from n2n.checkpoints.rebuild import backbone_weights, load_checkpoint
from n2n.errors import InputError

_COLOURS = 3


def load_weights(name: str, backbone: nn.Module) -> None:
    """Load the weights of a checkpoint into a backbone of the same kind.

    A network for colour images starts one for grey images, and the other way round. If its last layer is linear, it then gives
    what the other one gives for a grey image.

    Args:
        name: a checkpoint of ``n2n fit``, or the name of one that comes with n2n.
        backbone: to load them into. No class that the checkpoint names is built, so it need not be trusted.

    Raises:
        InputError: if the file is no checkpoint, or its weights are those of another network.
    """
    path = find_checkpoint(name)
    weights, wanted = backbone_weights(load_checkpoint(path)), backbone.state_dict()
    kind = type(backbone).__name__
    fitted = {}
    for key in {**wanted, **weights}:
        if key not in weights or key not in wanted:
            where = "the checkpoint" if key in wanted else f"this {kind}"
            raise InputError(
                f"{path} holds the weights of another network ({key:.80} is not in {where}): {_advice(kind)}"
            )
        found = _fit_channels(weights[key], wanted[key].shape)
        if found is None:
            shapes = " and not ".join(str(tuple(one.shape)) for one in (weights[key], wanted[key]))
            raise InputError(f"{path} holds the weights of another network ({key:.80} is {shapes}): {_advice(kind)}")
        fitted[key] = found
    backbone.load_state_dict(fitted)


def _advice(kind: str) -> str:
    return f"give the {kind} the arguments of the checkpoint's backbone, or choose another checkpoint"


def _fit_channels(weight: Tensor, shape: torch.Size) -> Tensor | None:
    """Return a weight with the channels of another shape, colour instead of grey or the reverse; None if more differs."""
    weight = weight.float() if weight.is_floating_point() else weight
    if weight.shape == shape:
        return weight
    if weight.ndim != len(shape):
        return None
    for axis, (have, want) in enumerate(zip(weight.shape, shape, strict=True)):
        # Outputs are averaged or repeated, inputs are added up or shared out.
        if (have, want) == (_COLOURS, 1):
            weight = weight.mean(axis, keepdim=True) if axis == 0 else weight.sum(axis, keepdim=True)
        elif (have, want) == (1, _COLOURS):
            weight = weight.repeat_interleave(_COLOURS, axis) / (1 if axis == 0 else _COLOURS)
        elif have != want:
            return None
    return weight
