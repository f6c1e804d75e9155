"""``torch.autocast`` on the pretended device: the casts of CUDA's.

torch has these rules in C++, for its own devices alone (``aten/src/ATen/autocast_mode.h``); a device written in Python brings
its own. The lists leave out what no network of images uses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

# Run in the lower precision that autocast was given.
LOWER = (
    *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input"),
    *("convolution", "prelu", "addmm", "addmv", "addr", "matmul", "einsum", "mm", "mv", "linear", "addbmm", "baddbmm"),
    *("bmm", "scaled_dot_product_attention"),
)
# Run in float32.
FLOAT32 = (
    *("exp", "expm1", "log", "log10", "log1p", "log2", "reciprocal", "rsqrt", "pow.Tensor_Scalar", "pow.Tensor_Tensor"),
    *("pow.Scalar", "softplus", "layer_norm", "native_layer_norm", "group_norm", "cosine_similarity", "l1_loss"),
    *("smooth_l1_loss", "huber_loss", "mse_loss", "binary_cross_entropy_with_logits", "dist", "cdist", "logsumexp"),
    *("prod", "softmax.int", "log_softmax.int", "cumprod", "cumsum", "sum", "sum.dim_IntList", "norm.Scalar"),
    *("norm.ScalarOpt_dim", "linalg_vector_norm", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"),
)
# Run in the widest precision of their arguments.
WIDEST = (
    *("cat", "stack", "addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "vdot", "tensordot", "grid_sampler"),
)


def libraries(device: str) -> list[torch.library.Library]:
    """Register the casts; they last as long as what is returned."""
    rest = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")  # type: ignore[no-untyped-call]
    rest.fallback(torch.library.fallthrough_kernel)  # type: ignore[no-untyped-call]
    casts = torch.library.Library("aten", "IMPL", "AutocastPrivateUse1")  # type: ignore[no-untyped-call]
    chosen: dict[tuple[str, ...], Callable[[Any], torch.dtype]] = {
        LOWER: lambda _: torch.get_autocast_dtype(device),
        FLOAT32: lambda _: torch.float32,
        WIDEST: _widest,
    }
    for names, dtype in chosen.items():
        for name in names:
            casts.impl(name, _cast(name, dtype))  # type: ignore[no-untyped-call]
    return [rest, casts]


def _floats(arguments: Any) -> list[torch.Tensor]:
    leaves = tree_leaves(arguments)
    return [x for x in leaves if isinstance(x, torch.Tensor) and x.is_floating_point() and x.dtype != torch.float64]


def _widest(arguments: Any) -> torch.dtype:
    floats = _floats(arguments)
    if not floats:
        return torch.float32
    dtypes = {x.dtype for x in floats}
    return dtypes.pop() if len(dtypes) == 1 else torch.float32


def _cast(name: str, dtype: Callable[[Any], torch.dtype]) -> Callable[..., Any]:
    base, _, overload = name.partition(".")
    operation = getattr(getattr(torch.ops.aten, base), overload or "default")

    key: Any = torch._C._parse_dispatch_key("AutocastPrivateUse1")

    def run(*args: Any, **kwargs: Any) -> Any:
        to, ours = dtype((args, kwargs)), {id(x) for x in _floats((args, kwargs))}
        # Without this key, or the casts would come back here.
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(key)):
            args, kwargs = tree_map(lambda x: x.to(to) if id(x) in ours else x, (args, kwargs))
            return operation(*args, **kwargs)

    return run
