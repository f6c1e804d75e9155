"""The paper's results for its ten networks, shown beside ours."""

from __future__ import annotations

from typing import Any, NamedTuple


class Reported(NamedTuple):
    """A row of Table I in Januszek, Parshikov and Roust (EE-559, EPFL, 2022): mean PSNR in dB, and minutes of training."""

    psnr: float
    minutes: int


_TABLE_I = {
    "Model1": Reported(23.78, 2),
    "Model2": Reported(24.92, 2),
    "Model2v1": Reported(24.98, 2),
    "Model2v2": Reported(24.94, 2),
    "Model3": Reported(24.52, 3),
    "Model4": Reported(25.01, 3),
    "Model5": Reported(24.87, 7),
    "Model6": Reported(25.44, 10),
    "ModelPooling": Reported(25.11, 5),
    "ModelFinal": Reported(25.45, 7),
}


def reported(backbone: dict[str, Any]) -> Reported | None:
    """Return the row of a backbone, given as ``class_path`` and ``init_args``; None if the paper has no such network."""
    from n2n import backbones
    from n2n.backbones.spec import describe

    package, _, name = str(backbone.get("class_path")).rpartition(".")
    if name not in _TABLE_I or package not in ("n2n.backbones", "n2n.backbones.paper"):
        return None
    defaults = describe(getattr(backbones, name)())["init_args"]
    given = backbone.get("init_args") or {}
    return _TABLE_I[name] if all(defaults.get(key) == value for key, value in given.items()) else None
