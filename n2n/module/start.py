"""Starting a training from the weights of a checkpoint, or from the mean of several."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from n2n.backbones import UNet
from n2n.checkpoints.bundled import find_checkpoint
from n2n.checkpoints.rebuild import backbone_weights, load_checkpoint
from n2n.errors import InputError

_TRANSPOSED = nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d


def load_weights(names: Sequence[str], backbone: nn.Module, channels: int | None) -> None:
    """Load the weights of a checkpoint, or the mean of those of several, into a backbone of the same kind.

    The mean can be better than each of them if all were trained from one checkpoint (Wortsman et al., "Model soups", ICML
    2022).

    A network for colour images starts one for grey images, or for any other number of channels, and the other way round. If its
    last layer is linear, it then gives for alike channels what the other one gives. Of the networks that join the
    images' channels to others, only UNet is supported: in others, nobody knows which channels are the images'.

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
    modules = dict(backbone.named_modules(remove_duplicate=False))
    fitted = {}
    for key in {**wanted, **weights}:
        if key not in weights or key not in wanted:
            where = "the checkpoint" if key in wanted else f"this {kind}"
            raise InputError(
                f"{path} holds the weights of another network ({key:.80} is not in {where}): {_advice(kind)}"
            )
        shapes = weights[key].shape, wanted[key].shape
        # In a transposed convolution the inputs come first, except in one of each channel alone.
        transposed = isinstance(modules.get(key.rpartition(".")[0]), _TRANSPOSED)
        outputs = int(transposed and any(shape[1:2] > (1,) for shape in shapes))
        found = _fit_channels(weights[key], shapes[1], (have, channels), outputs, isinstance(backbone, UNet))
        if found is None:
            differing = " and not ".join(str(tuple(shape)) for shape in shapes)
            raise InputError(f"{path} holds the weights of another network ({key:.80} is {differing}): {_advice(kind)}")
        fitted[key] = found
    return fitted


def _advice(kind: str) -> str:
    return (
        f"give the {kind} the arguments of the checkpoint's backbone, choose another checkpoint, or train from random weights "
        "(--model.start_from null)"
    )


def _fit_channels(
    weight: Tensor, shape: torch.Size, channels: tuple[int | None, int | None], outputs: int = 0, joined: bool = False
) -> Tensor | None:
    """Return a weight with another shape, where only the number of the images' channels differs; None if more does.

    Args:
        weight: of the checkpoint.
        shape: that is wanted.
        channels: of the images, before and now.
        outputs: the axis of the outputs; the others are of inputs.
        joined: whether the images' channels may come after other inputs.
    """
    weight = weight.float() if weight.is_floating_point() else weight
    if weight.ndim != len(shape):
        return None
    before, now = channels
    for axis, (have, want) in enumerate(zip(weight.shape, shape, strict=True)):
        if have == want:
            continue
        if before is None or now is None or have - before != want - now or have < before:
            return None
        if have > before and (axis == outputs or not joined):
            return None
        others, images = torch.split(weight, [have - before, before], axis)
        # Outputs are the mean of all, inputs share the sum.
        one = images.mean(axis, keepdim=True) if axis == outputs else images.sum(axis, keepdim=True) / now
        weight = torch.cat([others, one.repeat_interleave(now, axis)], axis)
    return weight
