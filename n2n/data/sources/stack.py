"""Sources of pairs that lie in stacks: many captures in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from n2n.data.scenes.frames import Frame, SceneFiles, some
from n2n.data.sources.folders import all_images, count_pages, images_in
from n2n.data.sources.scenes import SceneSource
from n2n.errors import InputError


class Stack(SceneSource):
    """Stacks (multi-page TIFF, ``.npy``, ``.npz``, zarr): captures of one scene, or a time series of it.

    Every page is a capture of the whole scene: split a hyperstack with channels or depth first.

    Args:
        root: a stack, a folder of them, or several; each stack is a scene.
        series: whether the pages are a time series, of which only neighbours in time are taken for captures of one scene;
            else every two pages are.
        clean: a folder of clean images named like the stacks, or the one clean image of a single stack; to validate
            against, never trained on.
        **kwargs: as for all sources of images.
    """

    kind = "stack"

    def __init__(self, root: str | list[str], series: bool = False, clean: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root, self.series, self.clean = [root] if isinstance(root, str) else list(root), series, clean
        self.window = 1 if series else None

    def find(self) -> tuple[list[SceneFiles], list[str]]:
        """Open the stacks and count their pages."""
        files = all_images(self.root, self.clean)
        clean = self._clean_images(files)
        counted, unreadable = count_pages(files)
        single = [file.name for _, file, pages in counted if pages < 2]
        scenes = [
            SceneFiles(name, tuple(Frame(file, page) for page in range(pages)), clean.get(name))
            for name, file, pages in counted
            if pages > 1
        ]
        lines = [f"{len(scenes)} stacks with {sum(len(scene.captures) for scene in scenes)} pages", *unreadable]
        if single:
            lines.append(
                f"warning: {len(single)} files have one page only and are left out: {some(single)} (3 or 4 pages of a TIFF may "
                "have been saved as one in colour)"
            )
        if not scenes:
            raise InputError(
                f"there is no stack of two pages or more in {', '.join(self.root)} ({'; '.join(lines[1:]) or 'no image files'})"
            )
        return scenes, lines

    def _clean_images(self, files: list[tuple[str, Path]]) -> dict[str, Frame]:
        if self.clean is None:
            return {}
        clean = images_in(self.clean)
        if len(files) == 1 and len(clean) == 1:
            (only,) = clean.values()
            return {files[0][0]: Frame(only)}
        return {name: Frame(file) for name, file in clean.items()}
