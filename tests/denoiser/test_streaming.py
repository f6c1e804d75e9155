"""How denoised rows come from a GPU, on one that is acted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from n2n.denoiser.streaming import _on_cpu


def test_rows_of_any_gpu_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of one that is not the current device, whose own stream would be done at once."""
    said: list[str] = []

    class Event:
        def record(self, stream: str = "stream of the current device") -> None:
            self.stream = stream

        def synchronize(self) -> None:
            said.append(f"waited for the {self.stream}")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch, "empty_like", lambda x, **_: torch.zeros(x.shape))
    bands: Any = [SimpleNamespace(device=torch.device("cuda", 1), number=number) for number in range(3)]

    def to_values(band: Any) -> Tensor:
        said.append(f"computed {band.number}")
        return torch.full((2, 2), float(band.number))

    found = [float(rows.mean()) for rows in _on_cpu(iter(bands), to_values)]
    assert found == [0.0, 1.0, 2.0]
    waited = "waited for the stream of cuda:1"
    # The next rows are on their way before the last ones are waited for.
    assert said == ["computed 0", "computed 1", waited, "computed 2", waited, waited]
