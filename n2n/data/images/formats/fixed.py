"""Base class of readers of formats whose rows, columns and channels have their place in the file."""

from __future__ import annotations

from collections.abc import Sequence

from n2n.data.images.axes import Layout
from n2n.data.images.base import ImageReader


class FixedReader(ImageReader):
    """A reader that delivers pages in the order of the file's axes; the user may rename only the axes of the pages."""

    def _fix_axes(self, shape: Sequence[int], axes: str | None, expected: str | None = None) -> None:
        """Set shape, axes, pages, height, width and channels.

        Args:
            shape: of the array.
            axes: those that the file names; None if it names none.
            expected: where rows, columns and channels are, if the file names no axes.

        Raises:
            InputError: if the user gave axes that place these elsewhere.
        """
        own = axes or expected
        layout = self._name_axes(shape, own)
        self.named = self.named and (self._given is not None or axes is not None)
        if own is not None and layout != Layout.of(own, shape):
            raise self._error(f"has axes like {own}: expected Y, X and the channels of a pixel in these places")
        self.pages, self.height, self.width, self.channels = layout.sizes
