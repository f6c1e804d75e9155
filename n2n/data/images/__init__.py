"""Reading and writing image files: the only place that knows file formats and their integers.

PNG and JPEG; TIFF and BigTIFF of one or many pages; arrays in .npy, .npz and zarr.
"""

from n2n.data.images.base import ImageReader, Metadata
from n2n.data.images.files import SUFFIXES, create_image, find_images, is_image, open_image, read_photograph
from n2n.data.images.writer import ImageWriter

__all__ = [
    "SUFFIXES",
    "ImageReader",
    "ImageWriter",
    "Metadata",
    "create_image",
    "find_images",
    "is_image",
    "open_image",
    "read_photograph",
]
