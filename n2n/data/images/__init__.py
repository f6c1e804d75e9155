"""Reading and writing image files: the only place that knows file formats and their integers.

The formats stand in one table, :mod:`n2n.data.images.formats.table`.
"""

from n2n.data.images.base import ImageReader, Metadata
from n2n.data.images.files import create_image, find_images, is_image, open_image, read_photograph
from n2n.data.images.formats.table import EXPECTED, find_format, find_suffix, split_part, without_suffix, written_name
from n2n.data.images.left_out import left_out
from n2n.data.images.writer import ImageWriter

__all__ = [
    "EXPECTED",
    "ImageReader",
    "ImageWriter",
    "Metadata",
    "create_image",
    "find_format",
    "find_images",
    "find_suffix",
    "is_image",
    "left_out",
    "open_image",
    "read_photograph",
    "split_part",
    "without_suffix",
    "written_name",
]
