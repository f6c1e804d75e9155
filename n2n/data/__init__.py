"""Where pairs come from, how they are kept, and how they become batches."""

from n2n.data.clean_images import CleanImages
from n2n.data.corruption import PixelSampling
from n2n.data.course import CourseFiles
from n2n.data.dead_leaves import DeadLeaves
from n2n.data.folders import Captures, Folders
from n2n.data.photographs import Photographs
from n2n.data.single_images import SingleImages
from n2n.data.sources import PairSource
from n2n.data.stack import Stack
from n2n.data.store import Batch, PairLoader, PairStore

__all__ = [
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
