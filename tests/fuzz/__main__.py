"""``python -m tests.fuzz``: changed files of every format through the readers, and a table of what became of them."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz.formats import FORMATS
from tests.fuzz.run import MEMORY, fuzz


def main(args: list[str] | None = None) -> int:
    """Run the command; the exit status is 1 if there was a fault."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="in all, shared out among the formats (10000)")
    parser.add_argument("--seed", type=int, default=0, help="of the changes (0)")
    parser.add_argument("--format", action="append", choices=list(FORMATS), help="one of them; all by default")
    parser.add_argument("--faults", type=Path, default=Path("fuzz-faults"), help="where to keep what is a fault")
    options = parser.parse_args(args)
    chosen = options.format or list(FORMATS)
    parts = sum(FORMATS[name].share for name in chosen)
    print(f"Memory is bounded to {MEMORY / 2**30:.0f} GiB beside what the process has.\n")
    print("| format | inputs | read | refused | faults | seconds |\n|---|--:|--:|--:|--:|--:|")
    faults: list[str] = []
    total = [0, 0, 0, 0]
    begun = time.monotonic()
    for name in chosen:
        start = time.monotonic()
        tally = fuzz(name, -(-options.inputs * FORMATS[name].share // parts), options.seed, options.faults.absolute())
        counts = [tally.inputs, tally.read, tally.refused, tally.faults.total()]
        total = [a + b for a, b in zip(total, counts, strict=True)]
        faults += [f"{name}: {count} × {what}" for what, count in tally.faults.most_common()]
        print(f"| {name} | {' | '.join(map(str, counts))} | {time.monotonic() - start:.0f} |", flush=True)
    print(f"| all | {' | '.join(map(str, total))} | {time.monotonic() - begun:.0f} |")
    if faults:
        print(f"\nKept in {options.faults}:", *faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
