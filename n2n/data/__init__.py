"""Where pairs come from, how they are kept, and how they become batches."""

from n2n.data.corruption import PixelSampling
from n2n.data.course import CourseFiles
from n2n.data.dead_leaves import DeadLeaves
from n2n.data.photographs import Photographs
from n2n.data.sources import PairSource
from n2n.data.store import PairLoader, PairStore

__all__ = [
    "CourseFiles",
    "DeadLeaves",
    "PairLoader",
    "PairSource",
    "PairStore",
    "Photographs",
    "PixelSampling",
]
