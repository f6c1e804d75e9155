"""``python -m n2n`` is the ``n2n`` command."""

import os
import sys

if __name__ == "__main__":
    # Python puts the current folder first in its path, and a stranger's file there could take the place of a module. The
    # command n2n does not do that.
    if not sys.flags.safe_path and sys.path[0] == os.getcwd():  # noqa: PTH109  # as Python wrote it
        del sys.path[0]

    from n2n.cli import main

    sys.exit(main())
