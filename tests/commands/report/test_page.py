from __future__ import annotations

import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from n2n.cli import main
from n2n.commands.report.sliders import sliders
from n2n.trainer.panels import PanelRow
from tests.run_folders import add_panel, write_run

# Elements without an end.
EMPTY = {"meta", "input", "br"}
ATTACK = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Collects the elements and texts of a page, and sees that all elements are closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.inside: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.inside == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.inside.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.inside.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.inside and data.strip():
            self.texts.setdefault(self.inside[-1], []).append(data.strip())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def picture(self, name: str) -> NDArray[np.uint8]:
        (data,) = re.findall(rf"\.{name} {{[^}}]*base64,([^)]*)\)", self.source)
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))

    def is_alone(self) -> bool:
        """Whether nothing is loaded, and no script runs but the page's own, which the policy names by its hash."""
        (script,) = self.texts["script"]
        assert self.of("script") == [{}]
        digest = base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode()
        (policy,) = (x["content"] or "" for x in self.of("meta") if x.get("http-equiv") == "Content-Security-Policy")
        assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in policy
        places = {name: value or "" for _, given in self.elements for name, value in given.items()}
        assert not any(name.startswith("on") for name in places)
        links = [given[x] or "" for _, given in self.elements for x in ("src", "href", "xlink:href") if x in given]
        loaded = re.findall(r"url\(['\"]?([^)'\"]*)", self.source)
        return all(link.startswith(("#", "data:image/png;base64,")) for link in (*links, *loaded))


def run(folder: Path, noisy: torch.Tensor, psnr: float = 30.0) -> Path:
    figures = {"train/loss": 0.02, "val/psnr_per_image": psnr, "val/psnr_noisy_per_image": 20.25}
    write_run(folder, [(1, 1, figures), (2, 2, figures | {"best": 1})], finished=True)
    add_panel(folder, noisy, noisy / 2, noisy / 4, psnr=(20.25, psnr))
    return folder


def test_the_page_has_curves_figures_and_pictures(tmp_path: Path) -> None:
    noisy = torch.rand(3, 3, 32, 32)
    folder = run(tmp_path / "run", noisy, 31.5)
    facts = {"finished": True, "parameters": 1234, "baselines": {"network": 29.123, "median": 27.5}}
    (folder / "run.yaml").write_text(yaml.safe_dump(facts))
    assert main(["report", "run", "--images", "2"]) == 0
    page = Page(Path("report/report.html"))
    assert page.is_alone()
    assert {"Training loss", "PSNR (dB)"} <= set(page.texts["text"])
    table = dict(zip(page.texts["th"], page.texts["td"], strict=True))
    assert table | {"parameters": "1,234", "best epoch": "2", "gain": "11.25", "median": "27.50"} == table
    assert "SSIM" not in table  # the run has none
    assert page.texts["span"] == ["noisy 20.25 dB", "denoised 31.50 dB", "clean"] * 2
    assert len(page.of("input")) == 2
    shown = [str(x["class"]).split() for x in page.of("div") if "picture" in str(x.get("class"))]
    assert [len(x) for x in shown] == [2, 3, 2] * 2
    for i, divisor in ((0, 2), (1, 1), (2, 4)):  # denoised, noisy above it, clean
        expected = (noisy[0] / divisor * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(page.picture(shown[i][1]), expected)


def test_runs_on_the_same_images_stand_side_by_side_and_share_pictures(tmp_path: Path) -> None:
    noisy = torch.rand(2, 1, 32, 32)
    for name, psnr in (("a", 30.0), ("b", 31.0)):
        add_panel(run(tmp_path / "runs" / name, noisy, psnr), noisy, noisy * psnr / 40, noisy / 4, psnr=(20.25, psnr))
    run(tmp_path / "runs" / "c", torch.rand(1, 1, 300, 8)[..., :256, :])
    assert main(["report", "runs"]) == 0
    page = Page(Path("report/report.html"))
    assert page.is_alone()
    assert page.texts["strong"] == ["a", "b", "c", "a", "b"]
    # Of each image noisy, clean and two denoised; of the third run's image three.
    assert page.source.count("base64,") == 2 * 4 + 3
    assert page.picture("p0").shape == (32, 32)  # grey stays grey


def test_hostile_folders_are_text(tmp_path: Path) -> None:
    folder = run(tmp_path / "runs" / "<script>", torch.rand(1, 3, 32, 32))
    run(tmp_path / "runs" / '"><img src=x onerror=alert(1)>', torch.rand(1, 3, 32, 32))
    run(tmp_path / "runs" / "]]>--><!--\n&lt;", torch.rand(1, 3, 32, 32))
    facts = {"finished": True, "baselines": {ATTACK: 1.0, "a": ATTACK, "b": [1], **{f"{i}": 1 for i in range(99)}}}
    (folder / "run.yaml").write_text(yaml.safe_dump(facts, sort_keys=False))
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"backbone": {"class_path": f"x.{ATTACK}"}}}))
    assert main(["report", "runs"]) == 0
    page = Page(Path("report/report.html"))
    assert page.is_alone()
    assert "<script>" in page.texts["td"]
    assert ATTACK in page.texts["th"]
    assert len(page.texts["th"]) < 40
    assert not page.of("img")
    assert page.source.count("<script") == 1


def test_a_hostile_note_is_text(tmp_path: Path) -> None:
    pictures = (np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3), np.uint8))
    body = sliders({"<b>": [PanelRow(pictures, None, ATTACK)], "x": [PanelRow(pictures, None)]}, 4).body
    assert "<script" not in body
    assert "<b>" not in body
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in body


def test_the_page_stays_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def row() -> PanelRow:
        return PanelRow(
            (rng.integers(0, 256, (256, 256, 3), np.uint8), rng.integers(0, 256, (256, 256, 3), np.uint8)), None
        )

    shown = sliders({f"{i}": [row() for _ in range(2)] for i in range(10)}, 4)
    count = shown.body.count("<input")
    assert 3 < count < 10
    assert shown.left_out == 20 - count
    assert len(shown.rules) < 4e6
