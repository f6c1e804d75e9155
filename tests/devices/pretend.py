"""A second device made of the CPU, for machines without a GPU: ``pretend:0``.

Its tensors hold real values in the CPU's memory, but an operation on one of them and on a CPU tensor fails as on a GPU. So
code that forgets to move a tensor fails here, in seconds, and not on the user's GPU. Two profiles refuse what the real
devices refuse:

- both: operations across devices, a random generator of another device, a fused optimiser's step count on the CPU,
  ``numpy()`` of a device tensor, ``pin_memory()`` of a device tensor;
- ``cuda``: indexing and arithmetic of uint16, uint32 and uint64; in deterministic mode, what has no deterministic kernel
  there. ``torch.poisson`` counts in 32 bits, as there;
- ``mps``: float64.

``torch.autocast("pretend")`` casts as it does on CUDA (:mod:`tests.devices.autocast`). Kernels' rounding, streams, pinned
memory, CUDA graphs and speed are the CPU's.

    from tests.devices import pretend
    pretend.install("cuda")              # before anything makes a tensor; once per process
    main(["fit", ..., *pretend.TRAINER])

Needs torch 2.11 or later: it uses ``_setup_privateuseone_for_python_backend``, which is experimental and has no public
equivalent in Python. Tried with torch 2.13 and Lightning 2.6.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch.utils import backend_registration

from tests.devices import autocast

NAME = "pretend"
# What the Trainer's options must say; Lightning chooses no accelerator of a name that it does not know.
TRAINER = ("--trainer.accelerator", NAME, "--trainer.strategy", NAME)
Profile = Literal["cuda", "mps"]

# Operations that read one device and write another.
_ACROSS = {"copy_", "_to_copy", "_copy_from", "_local_scalar_dense", "set_"}
# Operations whose indices may be on the CPU while the images are not. Not so index_select, gather and scatter.
_INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
# CUDA's kernels for these dtypes create, copy, view and compare; the rest raises '"index_cuda" not implemented for UInt16'.
_UNSIGNED = {torch.uint16, torch.uint32, torch.uint64}
_UNSIGNED_CAN = {
    *_ACROSS,
    *("empty_like", "zero_", "fill_", "clone", "cat", "eq", "ne", "equal", "detach", "alias", "view", "as_strided"),
    *("reshape", "_unsafe_view", "_reshape_alias", "expand", "slice", "select", "split", "permute", "transpose", "t"),
    *("squeeze", "unsqueeze", "movedim", "unfold", "unbind", "diagonal"),
}
# What CUDA refuses in deterministic mode, as documented at torch.use_deterministic_algorithms; what images may need of it.
_NOT_DETERMINISTIC = {
    *("median.dim", "nanmedian.dim", "kthvalue", "multinomial", "histc", "put_", "nll_loss2d_forward"),
    *("_adaptive_avg_pool2d_backward", "adaptive_max_pool2d_backward", "reflection_pad2d_backward"),
    *("grid_sampler_2d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward"),
}
# Operations whose result, or its size, the host must know.
_WAITED_FOR = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
}
# Functions that draw random numbers.
_RANDOM = ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "poisson", "multinomial")
# Of pretended memory; enough that n2n keeps the tests' images on the device.
_MEMORY = 8 << 30

_libraries: list[torch.library.Library] = []
_profile: Profile = "cuda"
_device: torch.device
_float64_allowed = False
# Operations that the host waited for; None if nobody asks.
_waits: list[str] | None = None
# The largest tensor in bytes, and how an allocation of more fails.
_largest: tuple[int, Exception] | None = None


def supported() -> bool:
    """Whether this version of torch can have a device that is written in Python."""
    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


class PretendTensor(torch.Tensor):
    """A tensor on the pretended device; ``elem``, on the CPU, holds its values."""

    elem: torch.Tensor

    @staticmethod
    def __new__(cls: type[PretendTensor], elem: torch.Tensor) -> PretendTensor:
        """Wrap a CPU tensor, whose memory is shared."""
        new: Any = torch.Tensor._make_wrapper_subclass(
            cls, elem.size(), elem.stride(), elem.storage_offset(), dtype=elem.dtype, device=_device
        )
        new.elem = elem
        return new  # type: ignore[no-any-return]

    def __repr__(self) -> str:  # type: ignore[override]
        return f"pretend({self.elem})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Saved as a CPU tensor, since nobody can load another without this file.
        return self.elem.__reduce_ex__(protocol)  # type: ignore[no-untyped-call]

    def tolist(self) -> Any:
        """Return the values, as any device does."""
        return self.elem.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Refuse, as every device but the CPU does."""
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert {_device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation on the values, after checking what a real device checks."""
        return _run(func, args, kwargs or {})


class Generator(torch.Generator):
    """A random generator that remembers its device; the numbers are the CPU's."""

    _of_device: ClassVar[weakref.WeakValueDictionary[int, Generator]] = weakref.WeakValueDictionary()

    def __new__(cls, device: Any = "cpu") -> Generator:
        """Make a CPU generator, and note it if the pretended device is asked for."""
        ours = torch.device(device).type == NAME
        new = super().__new__(cls, "cpu" if ours else device)  # type: ignore[call-arg]
        if ours:
            cls._of_device[_identity(new)] = new
        return new

    def __init__(self, device: Any = "cpu") -> None: ...

    @property
    def device(self) -> torch.device:  # type: ignore[override]  # an attribute there
        """The device whose tensors it fills."""
        return _device if _identity(self) in self._of_device else super().device


def _identity(generator: torch.Generator) -> int:
    """Return what tells generators apart after torch has wrapped them anew: the address of the C++ object."""
    address: int = generator._cdata  # type: ignore[attr-defined]
    return address


def _host(x: Any) -> Any:
    """Return the CPU tensors of arguments; operations take and give tensors and lists of them."""
    if isinstance(x, PretendTensor):
        return x.elem
    return [_host(one) for one in x] if isinstance(x, list | tuple) else x


def _flat(arguments: Iterable[Any]) -> list[Any]:
    flat = []
    for x in arguments:
        flat.extend(_flat(x) if isinstance(x, list | tuple) else [x])
    return flat


def _refuse(operation: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Raise what a real device raises for tensors, generators and dtypes that it does not take."""
    leaves = _flat([*args, *kwargs.values()])
    tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
    ours: list[torch.Tensor] = [x for x in tensors if isinstance(x, PretendTensor)]
    if ours and operation == "_fused_adagrad_":
        raise NotImplementedError("Could not run 'aten::_fused_adagrad_': only the CPU has it")
    if ours and _profile == "cuda" and operation not in _UNSIGNED_CAN:
        for x in ours:
            if x.dtype in _UNSIGNED:
                raise NotImplementedError(f"\"{operation}_cuda\" not implemented for '{str(x.dtype)[6:]}'")
    for x in leaves:
        if isinstance(x, torch._C.Generator) and ours and _identity(x) not in Generator._of_device:
            raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu'")
    if not ours or operation in _ACROSS:
        return
    indices = _flat(args[1]) if operation in _INDEXED else []
    for x in tensors:
        # A number may be a CPU tensor, but a fused optimiser's kernel reads its step counts on the device.
        number = x.ndim == 0 and not operation.startswith("_fused_")
        index = isinstance(args[0], PretendTensor) and any(x is one for one in indices)
        if not isinstance(x, PretendTensor) and not number and not index:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {_device} and {x.device}! "
                f"(when checking arguments in {operation})"
            )


def _is_waited_for(operation: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether the host would wait until a GPU has done all that it was told."""
    if operation in ("_to_copy", "copy_"):
        to = args[1] if operation == "copy_" else kwargs.get("device")
        to = to.device if isinstance(to, torch.Tensor) else None if to is None else torch.device(to)
        at_once = args[2] if operation == "copy_" and len(args) > 2 else kwargs.get("non_blocking")
        return to is not None and to.type != args[0].device.type and not at_once
    masks = [x for x in _flat(args[1]) if isinstance(x, PretendTensor)] if operation in _INDEXED else []
    return operation in _WAITED_FOR or any(x.dtype == torch.bool for x in masks)


@contextlib.contextmanager
def waits() -> Iterator[list[str]]:
    """Give a list that the operations are added to for which the host would wait for a GPU."""
    global _waits
    found: list[str] = []
    _waits = found
    try:
        yield found
    finally:
        _waits = None


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operation on the CPU and wrap what it returns, unless that goes to the CPU."""
    schema = func._schema
    operation = schema.name.partition("::")[2]
    # Autograd takes composite operations apart before they come here, except in inference mode.
    if torch.is_inference_mode_enabled() and func._can_decompose():
        return func.decompose(*args, **kwargs)
    _refuse(operation, args, kwargs)
    names = {operation, f"{operation}.{schema.overload_name}"}
    if _profile == "cuda" and torch.get_deterministic_debug_mode() == 2 and names & _NOT_DETERMINISTIC:
        raise RuntimeError(f"{operation} does not have a deterministic implementation")
    if _waits is not None and _is_waited_for(operation, args, kwargs):
        _waits.append(operation)
    to = kwargs.get("device")
    to = None if to is None else torch.device(to)
    host_kwargs = kwargs if to is None else {**kwargs, "device": torch.device("cpu")}
    if kwargs.get("pin_memory"):
        host_kwargs = {**host_kwargs, "pin_memory": False}
    out = func(*map(_host, args), **{name: _host(x) for name, x in host_kwargs.items()})
    if operation == "poisson" and _profile == "cuda":
        # cuRAND counts in unsigned int.
        out = out.clamp(max=2**32 - 1)
    if operation == "_local_scalar_dense" or (to is not None and to.type != NAME):
        return out
    written = [a for a, s in zip(args, schema.arguments, strict=False) if s.alias_info and s.alias_info.is_write]
    for x in _flat(written):
        if isinstance(x, PretendTensor) and x.elem.shape != x.shape:
            raise NotImplementedError(f"the pretended device cannot change a tensor's shape in place ({operation})")
    aliased = bool(schema.returns) and schema.returns[0].alias_info is not None
    if written and aliased and len(schema.returns) == 1:
        return written[0]
    if aliased and isinstance(args[0], torch.Tensor) and not args[0].is_inference():
        # In inference mode too, a view of an ordinary tensor is one.
        with torch.inference_mode(False):
            return _wrap(out)
    return _wrap(out)


def _wrap(x: Any) -> Any:
    """Put new CPU tensors on the pretended device."""
    if isinstance(x, list | tuple):
        return type(x)(map(_wrap, x))
    if not isinstance(x, torch.Tensor) or isinstance(x, PretendTensor):
        return x
    if _profile == "mps" and x.dtype == torch.float64 and not _float64_allowed:
        raise TypeError(
            "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
            "Please use float32 instead."
        )
    if _largest is not None and x.nbytes > _largest[0]:
        raise _largest[1]
    return PretendTensor(x)


@contextlib.contextmanager
def out_of_memory(above: int, error: Exception | None = None) -> Iterator[None]:
    """Let the device have no memory for a tensor of more bytes than ``above``.

    Args:
        above: size of the largest tensor that fits, in bytes.
        error: what fails, since real devices have several ways to say it; by default ``torch.OutOfMemoryError``.
    """
    global _largest
    _largest = above, error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
    try:
        yield
    finally:
        _largest = None


class _Module:
    """What torch asks of ``torch.pretend``."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def set_device(self, device: Any) -> None: ...
    def manual_seed_all(self, seed: int) -> None: ...
    def synchronize(self, device: Any = None) -> None: ...
    def empty_cache(self) -> None: ...

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        return _MEMORY, _MEMORY

    def _is_in_bad_fork(self) -> bool:
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def install(profile: Profile = "cuda") -> torch.device:
    """Make the device and, for Lightning, the accelerator and the strategy "pretend".

    A second call only changes the profile.

    Args:
        profile: what to refuse.

    Returns:
        ``pretend:0``.
    """
    global _device, _profile
    _profile = profile
    if _libraries:
        return _device
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Module())
    _device = torch.device(f"{NAME}:0")
    factories = torch.library.Library("aten", "IMPL", "PrivateUse1")  # type: ignore[no-untyped-call]
    for name, make in (("empty.memory_format", _empty), ("empty_strided", _empty_strided), ("_copy_from", _copy_from)):
        factories.impl(name, make)  # type: ignore[no-untyped-call]
    _libraries.extend((factories, *autocast.libraries(NAME)))
    torch.Generator = Generator  # type: ignore[misc]
    _replace_factories()
    _fake_accelerator()
    _register_with_lightning()
    return _device


def _empty(
    size: Any,
    *,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> Any:
    order = memory_format or torch.contiguous_format
    return _wrap(torch.empty(size, dtype=dtype, memory_format=order, device="cpu"))


def _empty_strided(
    size: Any, stride: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None
) -> Any:
    return _wrap(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))


def _copy_from(source: Any, target: Any, non_blocking: bool = False) -> Any:
    # Where torch.tensor makes a tensor on a device: not by an operation of _run.
    if _waits is not None and source.device.type != target.device.type and not non_blocking:
        _waits.append("_copy_from")
    _host(target).copy_(_host(source))
    return target


def _replace_factories() -> None:
    """Let CPU tensors be pinned, as ordinary ones, and refuse the device's generator for CPU tensors.

    Pinning needs an allocator in C++, and an operation on CPU tensors alone does not pass through this file.
    """

    def pin_memory(tensor: torch.Tensor, device: Any = None) -> torch.Tensor:
        if tensor.device.type == NAME:
            raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
        return tensor.clone()

    torch.Tensor.pin_memory = pin_memory  # type: ignore[method-assign, assignment]
    for name in ("empty", "empty_like", "empty_strided", "zeros", "zeros_like", *_RANDOM):
        setattr(torch, name, _checked(getattr(torch, name)))


def _checked(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def made(*args: Any, **kwargs: Any) -> torch.Tensor:
        generator = kwargs.get("generator")
        if generator is not None and generator.device.type == NAME:
            images = [x for x in args if isinstance(x, torch.Tensor)]
            device = kwargs.get("device") or (images[0].device if images else "cpu")
            if torch.device(device).type == "cpu":
                raise RuntimeError(f"Expected a 'cpu' device type for generator but found '{NAME}'")
        kwargs.pop("pin_memory", None)
        return make(*args, **kwargs)

    return made


def _fake_accelerator() -> None:
    """Let ``torch.accelerator`` do for the device what needs no more than Python."""
    for name in ("synchronize", "empty_cache", "reset_peak_memory_stats", "reset_accumulated_memory_stats"):
        if hasattr(torch.accelerator, name):
            setattr(torch.accelerator, name, lambda *_: None)
    for name in ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved"):
        if hasattr(torch.accelerator, name):
            setattr(torch.accelerator, name, lambda *_: 0)
    if hasattr(torch.accelerator, "get_memory_info"):
        torch.accelerator.get_memory_info = lambda *_: (_MEMORY, _MEMORY)


class _Scaler(torch.amp.GradScaler):
    """torch's scaler computes in float64 except on a device that is called "mps:0"."""

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        global _float64_allowed
        _float64_allowed = True
        try:
            super().unscale_(optimizer)
        finally:
            _float64_allowed = False


def scaler(init_scale: float) -> torch.amp.GradScaler:
    """Return a gradient scaler for the device that begins with another scale than the default's 65536."""
    return _Scaler(NAME, init_scale)


def _register_with_lightning() -> None:
    from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry
    from lightning.pytorch.plugins import MixedPrecision
    from lightning.pytorch.strategies import SingleDeviceStrategy, StrategyRegistry

    class PretendAccelerator(Accelerator):
        def setup_device(self, device: torch.device) -> None: ...
        def teardown(self) -> None: ...

        def get_device_stats(self, device: Any) -> dict[str, Any]:
            return {}

        @staticmethod
        def parse_devices(devices: Any) -> int:
            return 1

        @staticmethod
        def get_parallel_devices(devices: Any) -> list[torch.device]:
            return [_device]

        @staticmethod
        def auto_device_count() -> int:
            return 1

        @staticmethod
        def is_available() -> bool:
            return True

        @staticmethod
        def name() -> str:
            return NAME

    class PretendStrategy(SingleDeviceStrategy):
        def __init__(self, **kwargs: Any) -> None:
            precision = kwargs.get("precision_plugin")
            super().__init__(_device, **kwargs)
            self.precision_plugin = precision

        @property
        def precision_plugin(self) -> Any:
            return super().precision_plugin

        @precision_plugin.setter
        def precision_plugin(self, plugin: Any) -> None:
            # Lightning takes every device but the CPU and MPS for CUDA.
            if isinstance(plugin, MixedPrecision) and plugin.device == "cuda":
                if plugin.precision == "16-mixed":
                    plugin = MixedPrecision("16-mixed", NAME, _Scaler(NAME))
                else:
                    plugin = MixedPrecision("bf16-mixed", NAME)
            self._precision_plugin = plugin

    AcceleratorRegistry.register(NAME, PretendAccelerator)
    StrategyRegistry.register(NAME, PretendStrategy)
