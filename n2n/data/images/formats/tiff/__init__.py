"""TIFF files of all common kinds."""
