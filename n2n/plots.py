"""Figures on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: Figure, path_without_suffix: Path) -> list[Path]:
    """Write a figure as PNG and as SVG; nothing half-written is left.

    Args:
        figure: without pyplot, so that no window and no global state is involved.
        path_without_suffix: to which ``.png`` and ``.svg`` are added.

    Returns:
        The files.
    """
    path = path_without_suffix
    path.parent.mkdir(parents=True, exist_ok=True)
    files = []
    for kind in ("png", "svg"):
        file, part = path.with_name(f"{path.name}.{kind}"), path.with_name(f".{path.name}.part.{kind}")
        try:
            # Without the date, the same figure is the same file.
            figure.savefig(part, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
        files.append(file)
    return files
