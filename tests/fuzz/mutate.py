"""How a whole file becomes a broken or lying one: at random in its bytes, or by what its format's headers say."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

Rng = np.random.Generator
T = TypeVar("T")
Mutator = Callable[[bytes, Rng], bytes]

# Numbers that headers lie with.
EXTREMES = (
    *(0, 1, 2, 3, 7, 127, 128, 255, 256, 60000, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40),
    *(2**63 - 1, 2**64 - 1),
)


def one(of: Sequence[T], rng: Rng) -> T:
    """Choose one of several things, whatever they are."""
    return of[int(rng.integers(len(of)))]


def flip(data: bytes, rng: Rng) -> bytes:
    """Change a few bits, mostly near the start, where headers are."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        end = one((64, 512, len(data)), rng)
        changed[int(rng.integers(min(end, len(data))))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def truncate(data: bytes, rng: Rng) -> bytes:
    """Cut the end off."""
    return data[: int(rng.integers(len(data)))]


def splice(data: bytes, rng: Rng) -> bytes:
    """Copy a piece of the file to another place, over what is there or between."""
    start, to = (int(rng.integers(len(data))) for _ in range(2))
    piece = data[start : start + int(rng.integers(1, 256))]
    return data[:to] + piece + data[to + (len(piece) if rng.integers(2) else 0) :]


def noise(data: bytes, rng: Rng) -> bytes:
    """Put random bytes over a piece, or over everything but the first bytes, by which a format is known."""
    if rng.integers(4) == 0:
        return data[: one((0, 4, 8, 16), rng)] + rng.bytes(int(rng.integers(1, 2000)))
    at = int(rng.integers(len(data)))
    count = int(rng.integers(1, 64))
    return data[:at] + rng.bytes(count) + data[at + count :]


def number(data: bytes, rng: Rng) -> bytes:
    """Put an extreme number of 1 to 8 bytes somewhere."""
    size = one((1, 2, 4, 8), rng)
    at = int(rng.integers(max(1, min(len(data), one((64, 512, len(data)), rng)) - size)))
    value = one(EXTREMES, rng) % 256**size
    return data[:at] + _number_bytes(value, size, bool(rng.integers(2))) + data[at + size :]


def _number_bytes(value: int, size: int, little: bool) -> bytes:
    return value.to_bytes(size, "little" if little else "big")


GENERIC: tuple[Mutator, ...] = (flip, truncate, splice, noise, number)


def generic(data: bytes, rng: Rng) -> bytes:
    """Change the bytes of a file in one of the ways that need not know its format."""
    if not data:
        return rng.bytes(int(rng.integers(64)))
    way = one(GENERIC, rng)
    return way(data, rng)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(data: bytes, rng: Rng) -> bytes:
    """Change chunks of a PNG file, whose checksums are right again."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(int(rng.integers(1, 3))):
        i = int(rng.integers(len(chunks)))
        name, content = chunks[i]
        kind = int(rng.integers(6))
        if kind == 0:
            del chunks[i]
        elif kind == 1:
            chunks.insert(int(rng.integers(len(chunks) + 1)), (name, generic(content, rng)))
        elif kind == 2:
            head = bytearray(chunks[0][1].ljust(13, b"\0")[:13])
            if rng.integers(2):
                side = int(rng.integers(2)) * 4
                head[side : side + 4] = (one(EXTREMES, rng) % 2**32).to_bytes(4, "big")
            else:
                head[int(rng.integers(8, 13))] = one((0, 1, 2, 3, 4, 6, 8, 16, 255), rng)
            # In the place of the header, or beside it.
            chunks.insert(one((0, 1), rng), (b"IHDR", bytes(head)))
            if rng.integers(3):
                chunks = [c for j, c in enumerate(chunks) if c[0] != b"IHDR" or c[1] == bytes(head) or j == 0]
        elif kind == 3:
            bomb = zlib.compress(b"\0" * one((10, 10**6, 2 * 10**7), rng))
            extra = one(
                (
                    *((b"zTXt", b"a\0\0" + bomb), (b"iCCP", b"a\0\0" + bomb), (b"tEXt", b"a\0" + rng.bytes(9))),
                    *((b"eXIf", rng.bytes(40)), (b"eXIf", b"II*\0\x08\0\0\0" + rng.bytes(30)), (b"tRNS", rng.bytes(6))),
                    *((b"pHYs", rng.bytes(9)), (b"acTL", rng.bytes(8)), (b"fcTL", rng.bytes(26)), (b"PLTE", b"abc")),
                ),
                rng,
            )
            chunks.insert(int(rng.integers(1, len(chunks) + 1)), extra)
        else:
            chunks[i] = (name, generic(content, rng))
        if not chunks:
            break
    return data[:8] + b"".join(_chunk(*chunk) for chunk in chunks)


def jpeg(data: bytes, rng: Rng) -> bytes:
    """Change the size that a JPEG file says, or what follows one of its markers."""
    marks = [m.start() for m in re.finditer(rb"\xff[\xc0-\xfe]", data)]
    at = one(marks, rng)
    changed = bytearray(data)
    frame = next((m for m in marks if 0xC0 <= data[m + 1] <= 0xC2), at)
    kind = int(rng.integers(4))
    if kind == 0:
        place = frame + one((5, 7), rng)
        changed[place : place + 2] = (one(EXTREMES, rng) % 65536).to_bytes(2, "big")
    elif kind == 1:
        changed[at + 2 : at + 4] = (one(EXTREMES, rng) % 65536).to_bytes(2, "big")
    elif kind == 2:
        length = int.from_bytes(data[frame + 2 : frame + 4], "big") + 2
        twin = bytearray(data[frame : frame + length])
        twin[5:9] = rng.bytes(4)
        changed[at:at] = twin
    else:
        changed[at:at] = b"\xff\xe1" + (38).to_bytes(2, "big") + b"Exif\0\0II*\0\x08\0\0\0" + rng.bytes(22)
    return bytes(changed)


def tiff(data: bytes, rng: Rng) -> bytes:
    """Change tags of a TIFF file: what they are, their type, count and value; or where directories lie."""
    order: Any = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    start, count_size, entry, after = (8, 8, 20, 8) if big else (4, 2, 12, 4)
    code = {2: "H", 4: "I", 8: "Q"}
    changed = bytearray(data)
    directories: list[tuple[int, int]] = []
    at = start
    while len(directories) < 8:
        (offset,) = struct.unpack_from(order + code[after], data, at)
        if offset == 0 or offset + count_size > len(data):
            break
        (count,) = struct.unpack_from(order + code[count_size], data, offset)
        directories.append((offset, int(count)))
        at = offset + count_size + entry * count
    for _ in range(int(rng.integers(1, 4))):
        offset, count = one(directories, rng)
        kind = int(rng.integers(8))
        if kind == 0:  # a loop, or a directory anywhere
            target = one((0, 1, start, offset, directories[0][0], len(data), int(rng.integers(len(data)))), rng)
            struct.pack_into(order + code[after], changed, offset + count_size + entry * count, target)
            continue
        if kind == 1:
            struct.pack_into(
                order + code[count_size], changed, offset, one((0, 1, count + 1, count - 1, 4096, 65535), rng)
            )
            continue
        place = offset + count_size + entry * int(rng.integers(count))
        value_at, count_at = place + (12 if big else 8), place + 4
        if kind == 2:
            tags = (254, 256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 282, 284, 317, 320, 322, 323, 324, 325)
            struct.pack_into(order + "H", changed, place, one((*tags, 338, 339, 347, 34675, 50839, 330, 700), rng))
        elif kind == 3:
            struct.pack_into(order + "H", changed, place + 2, int(rng.integers(20)))
        elif kind == 4:
            struct.pack_into(order + code[after], changed, count_at, one(EXTREMES, rng) % 256**after)
        elif kind == 5:
            struct.pack_into(order + code[after], changed, value_at, one(EXTREMES, rng) % 256**after)
        elif kind == 6:
            struct.pack_into(order + "H", changed, value_at, one(EXTREMES, rng) % 65536)
        else:
            changed[place : place + entry] = rng.bytes(entry)
    return bytes(changed)


_SHAPES = (
    "(60000, 60000)", "(-1, 5)", "(-2, -3, 4, 4)", "()", "(5,)", "(0, 5)", "(40, 0)", "(2, 2, 2, 2, 2, 2, 2, 2)", "4",
    "(True, False)", "(10000000000000, 10000000000000)", "(0x" + "f" * 5000 + ", 3)", "('a', 3)", "(2.5, 3)", "None",
    "(1, 1, 1, 1)", "(" + "1, " * 60 + ")", "(1000000000, 0, 3)", "(2**70, 0)", "(18446744073709551616, 1, 0)", "[9, 9]",
)  # fmt: skip
_DTYPES = (
    "'|O'", "'<f2'", "'>u2'", "'<u8'", "'<f16'", "'|b1'", "'<c16'", "'<M8[s]'", "'|S5'", "'<U3'", "'|V9'", "'<f3'", "''",
    "[('a', '<u1')]", "('<u1', (3,))", "[]", "None", "5", "'" + "a" * 3000 + "'", "{'names': []}", "'f4,f4'",
)  # fmt: skip


def npy(data: bytes, rng: Rng) -> bytes:
    """Change the header of an .npy file: shape, dtype, order, its length or its syntax."""
    end = 10 + int.from_bytes(data[8:10], "little")
    header = data[10:end].decode("latin1")
    kind = int(rng.integers(5))
    if kind == 0:
        header = re.sub(r"'shape': .*?\), }", lambda _: f"'shape': {one(_SHAPES, rng)}, }}", header)
    elif kind == 1:
        header = re.sub(r"'descr': '.*?'", lambda _: f"'descr': {one(_DTYPES, rng)}", header)
    elif kind == 2:
        header = one(
            ("[" * 3000, "__import__('os').mkdir('code-ran')", "{}", "1" * 5000, "{" * 90, "\0", "'", "(" * 9000), rng
        )
    elif kind == 3:
        header = generic(header.encode("latin1"), rng).decode("latin1")
    else:
        header = header.replace("False", one(("True", "None", "1", "()"), rng))
    body = header.encode("latin1")
    length = one((len(body), len(body), len(body), *EXTREMES), rng) % 65536
    version = one((b"\1\0", b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\xff\0"), rng)
    size = length.to_bytes(2 if version == b"\1\0" else 4, "little")
    return data[:6] + version + size + body + data[end:]


def rezipped(inner: Mutator, methods: Sequence[int]) -> Mutator:
    """Return what changes an entry of a zip archive and packs all of them again."""

    def change(data: bytes, rng: Rng) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
        i = int(rng.integers(len(entries))) if rng.integers(3) == 0 else _largest_named(entries)
        name, content = entries[i]
        kind = int(rng.integers(8))
        if kind == 0:
            name = one(("../../escaped.npy", "/escaped.npy", "a\nb", "", "a" * 3000, "..", "é\u202e.npy", "C:\\x"), rng)
        elif kind == 1:
            content = b"\0" * one((0, 10**5, 10**7), rng)
        elif kind == 2:
            entries.append((name, content))
        elif kind == 3:
            del entries[i]
        else:
            content = inner(content, rng)
        if kind != 3:
            entries[i] = name, content
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, content in entries:
                archive.writestr(zipfile.ZipInfo(name), content, one(methods, rng))
        return out.getvalue()

    return change


def _largest_named(entries: list[tuple[str, bytes]]) -> int:
    """Return the entry that says what the others are: a pickle, or the only array."""
    return next((i for i, (name, _) in enumerate(entries) if name.endswith(("data.pkl", ".npy"))), 0)


def zip_directory(data: bytes, rng: Rng) -> bytes:
    """Change a field of a zip archive's headers: method, flags, sizes, offsets, lengths."""
    marks = [m.start() for m in re.finditer(rb"PK(\x01\x02|\x03\x04|\x05\x06|\x06\x06|\x06\x07)", data)]
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at, size = one(marks, rng) + int(rng.integers(4, 46)), one((2, 4), rng)
        changed[at : at + size] = (one(EXTREMES, rng) % 256**size).to_bytes(size, "little")
    return bytes(changed)


VALUES: tuple[Any, ...] = (
    *(0, -1, 1, 10**9, 10**30, 0.5, float("nan"), True, None, "", "x", "\n", "é", "../..", [], {}, [[[]]], {"": None}),
    *(["a"] * 9, [10**9] * 2, [0, 0], "float64", "uint8", "object", "pickle", {"id": "pickle"}, {"name": "bytes"}),
    {"class_path": "subprocess.Popen", "init_args": {"args": ["mkdir", "code-ran"]}},
    {
        "class_path": "torch.fx.symbolic_trace",
        "init_args": {
            "root": "subprocess.getoutput",
            "concrete_args": {"cmd": "mkdir code-ran", "encoding": None, "errors": None},
        },
    },
)


def value(content: Any, rng: Rng, values: Sequence[Any] = VALUES) -> Any:
    """Change one value somewhere in nested plain data."""
    if isinstance(content, dict) and content and rng.integers(6):
        key = one(list(content), rng)
        kind = int(rng.integers(12))
        if kind == 0:
            return {k: v for k, v in content.items() if k != key}
        if kind == 1:
            return {**content, one(("x", 5, "", "\n", None), rng): content[key]}
        return {**content, key: value(content[key], rng, values)}
    if isinstance(content, list | tuple) and content and rng.integers(6):
        i = int(rng.integers(len(content)))
        return type(content)([*content[:i], value(content[i], rng, values), *content[i + 1 :]])
    return one(values, rng)


def json_value(data: bytes, rng: Rng) -> bytes:
    """Change one value of a JSON file."""
    if rng.integers(40) == 0:
        return b"[" * 100_000
    return json.dumps(value(json.loads(data), rng)).encode()


_YAML = (
    "!!python/object/apply:os.mkdir [code-ran]", "!!float x", "!!int ''", "!!bool x", "2020-99-99", "1" * 5000, "0o9",
    "&a [*a]", "*b", "? [a, {}]\n: x", "{a: {<<: [x]}}", "[" * 2000, "!!binary x", "!!set {a}", "1e999", ".nan", "-1",
    "- \t- x", "'", '"\\x', "%YAML 9.9\n---", "---\n---", "\x00", "\ufeff", "é\u202e", "null", "~", "{}", "[]", "9" * 400,
)  # fmt: skip


def yaml_text(data: bytes, rng: Rng) -> bytes:
    """Change a line of a YAML file: its key, its value, its indent."""
    lines = data.decode().splitlines()
    for _ in range(int(rng.integers(1, 3))):
        i = int(rng.integers(len(lines)))
        key, colon, _ = lines[i].partition(":")
        kind = int(rng.integers(6))
        if kind == 0:
            lines[i] = " " * int(rng.integers(9)) + lines[i].lstrip()
        elif kind == 1:
            lines.insert(i, one(lines, rng))
        elif kind == 2:
            del lines[i]
        else:
            lines[i] = f"{key}{colon} {one(_YAML, rng)}"
        if not lines:
            break
    return "\n".join(lines).encode(errors="surrogatepass")


def csv_cell(data: bytes, rng: Rng) -> bytes:
    """Change a cell of a CSV file, or put it into another place."""
    rows = [line.split(",") for line in data.decode().splitlines()]
    for _ in range(int(rng.integers(1, 3))):
        row = one(rows, rng)
        cells = (*VALUES, *EXTREMES, '"', "nan", "-inf", "1e999", one(one(rows, rng), rng))
        row[int(rng.integers(len(row)))] = str(one(cells, rng))
    return "\n".join(map(",".join, rows)).encode(errors="surrogatepass")
