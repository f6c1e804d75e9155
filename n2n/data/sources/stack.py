"""A source of pairs in stacks: many captures per file."""

from __future__ import annotations

from typing import Any

from n2n.data.scenes.frames import Frame, SceneFiles
from n2n.data.sources.folders import all_images, count_pages, images_in, warning
from n2n.data.sources.scene_source import SceneSource
from n2n.errors import InputError


class Stack(SceneSource):
    """Stacks (multi-page TIFF, ``.npy``, ``.npz``, zarr): captures of one scene, or a time series of it.

    Each page is a capture of the whole scene. Split a hyperstack with channels or depth first.

    Args:
        root: a stack, a folder of stacks, or several; each stack is a scene.
        series: whether the pages are a time series. Then only neighbours in time are pairs, else any two pages.
        clean: a folder of clean images named like the stacks, or the clean image of a single stack. They are used for
            validation only.
        **kwargs: see :class:`~n2n.data.sources.scene_source.SceneSource`.
    """

    kind = "stack"

    def __init__(self, root: str | list[str], series: bool = False, clean: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root, self.series, self.clean = [root] if isinstance(root, str) else list(root), series, clean
        self.window = 1 if series else None

    def find(self) -> tuple[list[SceneFiles], list[str]]:
        """Open the stacks and count their pages."""
        files = all_images(self.root, self.clean)
        clean = images_in(self.clean) if self.clean is not None else {}
        if len(files) == len(clean) == 1:
            clean = {files[0][0]: next(iter(clean.values()))}
        counted, unreadable = count_pages(files)
        single = [file.name for _, file, pages in counted if pages < 2]
        scenes = [
            SceneFiles(
                name,
                tuple(Frame(file, page) for page in range(pages)),
                Frame(clean[name]) if name in clean else None,
            )
            for name, file, pages in counted
            if pages > 1
        ]
        lines = [f"{len(scenes)} stacks with {sum(len(scene.captures) for scene in scenes)} pages", *unreadable]
        hint = " (3 or 4 pages of a TIFF may have been saved as one in colour)"
        lines += [line + hint for line in warning(single, "files have one page only")]
        if not scenes:
            raise InputError(
                f"there is no stack of two pages or more in {', '.join(self.root)} ({'; '.join(lines[1:]) or 'no image files'})"
            )
        return scenes, lines
