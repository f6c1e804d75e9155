"""The classes that a checkpoint may name: those of n2n, and of packages that the user trusts."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Collection, Sequence
from types import ModuleType

from n2n.backbones.spec import PLAIN
from n2n.errors import InputError, reason

# Where the classes of an argument may be defined, by the argument's name. Those of other arguments may be defined where the
# class that takes them is.
HOMES: dict[str, tuple[str, ...]] = {
    "backbone": ("n2n.backbones",),
    "loss": ("n2n.losses", "torch.nn.modules.loss"),
    "optimizer": ("n2n.optimizers", "torch.optim"),
    "scheduler": ("n2n.schedules", "torch.optim.lr_scheduler"),
    "source": ("n2n.data.sources",),
    "val_source": ("n2n.data.sources",),
    "corruption": ("n2n.data.corruption",),
    "augmentations": ("n2n.data.augmentation",),
}
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)


def packages(trust: str | Sequence[str]) -> tuple[str, ...]:
    """Check the names of trusted packages.

    Raises:
        InputError: if one is no name of a top-level package, is not installed, or is Python's own.
    """
    names = (trust,) if isinstance(trust, str) else tuple(trust)
    for name in names:
        if not name.isidentifier():
            raise InputError(f"--trust is {name!r:.80}: expected the name of a package, such as mypackage")
        # Such as os and subprocess: no network is defined there.
        if name in sys.stdlib_module_names:
            raise InputError(f"--trust is {name}, a part of Python: expected the name of a package, such as mypackage")
        # Of a package itself, this imports nothing.
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            raise InputError(f"--trust is {name}: there is no such package, is it installed?")
    return names


def short(value: object) -> str:
    """Return a value for a message, or its type where it is no plain one."""
    try:
        return f"{value!r:.80}" if isinstance(value, PLAIN) else f"a {type(value).__name__}"
    except ValueError:  # Python does not write numbers of more than 4300 digits
        return "a number of many digits"


def _within(module: str, home: str) -> bool:
    return f"{module}.".startswith(f"{home}.")


def find_trusted_class(path: object, homes: Sequence[str], trust: Collection[str]) -> type:
    """Find the class that a checkpoint names. No module is imported but n2n's, PyTorch's, and those of trusted packages.

    Args:
        path: the import path.
        homes: modules where the class may be defined.
        trust: packages where it may be defined, too.

    Raises:
        InputError: if there is no such class, or it is defined elsewhere.
    """
    if not isinstance(path, str) or not _DOTTED.fullmatch(path):
        raise InputError(f"it names a class by {short(path)}: expected package.Class")
    package = path.partition(".")[0]
    found, names = _import(path, homes, package in trust)
    for name in names:
        # Modules are not asked for what they do not hold: some would import it. Trusted ones may.
        inside = isinstance(found, type | ModuleType)
        found = getattr(found, name, None) if inside and package in trust else vars(found).get(name) if inside else None
        if isinstance(found, ModuleType):
            break
    home = found.__module__ if isinstance(found, type) else ""
    if isinstance(found, type) and (home.partition(".")[0] in trust or any(_within(home, known) for known in homes)):
        return found
    raise InputError(_refusal(path, package, package in trust, homes))


def _import(path: str, homes: Sequence[str], trusted: bool) -> tuple[ModuleType | None, list[str]]:
    """Import the longest part of a path that is a module; returns it, and the names that are left."""
    found: ModuleType | None = None
    names = path.split(".")
    for end in range(1, len(names)):
        module = ".".join(names[:end])
        # On the way to a home, or inside it.
        known = trusted or any(_within(home, module) or _within(module, home) for home in homes)
        # A package's __main__ is a program.
        if not known or (end > 1 and names[end - 1] == "__main__"):
            return found, names[end - 1 :]
        try:
            found = importlib.import_module(module)
        except Exception as error:  # packages fail in many ways
            if isinstance(error, ModuleNotFoundError) and error.name == module and found is not None:
                return found, names[end - 1 :]
            raise InputError(f"it names {path}, which cannot be imported ({reason(error)})") from None
    return found, names[-1:]


def _refusal(path: str, package: str, trusted: bool, homes: Sequence[str]) -> str:
    if trusted:
        return f"it names {path}, which is no class of a trusted package"
    known = " or ".join(homes) or "n2n"
    if package in {"n2n", "torch"} or package in sys.stdlib_module_names:
        return f"it names {path}: expected a class of {known}"
    return (
        f"it names {path}, which is no class of {known}: add --trust {package} if you trust all of the code in that package, "
        "which is then imported and run"
    )
