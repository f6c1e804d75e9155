"""Image formats: the readers and writers of each, and the table of all of them (:mod:`n2n.data.images.formats.table`)."""
