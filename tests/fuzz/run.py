"""Feeding changed files to the readers, in processes of bounded memory that may crash and hang."""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from n2n.errors import InputError
from tests.fuzz import seeds
from tests.fuzz.formats import FORMATS, Format

# Bytes of address space that a reader may ask for beside what the process had: the bound that the readers are held to.
MEMORY = 3 * 2**30
# Seconds of computing after which a reader is taken to hang, so that a busy machine does not matter; and seconds of waiting.
PATIENCE, _MOST_WAIT = 10, 120
# The longest message, without the name of the file.
_LONGEST = 700
_READ, _REFUSED, _FAULT = b"r", b"x", b"f"


class HangError(BaseException):
    """A reader took too long; no Exception, which readers catch and take for damage."""


@dataclass
class Tally:
    """What became of the inputs of one format.

    Attributes:
        read: inputs that were read, by luck or because the change did not matter.
        refused: those that got one line.
        faults: what the others did, by a short description: how often.
    """

    read: int = 0
    refused: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def inputs(self) -> int:
        """All of them."""
        return self.read + self.refused + self.faults.total()


def write_input(made: bytes | seeds.Files, path: Path) -> None:
    """Write a file or a folder."""
    if isinstance(made, bytes):
        path.write_bytes(made)
        return
    for name, content in made.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


def _attempt(chosen: Format, path: Path) -> str | None:
    """Read one input; returns the message if it is refused.

    Raises:
        Exception: whatever the reader must not raise, or what was found beside it.
    """
    refused = None
    try:
        chosen.read(path)
    except InputError as error:
        refused = str(error)
        if not refused.isprintable() or len(refused) > _LONGEST + 3 * len(str(path)):
            raise AssertionError(f"not one short line: {refused[:2000]!r}") from None
    beside = {place.name for place in path.parent.iterdir() if place.name.partition(".")[0] != "written"} - {path.name}
    assert not beside, f"left behind: {beside}"
    return refused


def _child(chosen: Format, seed: int, numbers: range, report: Callable[[bytes], object], kept: Path) -> None:
    # The threads that the other process may have computed with are not here; who waits for them waits for ever.
    torch.set_num_threads(1)
    whole = chosen.whole()
    had = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (had + MEMORY, had + MEMORY))
    warnings.simplefilter("ignore")

    def hang(*_: object) -> None:
        raise HangError

    signal.signal(signal.SIGPROF, hang)
    for number in numbers:
        made = chosen.make(whole, np.random.default_rng((seed, number)))
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            path = Path(folder) / chosen.name
            write_input(made, path)
            # For the parent, if this process dies of it.
            _keep(made, kept, chosen, "now")
            signal.setitimer(signal.ITIMER_PROF, PATIENCE)
            try:
                outcome = _READ if _attempt(chosen, path) is None else _REFUSED
            except BaseException as error:
                outcome = _FAULT
                name = f"{seed}-{number}"
                _keep(made, kept, chosen, name)
                (kept / f"{name}-{chosen.name}.txt").write_text("".join(traceback.format_exception(error)))
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                os.chdir("/")
        report(outcome)


def _keep(made: bytes | seeds.Files, folder: Path, chosen: Format, name: str) -> None:
    ending = chosen.name if isinstance(made, bytes) else f"{chosen.name}.zip"
    (folder / f"{name}-{ending}").write_bytes(made if isinstance(made, bytes) else seeds.zipped(made))


def _spawn(chosen: Format, seed: int, numbers: range, kept: Path) -> tuple[int, int]:
    """Start a process for some inputs; returns its number and where its reports come from."""
    receive, send = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(receive)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            _child(chosen, seed, numbers, lambda outcome: os.write(send, outcome), kept)
        finally:
            os._exit(0)
    os.close(send)
    return process, receive


def _outcomes(chosen: Format, seed: int, inputs: int, kept: Path) -> Iterator[bytes]:
    """Give what became of each input, in order; a process that dies or hangs is replaced."""
    done = 0
    while done < inputs:
        process, reports = _spawn(chosen, seed, range(done, inputs), kept)
        while done < inputs:
            ready, _, _ = select.select([reports], [], [], _MOST_WAIT)
            outcome = os.read(reports, 1) if ready else b""
            if not outcome:
                break
            done += 1
            yield outcome
        if done < inputs:
            how = "hung in compiled code, or waited" if not ready else "died"
            os.kill(process, signal.SIGKILL)
            for now in kept.glob("now-*"):
                now.rename(kept / now.name.replace("now", f"{seed}-{done}", 1))
            (kept / f"{seed}-{done}-{chosen.name}.txt").write_text(f"the process {how}\n")
            done += 1
            yield _FAULT
        os.close(reports)
        os.waitpid(process, 0)
    for now in kept.glob("now-*"):
        now.unlink()


def fuzz(name: str, inputs: int, seed: int, faults: Path) -> Tally:
    """Feed changed files of one format to its readers.

    Args:
        name: of the format.
        inputs: how many.
        seed: of the changes.
        faults: the folder where inputs that are faults are kept, with what happened beside them.
    """
    tally = Tally()
    kept = faults / name.replace(" ", "_")
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for number, outcome in enumerate(_outcomes(FORMATS[name], seed, inputs, kept)):
        if outcome == _FAULT:
            told = (kept / f"{seed}-{number}-{FORMATS[name].name}.txt").read_text()
            tally.faults[_where(told)] += 1
        else:
            tally.read += outcome == _READ
            tally.refused += outcome == _REFUSED
    if not any(kept.iterdir()):
        kept.rmdir()
    return tally


def _where(told: str) -> str:
    """Return the end of a traceback, and the last line of n2n in it."""
    lines = told.strip().splitlines()
    ours = [line.strip() for line in lines if "/n2n/" in line and line.strip().startswith("File")]
    return f"{lines[-1][:120]} ({ours[-1].split('/n2n/')[-1]})" if ours else lines[-1][:120]
