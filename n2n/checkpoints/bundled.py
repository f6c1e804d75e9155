"""The denoisers that come with n2n, and how ``--ckpt_path`` finds them."""

from __future__ import annotations

import difflib
import os
import warnings
from pathlib import Path

from n2n.errors import InputError

# What noise each of them is for, in the order of the list.
_NOISE = {
    "gaussian": "white noise of sigma 0 to 55 of 255, Gaussian or of photons, colour and grey",
    "camera": "photographs in JPEG or sRGB, as phones and cameras make them",
    "micrograph": "grey images of microscopes, 8 and 16 bits, with photon noise",
    "course": "the paper's noise: one random pixel of each cell of a photograph",
    "quick": "the same noise, from the training of quick.yaml; for trying n2n out",
}
# Old names.
_ALIASES = {"best": "course"}


def pretrained() -> dict[str, Path]:
    """Return the checkpoints that come with n2n by their names: in the package, or in the runs of a checkout."""
    package = Path(__file__).parents[1]
    folder = package / "pretrained"
    if not folder.is_dir():
        folder = package.parent / "lightning_logs" / "reference"
    found = {path.parent.parent.name: path for path in sorted(folder.glob("*/checkpoints/best.ckpt"))}
    return {name: found[name] for name in _NOISE if name in found} | found


def find_checkpoint(name: str | os.PathLike[str]) -> Path:
    """Find a checkpoint: a file first, then one that comes with n2n. Other names are returned unchanged.

    An old name of a checkpoint still works, with a warning.

    Raises:
        InputError: if the name is like that of a checkpoint that comes with n2n.
    """
    path = Path(name)
    if path.is_file():
        return path
    wanted = os.fspath(name)
    if wanted in _ALIASES:
        warnings.warn(f"the checkpoint {wanted} is called {_ALIASES[wanted]} now: name that", stacklevel=2)
        wanted = _ALIASES[wanted]
    found = pretrained()
    if wanted not in found and not path.exists() and (close := difflib.get_close_matches(wanted, found, n=1)):
        raise InputError(f"{wanted} is not there (did you mean {close[0]}?): expected {describe_checkpoint()}")
    return found.get(wanted, path)


def describe_checkpoint() -> str:
    """Say what ``--ckpt_path`` takes."""
    return f"a checkpoint written by n2n fit, or one that comes with n2n ({', '.join(pretrained())})"


def list_checkpoints() -> list[str]:
    """Return a line on each checkpoint that comes with n2n: its name and the noise that it is for."""
    width = max(map(len, pretrained()), default=0)
    return [f"{name:{width}}  {_NOISE.get(name, '')}".rstrip() for name in pretrained()]
