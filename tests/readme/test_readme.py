"""The README: its commands, its Python code, its links, and what it says of options, messages and checkpoints."""

from __future__ import annotations

import re
import runpy
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from n2n.checkpoints.bundled import pretrained
from n2n.cli import main
from tests.conftest import write_course

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = [ROOT / "README.md", *(ROOT / room / "README.md" for room in ("configs", "lightning_logs", "tests")),
          ROOT / "n2n/data/images/formats/README.md", *(ROOT / ".github").glob("*.md")]  # fmt: skip
# Makes a training as short as possible. Options of the source hold for those of one's own images.
SHORT = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
ONE_STEP = [*SHORT, "--trainer.max_steps", "1", "--trainer.num_sanity_val_steps", "0"]
PATCHES = ["--data.source.init_args.patches", "8", "--data.source.init_args.patch", "16"]
GENERATED = ["--data.source.init_args.pairs", "25", "--data.source.init_args.val_pairs", "8"]
# What is shortened in a command, by the start of it.
SHORTER = {
    "n2n fit --config quick.yaml": [*ONE_STEP, *GENERATED],
    "n2n fit --config speedrun.yaml": ONE_STEP,
    "n2n fit --config own.yaml": [
        *ONE_STEP,
        *PATCHES,
        "--model.backbone",
        "n2n.backbones.Model2",
        "--model.start_from",
        "null",
    ],
    "n2n fit --config lightning_logs": [],
    "n2n compare": [*SHORT, *PATCHES, "--model.backbone", "n2n.backbones.Model2", "--model.start_from", "null"],
    "n2n search": [*SHORT, *PATCHES, "--trials", "1", "--trainer.max_epochs", "1"],
}

OWN = "lightning_logs/own/version_0/checkpoints/best.ckpt"
QUICKER = {
    "--epochs 5": "--epochs 1",
    # Exporting takes as long as there are layers.
    "export --ckpt_path course": f"export --ckpt_path {OWN} --output course.onnx",
}


def commands() -> list[str]:
    """Return the README's commands of n2n, in its order; those that only show an option are left out."""
    quoted = re.findall(r"`(n2n [^`\n]+)`", README)
    lines = [
        line.split("#")[0] for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()
    ]
    blocks = [part.strip() for line in lines for part in line.split("&&") if part.strip().startswith("n2n ")]
    whole = [text for text in [*blocks, *quoted] if len(shlex.split(text)) > 2]
    return [text for text in whole if "--ckpt_path" in text or not re.match("n2n (predict|export)", text)]


def write_images() -> None:
    """Write what the README's commands read."""
    rng = np.random.default_rng(0)
    scenes = [np.kron(rng.integers(60, 200, (8, 8, 3)), np.ones((8, 8, 1))) for _ in range(3)]
    for folder in ("a", "b", "captures", "noisy", "clean", "photos"):
        Path(folder).mkdir()
    for number, scene in enumerate(scenes):
        one, other = (
            Image.fromarray((scene + rng.normal(0, 10, scene.shape)).clip(0, 255).astype(np.uint8)) for _ in range(2)
        )
        for path in (f"a/{number}", f"captures/cell{number}_1", f"noisy/{number}", f"photos/{number}"):
            one.save(f"{path}.png")
        for path in (f"b/{number}", f"captures/cell{number}_2"):
            other.save(f"{path}.png")
        Image.fromarray(scene.astype(np.uint8)).save(f"clean/cell{number}.png")
    stack = (
        np.stack([scenes[0][..., 0] * 10 + rng.normal(0, 100, (64, 64)) for _ in range(4)]).clip(0).astype(np.uint16)
    )
    for name in ("stack.tif", "series.tif"):
        tifffile.imwrite(name, stack, imagej=True, metadata={"axes": "TYX"})
    write_course(Path("ee559"))


def test_the_commands_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("matplotlib", "optuna", "onnxruntime"):
        pytest.importorskip(module)
    write_images()
    found = commands()
    assert len(found) >= 13
    for command in found:
        shorter = next((options for start, options in SHORTER.items() if command.startswith(start)), [])
        for written, quick in QUICKER.items():
            command = command.replace(written, quick)
        words = shlex.split(command)[1:]
        assert main([*words, *shorter]) == 0, command
    assert sorted(path.name for path in Path("denoised").iterdir()) == ["0.png", "1.png", "2.png"]
    assert Path("lightning_logs/quick/version_0/checkpoints/best.ckpt").is_file()
    assert Path("lightning_logs/nets/table.md").is_file()
    assert Path("course.onnx").is_file()
    assert Path("report/curves.png").is_file()


def test_the_python_code_runs() -> None:
    script = ROOT / "tests" / "readme" / "from_python.py"
    cells = re.sub(r"# %%.*\n", "", script.read_text(encoding="utf-8"))
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert cells == code
    left = runpy.run_path(str(script))
    assert left["denoised"].shape == left["first"].shape
    assert left["denoised"].dtype == left["first"].dtype
    assert isinstance(left["module"].backbone, torch.nn.Module)


def test_the_tests_and_the_extras_are_as_it_says() -> None:
    command = 'pip install -e ".[dev]" && python -m pytest'
    assert command in README
    assert command.replace("install", "install -q") in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for guide in GUIDES:
        assert set(re.findall(r'pip install (?:-e )?"\.\[(\w+)\]"', guide.read_text(encoding="utf-8"))) <= set(extras)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(guide: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", guide.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = guide.parent / name if name else guide
        assert target.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], link


def test_the_checkpoints_are_named() -> None:
    assert set(pretrained()) <= set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))


def test_the_messages_are_those_of_n2n() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "n2n").rglob("*.py")))
    joined = re.sub(r'"\s*\n\s*f?"', "", sources)
    table = README[README.index("| n2n says |") :].split("\n\n")[0]
    texts = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert len(texts) == 12
    for part in (part.strip() for text in texts for part in text.split("...")):
        assert part in joined, part
