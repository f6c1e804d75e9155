"""``python -m n2n`` is the ``n2n`` command."""

import sys

from n2n.cli import main

if __name__ == "__main__":
    sys.exit(main())
