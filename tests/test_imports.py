"""The plan of the house: imports run down, never up and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "n2n"

# The floors, from the top down. A module may import from its own floor and from those below it, and from those above never.
# The longest name that fits says where a module stands.
FLOORS = [
    ["n2n", "n2n.__main__", "n2n.cli"],
    ["n2n.commands.compare", "n2n.commands.search"],
    ["n2n.commands", "n2n.commands.export", "n2n.commands.report"],
    ["n2n.trainer"],
    ["n2n.module", "n2n.denoiser"],
    ["n2n.data", "n2n.checkpoints"],
    ["n2n.data.sources"],
    ["n2n.data.augmentation", "n2n.data.loader", "n2n.data.scenes", "n2n.data.stores"],
    ["n2n.data.batch", "n2n.data.cache", "n2n.data.corruption", "n2n.data.flat_noise"],
    ["n2n.data.images", "n2n.data.noise", "n2n.data.value_range"],
    ["n2n.backbones", "n2n.losses", "n2n.metrics", "n2n.optimizers", "n2n.schedules"],
    ["n2n.system"],
    ["n2n.errors"],
]
# Top-level packages that a plain ``import`` of these rooms may load, with n2n and Python's own. The rest is imported where it
# is used, so that ``n2n --help`` stays instant and extras stay optional.
BACKBONES_MAY_IMPORT = {"torch", "n2n", "jsonargparse"}


def modules() -> dict[str, Path]:
    """Return the modules of the package by name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """Yield the modules of the package that a module imports, in functions and for types too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in known else str(node.module) for name in names)


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    found = modules()
    return {name: set(imported(ast.parse(path.read_text()), set(found))) - {name} for name, path in found.items()}


def floor(module: str) -> int:
    """Return the floor of a module, 0 for the top."""
    return max(
        (len(room), number)
        for number, rooms in enumerate(FLOORS)
        for room in rooms
        # "n2n" alone is the package's own __init__, and no floor of what nobody has named.
        if module == room or (room != "n2n" and module.startswith(f"{room}."))
    )[1]


def test_no_import_runs_up(arrows: dict[str, set[str]]) -> None:
    up = [
        f"{module} (floor {floor(module)}) imports {target} (floor {floor(target)}), which stands above it"
        for module, targets in sorted(arrows.items())
        for target in sorted(targets)
        if floor(target) < floor(module)
        # The version of the package is asked for everywhere.
        and target != "n2n"
    ]
    assert not up, "\n".join(up)


def test_no_circle(arrows: dict[str, set[str]]) -> None:
    left = {module: targets - {"n2n"} for module, targets in arrows.items()}
    # A package's __init__ gathers names of its own modules, which do not import it back.
    while leaves := [module for module, targets in left.items() if not targets & left.keys()]:
        for module in leaves:
            del left[module]
    assert not left, "these modules import one another in a circle, or import one that does: " + ", ".join(sorted(left))


def test_backbones_import_torch_alone() -> None:
    for path in (PACKAGE / "backbones").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            top = {name.partition(".")[0] for name in names}
            foreign = {name for name in top if name not in BACKBONES_MAY_IMPORT and not _is_pythons(name)}
            assert not foreign, f"{path.name} imports {', '.join(foreign)}: backbones need torch alone"


def _is_pythons(name: str) -> bool:
    import sys

    return name in sys.stdlib_module_names


def test_size() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    long = [f"{path.relative_to(PACKAGE.parent)} has {count} lines" for path, count in lines.items() if count > 300]
    assert not long, "a file of more than 300 lines is two rooms: " + "; ".join(long)
    top = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(top) <= 16, f"the top of the package has {len(top)} entries: put new ones into a room"
