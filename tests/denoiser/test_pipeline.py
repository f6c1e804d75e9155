from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from n2n import Denoiser, backbones
from n2n.data.images import create_image, open_image
from n2n.data.images.formats.arrays import NpyReader, NpyWriter
from n2n.data.reading import ImageFile
from n2n.denoiser import pipeline
from n2n.errors import InputError
from tests.denoiser.files import denoise_files
from tests.images import read_image

LONG = 20


def arrays(count: int, rows: int = 64) -> list[ImageFile]:
    rng = np.random.default_rng(0)
    for i in range(count):
        np.save(f"{i}.npy", rng.integers(0, 256, (rows, 40, 3), dtype=np.uint8))
    return [ImageFile(Path(f"{i}.npy"), Path(f"out/{i}.npy")) for i in range(count)]


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".png"])
@pytest.mark.parametrize("options", [{}, {"tile": 32}, {"tile": 48, "overlap": 32, "batch": 3}], ids=str)
def test_the_pipeline_gives_what_its_stages_give(suffix: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(backbones.ModelFinal(widths=[8, 8]), 3, "cpu", **options)
    jobs = []
    for job in arrays(3, rows=150):
        with open_image(job.source) as image:
            source = job.source.with_suffix(suffix)
            if suffix != ".npy":
                create_image(source, image).write(image.strips(7))
        jobs.append(ImageFile(source, Path("out") / source.name))
    shares = np.zeros(3)

    def progress(number: int, share: float) -> None:
        shares[number] += share

    denoise_files(denoiser, jobs, progress=progress)
    assert all(job.done and job.failure is None for job in jobs)
    assert shares.tolist() == pytest.approx([1, 1, 1])
    for job in jobs:
        noisy = read_image(job.source)[0]
        one_after_the_other = denoiser(noisy)
        whole = Denoiser(denoiser.backbone, 3, "cpu")(noisy)
        written = read_image(job.target)[0]
        assert np.array_equal(written, one_after_the_other)
        assert np.abs(written.astype(int) - whole).max() <= 1
        assert written.std() > 1


class Stages:
    """Who is at what: a network and array files that tell."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.happened = threading.Condition()
        decode, write = NpyReader._decode, NpyWriter._write

        def read(image: NpyReader, page: int, start: int, stop: int) -> NDArray[Any]:
            self.tell(f"read {image.path.stem} {start}")
            return decode(image, page, start, stop)

        def slow_write(writer: NpyWriter, path: Path, strips: Iterator[NDArray[Any]]) -> None:
            def told() -> Iterator[NDArray[Any]]:
                row = 0
                for strip in strips:
                    self.before_writing(writer.path.stem, row)
                    self.tell(f"wrote {writer.path.stem} {row}")
                    row += len(strip)
                    yield strip

            write(writer, path, told())

        monkeypatch.setattr(NpyReader, "_decode", read)
        monkeypatch.setattr(NpyWriter, "_write", slow_write)

    def before_writing(self, name: str, row: int) -> None:
        """What the writer waits for; a test's own."""

    def tell(self, what: str) -> None:
        with self.happened:
            self.log.append(what)
            self.happened.notify_all()

    def wait(self, what: str) -> None:
        with self.happened:
            assert self.happened.wait_for(lambda: what in self.log, LONG), f"{what} not in {self.log}"


def test_the_next_file_is_read_and_denoised_while_one_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = Stages(monkeypatch)

    class Told(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            stages.tell(f"network {round(float(x[0, 0, 0, 0]) * 255)}")
            return x

    def slow(name: str, row: int) -> None:
        # The first file's writer goes on only once the second one's pixels are in the network, and the third is read.
        if name == "0":
            stages.wait("network 1")
            stages.wait("read 2 0")

    monkeypatch.setattr(stages, "before_writing", slow)
    for i in range(3):
        np.save(f"{i}.npy", np.full((16, 16, 3), i, np.uint8))
    jobs = [ImageFile(Path(f"{i}.npy"), Path(f"out/{i}.npy")) for i in range(3)]
    denoise_files(Denoiser(Told(), 3, "cpu"), jobs)
    assert all(job.done for job in jobs)
    assert [line for line in stages.log if line.startswith("wrote")] == ["wrote 0 0", "wrote 1 0", "wrote 2 0"]


def test_few_strips_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = Stages(monkeypatch)
    ahead = []

    def count(name: str, row: int) -> None:
        with stages.happened:
            done = sum(line.startswith("wrote") for line in stages.log)
            ahead.append(sum(line.startswith("read") for line in stages.log) - done)

    monkeypatch.setattr(stages, "before_writing", count)
    denoise_files(Denoiser(nn.Identity(), 3, "cpu", tile=16), arrays(2, rows=16 * 40))
    # Two wait on either side; each of the three is at one; and the network looks into the next row of tiles.
    assert len(ahead) >= 80
    assert max(ahead) <= 9


class Fails(nn.Module):
    """A network that takes no image as dark as this."""

    def forward(self, x: Tensor) -> Tensor:
        if x.max() < 0.1:
            raise InputError("too dark")
        return x


def test_a_file_that_fails_anywhere_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = arrays(7, rows=200)
    jobs[1].source.write_bytes(jobs[1].source.read_bytes()[:-1])  # cannot be opened
    np.save("2.npy", np.zeros((200, 40, 3), np.uint8))  # cannot be denoised
    stages = Stages(monkeypatch)

    def disk_full(name: str, row: int) -> None:
        if name in ("3", "4") and row > 32:
            raise OSError(28, "No space left on device")

    def damaged(image: NpyReader, page: int, start: int, stop: int, before: Any = NpyReader._decode) -> NDArray[Any]:
        if image.path.stem == "5" and start > 64:
            raise ValueError("no such block")
        decoded: NDArray[Any] = before(image, page, start, stop)
        return decoded

    monkeypatch.setattr(stages, "before_writing", disk_full)
    monkeypatch.setattr(NpyReader, "_decode", damaged)
    denoise_files(Denoiser(Fails(), 3, "cpu", tile=32), jobs)
    assert [str(job.failure or "") for job in jobs] == [
        "",
        "1.npy is cut off: its header says 200×40×3 uint8, and the file has 23,999 bytes of them",
        "2.npy: too dark",
        "cannot write out/3.npy (No space left on device)",
        "cannot write out/4.npy (No space left on device)",
        "5.npy is damaged (no such block): expected a whole image",
        "",
    ]
    assert [job.done for job in jobs] == [True, False, False, False, False, False, True]
    assert sorted(path.name for path in Path("out").iterdir()) == ["0.npy", "6.npy"]
    for i in (0, 6):
        assert np.array_equal(np.load(f"out/{i}.npy"), np.load(f"{i}.npy"))


@pytest.mark.parametrize("where", ["network", "writer", "reader"])
def test_what_no_file_causes_ends_all_and_leaves_nothing(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = Stages(monkeypatch)
    before = threading.active_count()

    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if where == "network":
                raise KeyboardInterrupt
            return x

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    jobs = arrays(3, rows=200)
    if where == "writer":
        monkeypatch.setattr(stages, "before_writing", broken)
    if where == "reader":
        monkeypatch.setattr(pipeline, "survey_image", broken)
    with pytest.raises(KeyboardInterrupt if where == "network" else ZeroDivisionError):
        denoise_files(Denoiser(Broken(), 3, "cpu", tile=32), jobs)
    assert threading.active_count() == before
    assert not any(job.done for job in jobs)
    assert not Path("out").exists() or list(Path("out").iterdir()) == []


def test_tags_of_many_pages_are_read_while_the_pages_are() -> None:
    pages = np.random.default_rng(0).integers(0, 256, (40, 30, 20), dtype=np.uint8)
    with tifffile.TiffWriter("x.tif") as tiff:
        for i, page in enumerate(pages):
            tiff.write(page, description=f"page {i}", compression="zlib", metadata=None)
    job = ImageFile(Path("x.tif"), Path("out/x.tif"))
    denoise_files(Denoiser(nn.Identity(), 1, "cpu", tile=16), [job])
    assert job.failure is None
    with tifffile.TiffFile("out/x.tif") as tiff:
        assert [page.aspage().tags.valueof(270) for page in tiff.pages] == [f"page {i}" for i in range(40)]
    assert np.array_equal(tifffile.imread("out/x.tif"), pages)
