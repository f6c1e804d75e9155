"""The source of stacks: files that hold several captures of a scene."""

from __future__ import annotations

from typing import Any

from n2n.data.scenes.frames import Frame, SceneFiles, first_few, warning
from n2n.data.scenes.opening import FilePages, Opener, describe_axes, find_pages
from n2n.data.sources.folders import all_images, images_in
from n2n.data.sources.scene_source import SceneSource
from n2n.errors import InputError
from n2n.system.text import counted

# Letters of axes without a name: n2n's, and tifffile's for images in a file.
_UNNAMED = ("Q", "I")


class Stack(SceneSource):
    """Stacks (multi-page TIFF, ``.npy``, ``.npz``, zarr): captures of one scene, or a time series of it.

    The captures of a scene lie along one axis, T unless ``captures_axis`` names another. Planes of Z, and of all other axes,
    are scenes of their own. A file whose pages lie along a single axis without a name has its captures along that.

    Args:
        root: a stack, a folder of stacks, or several.
        series: whether the captures are a time series. Then only neighbours in time are pairs, else any two captures.
        clean: a folder of clean images named like the stacks, or the clean image of a single stack. They are used for
            validation only. Its pages are those of the scenes.
        captures_axis: the letter of the axis of the captures.
        **kwargs: see :class:`~n2n.data.sources.scene_source.SceneSource`.

    Raises:
        InputError: if ``captures_axis`` is no letter, or Y or X; and as that class.
    """

    kind = "stack"

    def __init__(
        self,
        root: str | list[str],
        series: bool = False,
        clean: str | None = None,
        captures_axis: str = "T",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.series, self.clean = [root] if isinstance(root, str) else list(root), series, clean
        self.searched = self.root
        self.window = 1 if series else None
        self.captures_axis = captures_axis.upper()
        if len(captures_axis) != 1 or not captures_axis.isalpha() or self.captures_axis in "YX":
            raise InputError(f"captures_axis is {captures_axis!r}: expected the letter of an axis other than Y and X")
        if self.captures_axis == "C":
            self.opener = Opener(self.opener.axes, apart=True)

    def find(self) -> tuple[list[SceneFiles], list[str]]:
        """Open the stacks, and find the captures along their axes."""
        files = all_images(self.root, self.clean)
        clean = images_in(self.clean) if self.clean is not None else {}
        if len(files) == len(clean) == 1:
            clean = {files[0][0]: next(iter(clean.values()))}
        pages, unreadable = find_pages(files, self.opener)
        stacks = [(file, self._axis_of(file)) for file in pages]
        usable = [(file, axis) for file, axis in stacks if axis is not None]
        scenes = [
            SceneFiles.of(name, (Frame(file.path, page) for page in numbers), clean.get(file.name), number)
            for file, axis in usable
            for number, (name, numbers) in enumerate(file.along(axis))
        ]
        captures = counted(sum(len(scene.captures) for scene in scenes), "capture")
        lines = [f"{counted(len(usable), 'stack')} with {counted(len(scenes), 'scene')} and {captures}"]
        if usable:
            file, axis = max(usable, key=lambda stack: len(stack[0].shape))
            lines += describe_axes([file], file.axes[axis])
        lines += warning(unreadable, "file", "that cannot be read", 3)
        single = ["; ".join((file.path.name, *file.remarks)) for file in pages if not file.shape]
        lines += warning(single, "file", "with one page only")
        others = [str(file) for file, axis in stacks if axis is None and file.shape]
        lines += warning(others, "file", f"without an axis {self.captures_axis}")
        if not scenes and others:
            raise InputError(
                f"{first_few(others)}: no captures along {self.captures_axis}, and planes of other axes are scenes of their "
                "own. Name the axis of the captures (--data.source.captures_axis), or name all axes "
                "(--data.source.axes) if the file says them wrongly"
            )
        if not scenes:
            raise InputError(
                f"there is no stack of two pages or more in {', '.join(self.root)} ({'; '.join(lines[1:]) or 'no image files'})"
            )
        return scenes, lines

    def _axis_of(self, file: FilePages) -> int | None:
        """Return the position of the captures' axis among the axes of a file's pages, or None."""
        if self.captures_axis in file.axes:
            return file.axes.index(self.captures_axis)
        only_one = len(file.shape) == 1 and file.axes in _UNNAMED and self.captures_axis == "T"
        return 0 if only_one else None
