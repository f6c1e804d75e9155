"""The two files of the EE-559 course."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from n2n.data.sources.base import PairSource
from n2n.data.stores.base import Store
from n2n.data.stores.pairs import PairStore
from n2n.errors import InputError
from n2n.system.files import expanded
from n2n.system.torch_files import load_torch_file


def load_pairs(path: Path, clean: bool) -> PairStore:
    """Memory-map a file in the course's format: a ``torch.save`` of a tuple of two uint8 tensors N×C×H×W.

    No code in the file runs.

    Args:
        path: the file.
        clean: whether the second tensor holds clean images; else it holds second noisy views.

    Raises:
        InputError: if the file is missing, damaged, or has other content.
    """
    wanted = "a torch.save of a tuple of two uint8 tensors N×C×H×W"
    if not path.is_file():
        raise InputError(f"{path} is not there: expected {wanted}; set root, train_file and val_file of the source")
    content = load_torch_file(path, wanted)
    if not isinstance(content, tuple | list) or len(content) != 2:
        raise InputError(f"{path} holds a {type(content).__name__}: expected {wanted}")
    for tensor in content:
        if not isinstance(tensor, Tensor):
            raise InputError(f"{path} holds a {type(tensor).__name__} where a tensor belongs: expected {wanted}")
        # The shape of an expanded tensor may be far larger than its data. That of a permuted one is not.
        if tensor.layout != torch.strided or tensor.nbytes > tensor.untyped_storage().nbytes():
            raise InputError(f"{path} holds a tensor that is not stored in full: expected {wanted}")
    try:
        first, second = content
        return PairStore(first, None, second) if clean else PairStore(first, second)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


class CourseFiles(PairSource):
    """The course's ``train_data.pkl`` (noisy pairs) and ``val_data.pkl`` (noisy and clean), or files of the same format.

    Args:
        root: the folder of the two files.
        train_file: name of the training file.
        val_file: name of the validation file.

    Raises:
        InputError: from the methods, as :func:`load_pairs`.
    """

    def __init__(self, root: str = ".", train_file: str = "train_data.pkl", val_file: str = "val_data.pkl") -> None:
        self.root, self.train_file, self.val_file = root, train_file, val_file

    def train_pairs(self) -> Store:
        """Map the training file."""
        return load_pairs(expanded(self.root) / self.train_file, clean=False)

    def val_pairs(self) -> Store:
        """Map the validation file."""
        return load_pairs(expanded(self.root) / self.val_file, clean=True)
