"""Archives that torch and zipfile read differently: what was not looked at is not unpickled."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from n2n.errors import InputError
from n2n.system.torch_files import load_torch_file

# A call of bytearray(16), which torch lets pass: a larger number would take all memory.
TAKES = b"\x80\x02cbuiltins\nbytearray\nq\x00K\x10\x85R."
HARMLESS = b"\x80\x02N."
Entries = list[tuple[zipfile.ZipInfo, bytes]]


def entries() -> Entries:
    """What torch.save has written."""
    torch.save({"a": torch.ones(3)}, "x.pt")
    with zipfile.ZipFile("x.pt") as archive:
        return [(zipfile.ZipInfo(name), archive.read(name)) for name in archive.namelist()]


def write(made: Entries, size: int | None = None) -> None:
    """Write an archive; if asked, its first entry claims another size, in the directory and before the entry."""
    with zipfile.ZipFile("x.pt", "w") as archive:
        for info, data in made:
            archive.writestr(info, data)
    if size is not None:
        changed = bytearray(Path("x.pt").read_bytes())
        for place in (22, changed.index(b"PK\1\2") + 24):
            struct.pack_into("<I", changed, place, size)
        Path("x.pt").write_bytes(changed)


def opens() -> bool:
    """Whether n2n opens the file."""
    try:
        load_torch_file(Path("x.pt"), "a checkpoint")
    except InputError:
        return False
    return True


def renamed(made: Entries, name: str) -> None:
    """Put the hostile pickle in the place of the other one, under another name."""
    made[0] = (zipfile.ZipInfo(name), TAKES)


def beside(made: Entries, name: str) -> None:
    """Put the hostile pickle beside the other one."""
    made.insert(0, (zipfile.ZipInfo(name), TAKES))


def shown_as_another(made: Entries) -> None:
    """Let zipfile of Python 3.12 and later show another name."""
    renamed(made, "x/data.pkl")
    shown = b"x/data/9"
    made[0][0].extra = struct.pack("<HHBL", 0x7075, 5 + len(shown), 1, zlib.crc32(b"x/data.pkl")) + shown


# Ways of hiding a pickle.
HIDDEN: dict[str, Callable[[Entries], None]] = {
    "as it is": lambda made: renamed(made, "x/data.pkl"),
    "capitals": lambda made: renamed(made, "x/DATA.PKL"),
    "one capital": lambda made: renamed(made, "x/data.pkL"),
    "shown as another": shown_as_another,
    "folder in capitals": lambda made: beside(made, "X/data.pkl"),
    "twice": lambda made: beside(made, "x/data.pkl"),
    "twice, once in capitals": lambda made: beside(made, "x/DATA.PKL"),
    "another folder first": lambda made: beside(made, "y/data.pkl"),
    "another folder first, in capitals": lambda made: beside(made, "y/DATA.PKL"),
    "no folder": lambda made: beside(made, "DATA.PKL"),
    "folder in the folder": lambda made: beside(made, "x/x/DATA.PKL"),
    "Windows' slash": lambda made: renamed(made, "x\\DATA.PKL"),
    "a program of TorchScript": lambda made: beside(made, "x/constants.pkl"),
    "letters beyond ASCII": lambda made: renamed(made, "x/data.p\u212al"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", HIDDEN)
def test_no_pickle_is_hidden_from_the_scan(name: str) -> None:
    made = entries()
    HIDDEN[name](made)
    write(made)
    assert not opens()


def test_no_part_of_an_entry_is_hidden_from_the_scan() -> None:
    """torch reads as many bytes as the entry has unpacked, and zipfile as many as it has packed."""
    made = entries()
    # torch compares both only if the time is midnight.
    made[0] = (zipfile.ZipInfo("x/data.pkl", (1980, 1, 1, 1, 1, 2)), HARMLESS)
    write(made, len(HARMLESS) + 9)
    assert not opens()


def test_fields_of_an_entry_are_those_of_large_entries() -> None:
    field = struct.pack("<HH", 1, 0)
    for extra, right in ((field, True), (field * 2, False), (b"FB\0\0", False), (field + b"FB\0\0", False)):
        made = entries()
        made[0][0].extra = extra
        write(made)
        assert opens() == right


def test_files_of_torch_are_opened() -> None:
    for name in ("x.pt", "a b.c.ckpt", "no_ending", "\u00e9.ckpt"):
        for content in ({}, {"a": torch.ones(3)}, [torch.zeros(2) for _ in range(12)]):
            torch.save(content, name)
            Path(name).rename("x.pt")
            assert opens()
