from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from n2n.data.cache import Allocate, Cache, stamp
from n2n.errors import InputError


def build(allocate: Allocate) -> dict[str, Any]:
    array = allocate((5, 3, 4), np.uint16)
    array[:] = np.arange(array.size, dtype=np.uint16).reshape(array.shape)
    return {"remarks": ["made"]}


def never(allocate: Allocate) -> dict[str, Any]:
    raise AssertionError("made again")


def test_cache_is_made_once_and_found_again(tmp_path: Path) -> None:
    kept = Cache("x", {"a": 1}, tmp_path).open(build)
    again = Cache("x", {"a": 1}, tmp_path).open(never)
    assert np.array_equal(kept.array, again.array)
    assert again.note == {"remarks": ["made"]}
    assert Cache("x", {"a": 2}, tmp_path).path != Cache("x", {"a": 1}, tmp_path).path


@pytest.mark.parametrize("damage", ["first", "last", "truncate", "note", "remove"])
def test_damaged_cache_is_made_again(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The checksum is of several blocks.
    monkeypatch.setattr("n2n.data.cache._BLOCK", 8)
    cache = Cache("x", {}, tmp_path)
    whole = cache.open(build).array.copy()
    file = cache.path / "array.npy"
    content = bytearray(file.read_bytes())
    if damage in ("first", "last"):
        # The header has 128 bytes.
        content[128 if damage == "first" else -1] ^= 1
    file.write_bytes(content[: 150 if damage == "truncate" else None])
    if damage == "note":
        (cache.path / "recipe.json").write_text("{")
    if damage == "remove":
        file.unlink()
    assert np.array_equal(Cache("x", {}, tmp_path).open(build).array, whole)
    assert [path.name for path in tmp_path.iterdir()] == [cache.path.name]


def test_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(allocate: Allocate) -> dict[str, Any]:
        allocate((5, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Cache("x", {}, tmp_path).open(interrupted)
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    def huge(allocate: Allocate) -> dict[str, Any]:
        allocate((10**9, 3, 1000, 1000), np.float32)
        return {}

    with pytest.raises(InputError, match="MB free"):
        Cache("x", {}, tmp_path).open(huge)


def test_faults_of_the_source_are_not_blamed_on_the_cache_folder(tmp_path: Path) -> None:
    def unreadable(allocate: Allocate) -> dict[str, Any]:
        allocate((5, 3), np.uint8)
        raise PermissionError(13, "Permission denied", "image.png")

    with pytest.raises(PermissionError, match=r"image\.png"):
        Cache("x", {}, tmp_path).open(unreadable)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["mkdir", "open_memmap", "write_text", "rename"])
def test_faults_of_the_cache_folder_are_blamed_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format if step == "open_memmap" else Path, step, fail)
    with pytest.raises(InputError, match=r"cannot keep the images in .* \(No space left on device\)"):
        Cache("x", {}, tmp_path).open(build)
    assert list(tmp_path.iterdir()) == []


def test_of_those_that_want_an_array_at_once_one_makes_it(tmp_path: Path) -> None:
    made = []

    def slow(allocate: Allocate) -> dict[str, Any]:
        made.append(threading.current_thread())
        time.sleep(0.5)
        return build(allocate)

    kept = []
    threads = [threading.Thread(target=lambda: kept.append(Cache("x", {}, tmp_path).open(slow))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(kept)) == (1, 4)
    assert [path.name for path in tmp_path.iterdir()] == [Cache("x", {}, tmp_path).path.name]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    cache = Cache("x", {}, tmp_path)
    left, other = tmp_path / f".building-{cache.path.name}-abc", tmp_path / ".building-y-0-abc"
    for folder in (left, other):
        folder.mkdir()
        (folder / "array.npy").write_bytes(b"half")
    (tmp_path / f".building-{cache.path.name}-lock").touch()
    cache.open(build)
    # Another array may be in the making.
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([cache.path.name, other.name])


def test_without_locks_the_array_is_made_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: Any, **__: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("filelock.FileLock.acquire", no_locks)
    cache = Cache("x", {}, tmp_path)
    assert np.array_equal(cache.open(build).array, cache.open(never).array)


def test_a_stamp_changes_with_the_content_alone(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "file"
    file.parent.mkdir()
    assert stamp(file) is None
    file.write_bytes(b"one")
    first, folder = stamp(file), stamp(file.parent)
    assert (stamp(file), stamp(file.parent)) == (first, folder)
    time.sleep(0.02)
    # Of the same size and time, in place and by another file.
    for target in (file, tmp_path / "other"):
        stat = file.stat()
        target.write_bytes(b"two")
        os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        target.replace(file)
        assert stamp(file) != first
        assert stamp(file.parent) != folder
        first, folder = stamp(file), stamp(file.parent)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert stamp(loop) is None
