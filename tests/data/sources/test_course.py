from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from n2n.data import CourseFiles
from n2n.errors import InputError
from tests.conftest import write_course


class Hostile:
    """Unpickling this leaves a mark."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("code-ran",)


def test_opens_any_size(tmp_path: Path) -> None:
    store = CourseFiles(str(write_course(tmp_path, 7, (1, 20, 12)))).train_pairs()
    assert (len(store), store.shape) == (7, (1, 20, 12))
    first, second, clean, *_ = store.batch(torch.tensor([3, 0]), seed=0)
    assert second is not None
    assert clean is None
    kept = torch.load(tmp_path / "train_data.pkl", weights_only=True)
    assert torch.equal(first, kept[0][[3, 0]])
    assert torch.equal(second, kept[1][[3, 0]])


def test_permuted_tensors_are_stored_in_full(tmp_path: Path) -> None:
    first, second = torch.randint(0, 256, (2, 5, 20, 12, 3), dtype=torch.uint8)
    torch.save((first.permute(0, 3, 1, 2), second.permute(0, 3, 1, 2)), tmp_path / "train_data.pkl")
    store = CourseFiles(str(tmp_path)).train_pairs()
    assert (len(store), store.shape) == (5, (3, 20, 12))
    batch = store.batch(torch.tensor([4, 1]), seed=0)
    assert batch.second is not None
    assert torch.equal(batch.first.permute(0, 2, 3, 1), first[[4, 1]])
    assert torch.equal(batch.second.permute(0, 2, 3, 1), second[[4, 1]])


GOOD = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD, "holds a Tensor"),
        ((GOOD, GOOD, GOOD), "holds a tuple"),
        ((GOOD, GOOD[:2]), "differ in shape"),
        ((GOOD, GOOD.float()), "float32"),
        ((GOOD, 3), "holds a int where a tensor belongs"),
        ((GOOD[0], GOOD[0]), "of shape"),
        ((GOOD[:0], GOOD[:0]), "of shape"),
        # A few bytes that claim to be 3 TB.
        ((GOOD[:1, :1, :1, :1].expand(10**9, 3, 32, 32),) * 2, "not stored in full"),
        ((GOOD[:1].clone().expand(2, 3, 8, 8),) * 2, "not stored in full"),
        ((GOOD, GOOD.to_sparse()), "holds more than tensors|not stored in full"),
        ((GOOD, Hostile()), "none of it was run"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "val_data.pkl")
    with pytest.raises(InputError, match=message):
        CourseFiles(str(tmp_path)).val_pairs()
    assert not Path("code-ran").exists()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = (write_course(tmp_path) / "train_data.pkl").read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2], whole[:-30], pickle.dumps(Hostile())):
        (tmp_path / "train_data.pkl").write_bytes(damaged)
        with pytest.raises(InputError, match="damaged or not a PyTorch file"):
            CourseFiles(str(tmp_path)).train_pairs()
    assert not Path("code-ran").exists()


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "train_data.pkl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10**6)
    with pytest.raises(InputError, match="damaged or not a PyTorch file"):
        CourseFiles(str(tmp_path)).train_pairs()
