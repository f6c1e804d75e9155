"""Image formats, a file each, and the table of all of them (:mod:`n2n.data.images.formats.table`)."""
