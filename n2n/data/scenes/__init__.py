"""Captures, grouped into scenes."""
