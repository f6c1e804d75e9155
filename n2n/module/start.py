"""Starting a training from the weights of a checkpoint, or from the mean of several."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from n2n.checkpoints.bundled import find_checkpoint
from n2n.checkpoints.rebuild import backbone_weights, load_checkpoint
from n2n.errors import InputError


def load_weights(names: Sequence[str], backbone: nn.Module, channels: int | None) -> None:
    """Load the weights of a checkpoint, or the mean of those of several, into a backbone of the same kind.

    The mean can be better than each of them if all were trained from one checkpoint (Wortsman et al., "Model soups", ICML
    2022).

    A network for colour images starts one for grey images, or for any other number of channels, and the other way round. If its
    last layer is linear, it then gives for alike channels what the other one gives.

    Args:
        names: at least one checkpoint of ``n2n fit``, or the name of one that comes with n2n.
        backbone: to load them into. No class that the checkpoint names is built, so it need not be trusted.
        channels: of the images that the backbone is for; None if they are not known, and then the shapes must be the same.

    Raises:
        InputError: if there is no name, a file is no checkpoint, or its weights are those of another network.
    """
    if not names:
        raise InputError("start_from is an empty list: expected a checkpoint, several, or null for random weights")
    all_weights = [_fitted_weights(name, backbone, channels) for name in names]
    # Whole numbers, such as BatchNorm's count of batches, have no mean of their own type.
    stacks = {key: torch.stack([one[key] for one in all_weights]) for key in all_weights[0]}
    means = {key: x.mean(0) if x.is_floating_point() or x.is_complex() else x[0] for key, x in stacks.items()}
    backbone.load_state_dict(means)


def _fitted_weights(name: str, backbone: nn.Module, channels: int | None) -> dict[str, Tensor]:
    """Return the weights of a checkpoint in the shapes of a backbone's."""
    path = find_checkpoint(name)
    content, wanted = load_checkpoint(path), backbone.state_dict()
    weights, have = backbone_weights(content), content["n2n"].get("image_channels")
    kind = type(backbone).__name__
    fitted = {}
    for key in {**wanted, **weights}:
        if key not in weights or key not in wanted:
            where = "the checkpoint" if key in wanted else f"this {kind}"
            raise InputError(
                f"{path} holds the weights of another network ({key:.80} is not in {where}): {_advice(kind)}"
            )
        found = _fit_channels(weights[key], wanted[key].shape, (have, channels))
        if found is None:
            shapes = " and not ".join(str(tuple(one.shape)) for one in (weights[key], wanted[key]))
            raise InputError(f"{path} holds the weights of another network ({key:.80} is {shapes}): {_advice(kind)}")
        fitted[key] = found
    return fitted


def _advice(kind: str) -> str:
    return (
        f"give the {kind} the arguments of the checkpoint's backbone, choose another checkpoint, or train from random weights "
        "(--model.start_from null)"
    )


def _fit_channels(weight: Tensor, shape: torch.Size, channels: tuple[int | None, int | None]) -> Tensor | None:
    """Return a weight with another shape, where only the number of the images' channels differs; None if more does."""
    weight = weight.float() if weight.is_floating_point() else weight
    if weight.ndim != len(shape):
        return None
    for axis, sizes in enumerate(zip(weight.shape, shape, strict=True)):
        have, want = sizes
        if have == want:
            continue
        if sizes != channels:
            return None
        # Outputs are the mean of all, inputs share the sum.
        one = weight.mean(axis, keepdim=True) if axis == 0 else weight.sum(axis, keepdim=True) / want
        weight = one.repeat_interleave(want, axis)
    return weight
