"""``n2n predict`` over many small files: its memory and its open files stay as they are.

python -m tests.long.many_files --files 10000
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from n2n.cli import main as n2n
from n2n.trainer.image_writer import WriteImages

# Files in a folder.
_FOLDER = 1000


@dataclass(frozen=True)
class Sample:
    """What a process has at some moment: files written, memory in MB, open files."""

    done: int
    seconds: float
    memory: float
    files: int


def write_files(folder: Path, count: int) -> None:
    """Write pictures of 32 × 32, a few of them different, in subfolders."""
    rng = np.random.default_rng(0)
    made = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(10)]
    for i in range(count):
        file = folder / f"{i // _FOLDER}/{i:06}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(made[i % len(made)]).save(file)


def measure(folder: Path, count: int, samples: int = 20) -> list[Sample]:
    """Denoise so many files in this process, and look at it now and then, always after the same files."""
    write_files(folder / "noisy", count)
    found: list[Sample] = []
    page, start, step = os.sysconf("SC_PAGE_SIZE"), time.monotonic(), count // samples
    end_of_file = WriteImages.on_predict_batch_end

    def look(writer: WriteImages, *args: Any) -> None:
        end_of_file(writer, *args)
        done = int(args[4]) + 1
        if done % step == 0:
            memory = int(Path("/proc/self/statm").read_text().split()[1]) * page / 1e6
            files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # each path would open another
            found.append(Sample(done, time.monotonic() - start, memory, files))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WriteImages, "on_predict_batch_end", look)
        args = ["--ckpt_path", "quick", "--input", str(folder / "noisy"), "--output", str(folder / "clean")]
        status = n2n(["predict", *args, "--device", "cpu"])
    if status or sum(len(files) for _, _, files in os.walk(folder / "clean")) != count:
        raise RuntimeError(f"n2n predict ended with {status}")
    return found


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    count = parser.parse_args().files
    with tempfile.TemporaryDirectory() as folder:
        samples = measure(Path(folder), count)
    print("   files  seconds  memory, MB  open files")
    for sample in samples:
        print(f"{sample.done:8} {sample.seconds:8.0f} {sample.memory:11.1f} {sample.files:11}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
