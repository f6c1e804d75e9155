"""Files in folders that are left out because n2n does not read them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from n2n.data.images.files import is_image
from n2n.data.images.formats.table import EXPECTED, find_suffix
from n2n.system.files import expanded
from n2n.system.text import counted

# Files that Windows writes beside images.
_OF_WINDOWS = {"thumbs.db", "desktop.ini"}
# Kinds of files that a line names.
_NAMED = 8


def left_out(roots: Iterable[str | os.PathLike[str]], without: Path | None = None) -> str | None:
    """Count the files in folders and all their subfolders that are no images which n2n reads.

    Hidden files, and those that Windows writes beside images, are not counted. Folders that cannot be read are, and so are
    links to folders, which are not followed.

    Args:
        roots: folders; other paths are passed over.
        without: a folder in them that is passed over.

    Returns:
        A line such as "left out: 3 .heic, 1 .lif (n2n reads PNG, ...)", or None if there are none.
    """
    skipped = None if without is None else os.path.realpath(without)
    kinds: Counter[str] = Counter()
    for root in roots:
        folder = expanded(root)
        if not folder.is_dir() or is_image(folder):
            continue
        for at, folders, files in os.walk(folder, onerror=lambda _: kinds.update(["unreadable folder"])):
            shown = (Path(name) for name in files if not name.startswith(".") and name.lower() not in _OF_WINDOWS)
            kinds.update(name.suffix.lower() for name in shown if find_suffix(name.name) is None)
            folders[:] = [
                name
                for name in folders
                if not name.startswith(".")
                and find_suffix(name) is None
                and os.path.realpath(Path(at, name)) != skipped
            ]
            kinds.update("linked folder" for name in folders if Path(at, name).is_symlink())
    if not kinds:
        return None
    ordered = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))
    parts = [
        counted(number, kind) if kind.endswith("folder") else f"{number} {kind or 'without a suffix'}"
        for kind, number in ordered[:_NAMED]
    ]
    if more := sum(number for _, number in ordered[_NAMED:]):
        parts.append(f"{more} others")
    return f"left out: {', '.join(parts)} (n2n reads {EXPECTED})"
