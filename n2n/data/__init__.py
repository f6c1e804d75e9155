"""Where pairs come from, how they are kept, and how they become batches."""

from n2n.data.batch import Batch
from n2n.data.corruption import PixelSampling
from n2n.data.loader import PairLoader
from n2n.data.sources.arrays import Arrays
from n2n.data.sources.base import PairSource
from n2n.data.sources.course import CourseFiles
from n2n.data.sources.dead_leaves import DeadLeaves
from n2n.data.sources.folders import Captures, Folders
from n2n.data.sources.photographs import Photographs
from n2n.data.sources.single_images import CleanImages, SingleImages
from n2n.data.sources.stacks import Stack
from n2n.data.stores.pairs import PairStore

__all__ = [
    "Arrays",
    "Batch",
    "Captures",
    "CleanImages",
    "CourseFiles",
    "DeadLeaves",
    "Folders",
    "PairLoader",
    "PairSource",
    "PairStore",
    "Photographs",
    "PixelSampling",
    "SingleImages",
    "Stack",
]
