"""Every backbone exported in both formats, and compared with itself on images of other sizes.

python -m tests.long.exports
"""

from __future__ import annotations

import os
import tempfile
from typing import get_args

from n2n import backbones
from n2n.commands.export.formats import ExportFormat
from tests.commands.export.test_export import test_a_backbone_for_any_size


def main() -> None:
    """Print a line for each that is as it should be; the first that is not raises an error."""
    for name in backbones.__all__:
        for file_format in get_args(ExportFormat):
            with tempfile.TemporaryDirectory() as folder:
                os.chdir(folder)
                test_a_backbone_for_any_size(name, file_format)
                os.chdir("/")
            print(f"{name} as {file_format}", flush=True)


if __name__ == "__main__":
    main()
