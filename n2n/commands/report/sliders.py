"""Pictures of a report's page: a slider between noisy and denoised, beside the clean picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from n2n.trainer.panels import COLUMNS, PanelRow, Picture, enlargement

# Text of all pictures, in bytes, above which no further ones are added, so that the page opens quickly.
_MOST_BYTES = 3_000_000
# How many times as large as in a panel pictures are shown.
_ENLARGED = 2

STYLE = """
.row { display: flex; flex-wrap: wrap; align-items: end; gap: 1rem; margin: .5rem 0 2rem; }
figure { margin: 0; }
figcaption { display: flex; justify-content: space-between; gap: 1rem; font-size: .9rem; }
.view { position: relative; min-width: 2rem; max-width: 100%; }
.view > * { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; }
.picture { background-size: 100% 100%; image-rendering: pixelated; }
.before { clip-path: inset(0 calc(100% - var(--at, 50%)) 0 0); }
.view > .line { left: calc(var(--at, 50%) - 1px); width: 2px; background: white; box-shadow: 0 0 3px black; }
.view > input { opacity: 0; cursor: ew-resize; touch-action: pan-y; }
.view:focus-within { outline: 2px solid #36c; }
"""
SCRIPT = """
for (const slider of document.querySelectorAll("input"))
  slider.oninput = () => slider.parentElement.style.setProperty("--at", slider.value + "%");
"""


class Sliders(NamedTuple):
    """HTML of the pictures, CSS rules that hold them, and the number of sliders that had no room."""

    body: str
    rules: str
    left_out: int


class _Pictures:
    """Gives each picture a class. Pictures that several runs show, such as the noisy ones, are stored once."""

    def __init__(self) -> None:
        self._names: dict[tuple[tuple[int, ...], bytes], str] = {}
        self.rules: list[str] = []

    def is_full(self) -> bool:
        return sum(map(len, self.rules)) > _MOST_BYTES

    def div(self, picture: Picture, label: str, more: str = "") -> str:
        """Return an element that shows a picture."""
        key = (picture.shape, picture.tobytes())
        if key not in self._names:
            self._names[key] = f"p{len(self._names)}"
            self.rules.append(f".{self._names[key]} {{ background-image: url({_data_uri(picture)}); }}")
        return f'<div class="picture {self._names[key]}{more}" role="img" aria-label="{escape(label)}"></div>'


def _data_uri(picture: Picture) -> str:
    from PIL import Image

    grey = (picture == picture[..., :1]).all()
    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if grey else picture).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def sliders(panels: Mapping[str, Sequence[PanelRow]], images: int) -> Sliders:
    """Draw the first images of each run's panel. Runs that show the same noisy image stand side by side.

    Args:
        panels: by the name of the run, which is shown if there are several.
        images: most images of each run.
    """
    groups: dict[tuple[tuple[int, ...], bytes], list[tuple[str, PanelRow]]] = {}
    for i in range(images):
        for name, panel in panels.items():
            for row in panel[i : i + 1]:
                noisy = row.pictures[0]
                groups.setdefault((noisy.shape, noisy.tobytes()), []).append((name if len(panels) > 1 else "", row))
    pictures, body, left_out = _Pictures(), [], 0
    for rows in groups.values():
        shown = []
        for name, row in rows:
            if pictures.is_full():
                left_out += 1
            else:
                shown.append(_slider(pictures, name, row))
        clean = next((row for _, row in rows if len(row.pictures) == len(COLUMNS)), None)
        if shown and clean is not None:
            shown.append(_figure(clean.pictures[2], "", ["clean"], pictures.div(clean.pictures[2], "clean")))
        if shown:
            note = f"<p>{escape(rows[0][1].note)}</p>" if rows[0][1].note else ""
            body.append(f'<section>{note}<div class="row">\n{"".join(shown)}</div></section>\n')
    return Sliders("".join(body), "\n".join(pictures.rules), left_out)


def _slider(pictures: _Pictures, name: str, row: PanelRow) -> str:
    noisy, denoised = row.captions()[:2]
    view = [
        pictures.div(row.pictures[1], denoised),
        pictures.div(row.pictures[0], noisy, " before"),
        '<div class="line"></div>',
        f'<input type="range" min="0" max="100" value="50" aria-label="{escape(name)} noisy or denoised">',
    ]
    return _figure(row.pictures[0], name, [noisy, denoised], "".join(view))


def _figure(picture: Picture, name: str, captions: Sequence[str], view: str) -> str:
    """Return a figure: the name of the run, a line of captions, and what is shown, at the size of the picture."""
    H, W = picture.shape[:2]
    factor = _ENLARGED * enlargement(H, W)
    spans = "".join(f"<span>{escape(caption)}</span>" for caption in captions)
    size = f"width: {W * factor}px; aspect-ratio: {W} / {H};"
    return (
        f"<figure><strong>{escape(name)}</strong><figcaption>{spans}</figcaption>"
        f'<div class="view" style="{size}">{view}</div></figure>\n'
    )
