"""The ``n2n`` command on the pretended device: ``python -m tests.devices.on_pretend cuda|mps fit --config quick.yaml ...``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal, cast

from tests.devices import pretend
from tests.devices.target import options


def main(args: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    if not args or args[0] not in ("cuda", "mps"):
        print("usage: python -m tests.devices.on_pretend cuda|mps COMMAND ...", file=sys.stderr)
        return 2
    profile, command = cast(Literal["cuda", "mps"], args[0]), list(args[1:])
    if not pretend.supported():
        print(
            "on_pretend: error: this version of torch has no devices written in Python: 2.11 and later have",
            file=sys.stderr,
        )
        return 2
    pretend.install(profile)
    from n2n.cli import main as n2n

    return n2n([*command, *options(command[0] if command else "", pretend.NAME)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
