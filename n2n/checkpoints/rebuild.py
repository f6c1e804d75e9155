"""The backbone of a checkpoint, which may be hostile: built only after its class, arguments and weights are checked."""

from __future__ import annotations

import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from n2n.checkpoints.arguments import arguments, check_spec
from n2n.checkpoints.bundled import describe_checkpoint
from n2n.checkpoints.trust import HOMES, find_trusted_class
from n2n.errors import InputError, reason
from n2n.system.torch_files import load_torch_file
from n2n.system.yaml_files import nested_values

_PREFIX = "backbone."
# More than any backbone's arguments have.
_MOST_ARGUMENTS = 1000
# Most calls of torch that a constructor makes: for each weight, and in addition.
_CALLS, _MORE_CALLS = 200, 2000
# Most elements of a constructor's tensors beside those of the weights.
_SPARE = 2**20
# A checkpoint of a network in half precision fits one in single precision, and the other way round.
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_MANY_MORE = "the weights do not fit the backbone it names (it has many more)"


def load_checkpoint(path: Path, **advice: str) -> dict[str, Any]:
    """Read a checkpoint; its ``n2n``, ``hyper_parameters`` and ``state_dict`` are dicts, and nothing else is checked.

    Args:
        path: the file.
        advice: as of :func:`n2n.system.torch_files.load_torch_file`.

    Raises:
        InputError: if the file is not a checkpoint of n2n.
    """
    wanted = describe_checkpoint()
    content = load_torch_file(path, wanted, **advice)
    parts = ("n2n", "hyper_parameters", "state_dict")
    if type(content) is not dict or not all(isinstance(content.get(part), dict) for part in parts):
        raise InputError(f"{path} is a PyTorch file of another kind: expected {wanted}")
    # An OrderedDict out of a file may have attributes in the place of its methods.
    return content | {part: dict(dict.items(content[part])) for part in parts}


class _Bounded(TorchFunctionMode):
    """Refuses to make more or larger tensors than a network of so many weights needs, in this thread alone."""

    def __init__(self, weights: int, elements: int) -> None:
        super().__init__()
        self._calls, self._elements = _MORE_CALLS + _CALLS * weights, _SPARE + elements

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._calls -= 1
        result = func(*args, **(kwargs or {}))
        if self._calls < 0 or (isinstance(result, Tensor) and not is_lazy(result) and result.numel() > self._elements):
            raise InputError(_MANY_MORE)
        return result


def _construct(spec: Mapping[str, Any], trust: Collection[str]) -> nn.Module:
    """Build a checked class from its arguments, and those among them that are classes before it."""
    cls = find_trusted_class(spec["class_path"], HOMES["backbone"], trust)
    if not issubclass(cls, nn.Module):
        raise InputError(f"it names {spec['class_path']}, which is no torch.nn.Module")
    annotation = arguments(cls)
    given = {**(spec.get("init_args") or {}), **(spec.get("dict_kwargs") or {})}
    values = {name: _built(value, annotation(name), trust) for name, value in given.items()}
    try:
        return cls(**values)
    except InputError:
        raise
    except Exception as error:  # constructors fail in many ways on what they were not made for
        raise InputError(f"cannot build the backbone {spec['class_path']} ({reason(error)})") from None


def _built(value: Any, annotation: Any, trust: Collection[str]) -> Any:
    if isinstance(value, dict) and "class_path" in value:
        return _construct(value, trust)
    if isinstance(value, dict):
        return {key: _built(inner, None, trust) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        # A configuration has lists where the class wants tuples.
        kind = tuple if typing.get_origin(annotation) is tuple else type(value)
        return kind(_built(inner, None, trust) for inner in value)
    return value


def backbone_weights(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a checkpoint's backbone by their names; raises InputError if one is not stored in full."""
    weights = {
        name.removeprefix(_PREFIX): value
        for name, value in content["state_dict"].items()
        if isinstance(name, str) and name.startswith(_PREFIX)
    }
    if odd := [name for name, value in weights.items() if not is_stored(value)]:
        raise InputError(f"its weight {odd[0]!r:.80} is not stored in full")
    return weights


def check_backbone(content: Mapping[str, Any], trust: Collection[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Check that a checkpoint may name its backbone, and that the weights are those of the backbone.

    The backbone is built on the meta device for that, so its weights take no memory.

    Args:
        content: of the checkpoint, as :func:`load_checkpoint` returns it.
        trust: packages where the backbone's class may be defined, beside n2n.

    Returns:
        The class and the arguments of the backbone, and its weights by their names.

    Raises:
        InputError: if the checkpoint may not name the backbone or its arguments, or the weights do not fit.
    """
    spec = content["hyper_parameters"].get("backbone")
    if type(spec) is not dict or "class_path" not in spec:
        raise InputError("it does not say what its backbone is")
    if sum(1 for _ in nested_values(spec)) > _MOST_ARGUMENTS:
        raise InputError(f"its backbone has more than {_MOST_ARGUMENTS} arguments")
    check_spec(spec, HOMES["backbone"], trust)
    weights = backbone_weights(content)
    with torch.device("meta"), _Bounded(len(weights), sum(value.numel() for value in weights.values())):
        network = _construct(spec, trust)
    _compare(network, weights)
    return spec, weights


def _compare(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Raise InputError if names, shapes or dtypes differ from the network's, or the file stores fewer bytes than they need."""
    wanted: dict[str, Any] = network.state_dict(keep_vars=True)
    for name in [*wanted, *weights]:
        if name not in weights or name not in wanted:
            where = "the file" if name in wanted else "the backbone"
            raise InputError(f"the weights do not fit the backbone it names ({name:.80} is not in {where})")
        here, there = wanted[name], weights[name]
        if not isinstance(here, Tensor) or is_lazy(here):
            continue
        if here.shape != there.shape or (here.dtype != there.dtype and not {here.dtype, there.dtype} <= _FLOATS):
            said = [f"{tuple(one.shape)} {str(one.dtype).removeprefix('torch.')}" for one in (there, here)]
            raise InputError(f"the weights do not fit the backbone it names ({name:.80} is {said[0]}, not {said[1]})")
    # A weight of several names is made once; names of several weights may share what is stored.
    needed = sum(weights[name].nbytes for name in {id(value): name for name, value in wanted.items()}.values())
    unnamed = sum(buffer.nbytes for name, buffer in network.named_buffers() if name not in wanted)
    if needed > _held(weights) or unnamed > 4 * (_SPARE + needed):
        raise InputError(_MANY_MORE)


def _held(weights: Mapping[str, Tensor]) -> int:
    """Count the bytes behind tensors, each byte once."""
    storages = [value.untyped_storage() for value in weights.values()]
    total = end = 0
    for start, length in sorted((storage.data_ptr(), storage.nbytes()) for storage in storages):
        total += max(0, start + length - max(start, end))
        end = max(end, start + length)
    return total


def rebuild(content: Mapping[str, Any], trust: Collection[str] = ()) -> nn.Module:
    """Build the backbone of a checkpoint, and load its weights.

    Args:
        content: of the checkpoint, as :func:`load_checkpoint` returns it.
        trust: packages where the backbone's class may be defined, beside n2n.

    Raises:
        InputError: if the class is no ``torch.nn.Module`` of n2n or of a trusted package, does not take the arguments, or has
            other weights; if there are none.
    """
    spec, weights = check_backbone(content, trust)
    backbone = _construct(spec, trust)
    try:
        backbone.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"the weights do not fit the backbone it names ({reason(error)})") from None
    return backbone


def is_stored(value: object) -> bool:
    """Whether a value is a tensor with all its elements: an expanded one may claim any size and store a few bytes."""
    return (
        type(value) in (Tensor, nn.Parameter)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.nbytes <= value.untyped_storage().nbytes()
    )
