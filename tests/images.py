from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from n2n.data.images import open_image

# Data for the tests beside the project, where it is there.
SHARED = Path(__file__).parents[2] / "shared" / "data"


def read_image(path: Path) -> NDArray[Any]:
    """Read a whole image without opacity, pages×H×W×C, in the file's own dtype and values."""
    with open_image(path) as image:
        return np.stack([image.rows(page, 0, image.height) for page in range(image.pages)])
