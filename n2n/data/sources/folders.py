"""Sources of pairs in files of their own: page is paired with page."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from n2n.data.images import find_images, is_image, split_part, without_suffix
from n2n.data.scenes.frames import Frame, SceneFiles, first_few, warning
from n2n.data.scenes.opening import FilePages, Opener, describe_axes, find_pages
from n2n.data.sources.scene_source import SceneSource
from n2n.errors import InputError
from n2n.system.files import expanded
from n2n.system.text import counted


def images_in(root: str | Path, without: str | None = None) -> dict[str, Path]:
    """Find the images in a folder, by their paths in it without suffix.

    Args:
        root: the folder, or a single image, whose key is its name.
        without: a folder whose images are left out, for example the clean ones.

    Raises:
        InputError: if the folder is missing, or two names differ only in the suffix.
    """
    path = expanded(root)
    if not split_part(path)[0].exists():
        raise InputError(f"{path} is not there: expected an image, or a folder of images")
    # A zarr array is a folder, and one image.
    if path.is_file() or is_image(path):
        return {without_suffix(path.name): path}
    out = expanded(without).resolve() if without is not None else None
    found: dict[str, Path] = {}
    for file in find_images([path]):
        if out and file.resolve().is_relative_to(out):
            continue
        name = _composed(file.relative_to(path).with_name(without_suffix(file.name)).as_posix())
        if name in found:
            raise InputError(f"{found[name]} and {file} have the same name but for the suffix: keep one of them")
        found[name] = file
    return found


def _composed(name: str) -> str:
    """Return a name with accents as parts of their letters; macOS may store them apart, and other systems do not."""
    return unicodedata.normalize("NFC", name)


def all_images(roots: Iterable[str], without: str | None = None) -> list[tuple[str, Path]]:
    """Return the names and paths of the images in several folders; see :func:`images_in`."""
    return [pair for root in roots for pair in images_in(root, without).items()]


def match_pages(
    matching: Mapping[str, Sequence[Path]], clean: Mapping[str, Path], opener: Opener
) -> tuple[list[SceneFiles], list[str], list[str]]:
    """Make scenes of the names with two files or more: page is paired with page, each a scene of its own.

    Returns the scenes, lines for the user, and the names with one file only.
    """
    several = {name: files for name, files in matching.items() if len(files) > 1}
    pages, unreadable = find_pages(((name, file) for name, files in several.items() for file in files), opener)
    if several and not pages:
        raise InputError(f"no file can be read ({counted(len(unreadable), 'file')}): {unreadable[0]}")
    grouped: dict[str, list[FilePages]] = defaultdict(list)
    for file in pages:
        grouped[file.name].append(file)
    scenes, differing = [], []
    for name, files in grouped.items():
        # The first of the files that most others match.
        first = max(files, key=lambda file: sum(file.matches(other) for other in files))
        same = [file for file in files if file.matches(first)]
        differing += [f"{file}, not {first}" for file in files if file not in same]
        scenes += [
            SceneFiles.of(label, (Frame(file.path, page) for file in same), clean.get(name), page)
            for page, label in first.places()
        ]
    captures = sum(len(scene.captures) for scene in scenes)
    lines = [f"{counted(len(scenes), 'scene')} with {counted(captures, 'capture')}", *describe_axes(pages)]
    lines += warning(unreadable, "file", "that cannot be read", 3)
    lines += warning(differing, "file", "with other axes than the other captures of the scene")
    return scenes, lines, [name for name, files in matching.items() if len(files) == 1]


class Folders(SceneSource):
    """Folders of matching files: ``a/x.png`` and ``b/x.png`` are two captures of one scene.

    Args:
        roots: two folders or more; files match by their path in the folder, without suffix.
        clean: a folder of clean images with the same names. They are used for validation only.
        **kwargs: see :class:`~n2n.data.sources.scene_source.SceneSource`.

    Raises:
        InputError: if there are fewer than two different folders; and as that class.
    """

    kind = "folders"

    def __init__(self, roots: list[str], clean: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(roots, str):
            raise InputError(f"roots is {roots!r}: expected a list of two folders of matching files, or more")
        if len(roots) < 2 or len({expanded(root).resolve() for root in roots}) < len(roots):
            raise InputError(f"roots is {', '.join(roots)}: expected two different folders of matching files, or more")
        self.roots, self.clean = roots, clean
        self.searched = roots

    def find(self) -> tuple[list[SceneFiles], list[str]]:
        """Match the files of the folders by name."""
        folders = [images_in(root, self.clean) for root in self.roots]
        clean = images_in(self.clean) if self.clean is not None else {}
        names = sorted({name for folder in folders for name in folder})
        matching = {name: [folder[name] for folder in folders if name in folder] for name in names}
        scenes, lines, single = match_pages(matching, clean, self.opener)
        if not scenes:
            raise InputError(
                f"no file name is in two of the folders {', '.join(self.roots)} ({counted(len(single), 'image file')} in all): "
                "expected matching names, such as a/x.png and b/x.png"
            )
        return scenes, lines + warning(single, "file", "without a match in another folder")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Turn a naming pattern into a regular expression.

    Raises:
        InputError: unless the pattern has ``{scene}`` and ``{capture}`` once each.
    """
    parts = re.split(r"(\{\w*\})", pattern)
    if parts.count("{scene}") != 1 or parts.count("{capture}") != 1:
        raise InputError(
            f"pattern is {pattern!r}: expected {{scene}} and {{capture}} in it once each, as in {{scene}}_{{capture}}"
        )
    # The capture is as short as possible: in a_b_1 it is 1, and a_b is the scene.
    groups = {"{scene}": "(?P<scene>.+)", "{capture}": "(?P<capture>[^/]+?)"}
    return re.compile("".join(groups.get(p, "[^/]+?" if re.fullmatch(r"\{\w*\}", p) else re.escape(p)) for p in parts))


class Captures(SceneSource):
    """One folder in which the file names contain the scene: ``cell_1.png``, ``cell_2.png``, ``nerve_1.png``, ...

    Args:
        root: the folder; subfolders are searched too.
        pattern: of the file names, with ``{scene}`` and ``{capture}``, and ``{}`` for parts to ignore. A pattern with a slash
            (``{scene}/{capture}``) is compared with the path in the folder, another with the file name. A pattern without
            suffix fits files of any suffix.
        clean: a folder of clean images, named like the scenes or by the same pattern. They are used for validation only.
        **kwargs: see :class:`~n2n.data.sources.scene_source.SceneSource`.

    Raises:
        InputError: unless the pattern has ``{scene}`` and ``{capture}`` once each; and as that class.
    """

    kind = "captures"

    def __init__(self, root: str, pattern: str = "{scene}_{capture}", clean: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root, self.pattern, self.clean = root, pattern, clean
        self.searched = [root]
        self._expression = compile_pattern(pattern)

    def _scene(self, path: PurePath) -> str | None:
        """Return the scene of a path in the folder, or None if the path does not fit the pattern."""
        suffix = PurePath(self.pattern).suffix
        whole = path if suffix and "{" not in suffix else path.with_name(without_suffix(path.name))
        with_folders = "/" in self.pattern
        found = self._expression.fullmatch(whole.as_posix() if with_folders else whole.name)
        return found and _composed(found["scene"] if with_folders else (path.parent / found["scene"]).as_posix())

    def find(self) -> tuple[list[SceneFiles], list[str]]:
        """Group the files of the folder by scene."""
        captures, other = self._grouped(self.root, self.clean)
        clean = {}
        if self.clean is not None:
            clean = {scene: files[0] for scene, files in self._grouped(self.clean)[0].items()} | images_in(self.clean)
        scenes, lines, alone = match_pages(captures, clean, self.opener)
        single = [captures[name][0].name for name in alone]
        if not scenes:
            found = first_few([*single, *other], 2) or "none"
            raise InputError(
                f"no two files in {self.root} are captures of one scene by the pattern {self.pattern!r} "
                f"({counted(len(single) + len(other), 'image file')}, such as {found}): set the source's pattern"
            )
        lines += warning(other, "file", f"outside the pattern {self.pattern!r}")
        return scenes, lines + warning(single, "scene", "with one capture only")

    def _grouped(self, root: str, without: str | None = None) -> tuple[dict[str, list[Path]], list[str]]:
        """Return the files of each scene, and the names that do not fit the pattern."""
        folder = expanded(root)
        scenes: dict[str, list[Path]] = defaultdict(list)
        other = []
        for file in images_in(root, without).values():
            scene = self._scene(file.relative_to(folder) if file != folder else PurePath(file.name))
            if scene is None:
                other.append(file.name)
            else:
                scenes[scene].append(file)
        return scenes, other
