"""Every option misspelt, without its value, and with a wrong one; and what contradicts itself: each gets its one line."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from lightning.pytorch.cli import LightningCLI
from PIL import Image

import n2n.backbones
from n2n.backbones import Model1, Model2
from n2n.cli import COMMANDS, DEBUG, main
from n2n.errors import InputError
from n2n.trainer.cli import TrainingCLI
from tests.conftest import write_course, write_photos
from tests.devices.target import ALL
from tests.run_folders import write_run
from tests.write_checkpoints import write_checkpoint

# Of the parsers themselves: they list what there is, or name files.
OWN = {"-h", "--help", "-c", "--config", "--print_config"}
# Any text will do, or what will do is known in the middle of a training.
TEXTS = {"--name", "--output", "--study", "--trainer.default_root_dir", "--trainer.model_registry"}
TEXTS |= {"--checkpoint.filename", "--checkpoint.dirpath", "--checkpoint.monitor", "--axes"}
# Of the commands with a hundred options, so few are misspelt and left without a value; with N2N_TEST_ALL=1 all are.
SOME = 1 if os.environ.get(ALL) == "1" else 6
# Numbers may be negative.
SIGNED = {"--range"}
NETWORK = (
    "--config table1/model2.yaml --trainer.accelerator cpu --trainer.max_epochs 1 --trainer.enable_progress_bar false"
)
SMALL = "--data.source.patch 16 --data.source.patches 20 --data.source.val_fraction 0.4"


def write_files(root: Path) -> None:
    """Write what the table names."""
    write_course(root / "course")
    write_course(root / "grey", size=(1, 32, 32))
    write_photos(root / "a", 4)
    for copy in ("same", "others"):
        shutil.copytree(root / "a", root / copy)
    for file in list((root / "others").iterdir()):
        file.rename(file.with_name(f"x{file.name}"))
    for folder in ("empty", "texts"):
        (root / folder).mkdir()
    for name in ("texts/x.txt", "text.ckpt", "text.png"):
        (root / name).write_text("hello")
    Image.fromarray(np.zeros((40, 41), np.uint8)).save(root / "grey.png")
    tifffile.imwrite(
        root / "five.tif", np.zeros((32, 32, 5), np.uint8), photometric="minisblack", planarconfig="contig"
    )
    tifffile.imwrite(root / "one.tif", np.zeros((32, 32), np.uint8))
    write_checkpoint(str(root / "colour.ckpt"), Model2(3))
    write_checkpoint(str(root / "wide.ckpt"), Model1(32))
    write_run(root / "run", [(1, 5.0, {"train/loss": 1.0, "val/loss": 1.0})])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    write_files(root)
    return root


@pytest.fixture(autouse=True, scope="module")
def parsers() -> Iterator[dict[str, Any]]:
    """The parsers of ``n2n fit``, ``validate`` and ``predict``, built once: that takes ten times as long as parsing."""
    build: Callable[..., None] = LightningCLI.setup_parser
    parsers: dict[str, Any] = {}

    def setup_parser(cli: TrainingCLI, *args: Any) -> None:
        command = getattr(cli, "command", "predict")
        if command not in parsers:
            build(cli, *args)
            parsers[command] = cli.parser
        cli.parser = parsers[command]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LightningCLI, "setup_parser", setup_parser)
        yield parsers


Say = Callable[[list[str]], tuple[int, list[str]]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command; its status, and what it says but for progress bars."""

    def run(args: list[str]) -> tuple[int, list[str]]:
        status = main(args)
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return status, [line for line in said.splitlines() if line.strip() and "%|" not in line]

    return run


def good(command: str, root: Path) -> list[str]:
    """Return a command line with nothing wrong."""
    course = f"--config data/ee559 --data.source.root {root}/course"
    return {
        # Without configurations, each of which takes its time.
        "fit": "fit --trainer.accelerator cpu --trainer.max_epochs 1 --data.source n2n.data.CourseFiles "
        f"--data.source.root {root}/course",
        "validate": f"validate --ckpt_path quick --trainer.accelerator cpu --data.source n2n.data.CourseFiles "
        f"--data.source.root {root}/course",
        "predict": f"predict --ckpt_path quick --input {root}/a --output out",
        "export": "export --ckpt_path quick --format torch",
        "report": f"report {root}/run",
        "compare": f"compare table1/model2.yaml {course} --trainer.accelerator cpu --epochs 1",
        "search": f"search --config search/grid.yaml {course} --trainer.accelerator cpu --trials 1",
    }[command].split()


def misspelt(name: str) -> str:
    """Return an option with two letters in the wrong order, or one too many."""
    if len(name) < 2 or name[-2] in (".", name[-1]):
        return name + name[-1]
    return name[:-2] + name[-1] + name[-2]


def wrong_values(name: str, kind: str) -> list[str]:
    """Return values that an option cannot have, by what the parser knows of its type."""
    words = re.findall(r"\w+", kind)
    values = [] if name in TEXTS else ["abc"]
    if ("int" in words or "float" in words) and name not in SIGNED:
        values.append("-7")
    return values + ([".nan"] if "float" in words else [])


def check(say: Say, command: str, args: list[str], named: str, value: str = "") -> str | None:
    """Run a command with a mistake; what is wrong with the answer, or None."""
    status, lines = say(args)
    written = list(Path().iterdir())
    for path in written:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    short = named.lstrip("-").rstrip("+").rpartition(".")[2]
    if (
        status == 2
        and not written
        and len(lines) == 1
        and lines[0].startswith(f"n2n {command}: error: ")
        and (short in lines[0] or f"{value} is not there" in lines[0])
    ):
        return None
    return f"{shlex.join(args[-2:])}: status {status}, {written} written, {lines}"


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_option(command: str, files: Path, say: Say, parsers: dict[str, Any]) -> None:
    args = good(command, files)
    if command in ("fit", "validate"):
        say([*args, "--nonsense"])
        parser = parsers[command]
    else:
        module = "n2n.trainer.predict" if command == "predict" else f"n2n.commands.{command}.command"
        parser = importlib.import_module(module)._parser()
    tried, wrong = 0, []
    for name, option in parser._option_string_actions.items():
        if name in OWN or name.endswith(".help"):
            continue
        if command == "validate" and ((SOME > 1 and len(name) % 6) or name == "--model.start_from"):
            # Those of fit, but for some that it has not, and one that it does not use.
            continue
        kind = str(getattr(option, "_typehint", None) or getattr(option.type, "__name__", "str"))
        count = option.nargs if isinstance(option.nargs, int) else 1
        told = command not in ("fit", "predict") or not len(name) % SOME
        cases = [([misspelt(name), "3"], misspelt(name), "")] * told
        if count:
            cases += [([name], name, "")] * told
            cases += [([name, *[value] * count], name, value) for value in wrong_values(name, kind)]
        else:
            cases.append(([f"{name}=abc"], name, ""))
        for given, named, value in cases:
            tried += 1
            wrong.append(check(say, command, [*args, *given], named, value))
    assert tried > 5
    assert list(filter(None, wrong)) == []


CLASSES = {
    # Of those of the paper that differ in a layer alone, one.
    **{
        f"n2n.backbones.{name}": "model.backbone"
        for name in n2n.backbones.__all__
        if SOME == 1 or name not in ("Model2", "Model2v1", "Model2v2", "Model3", "Model4", "Model5")
    },
    "n2n.losses.AnnealedL0": "model.loss",
    "n2n.optimizers.Muon": "model.optimizer",
    "n2n.schedules.OneCycle": "model.scheduler",
    "n2n.data.DeadLeaves": "data.source",
    "n2n.data.Photographs --data.source.root {}/a": "data.source",
    "n2n.data.Folders --data.source.roots [{}/a,{}/same]": "data.source",
    "n2n.data.Captures --data.source.root {}/a": "data.source",
    "n2n.data.Stack --data.source.root {}/a": "data.source",
    "n2n.data.SingleImages --data.source.root {}/a": "data.source",
    "n2n.data.CleanImages --data.source.root {}/a --data.source.corruption n2n.data.corruption.Gaussian": "data.source",
    **{
        f"n2n.data.corruption.{name}": "data.source.init_args.corruption"
        for name in ("Bernoulli", "Gaussian", "Impulse", "Poisson", "PoissonGaussian", "SampleCells", "TextOverlay")
    },
}
# Any number will do.
ANY = {"negative_slope"}


@pytest.mark.parametrize("what", list(CLASSES))
def test_every_argument_of_a_class(what: str, files: Path, say: Say, parsers: dict[str, Any]) -> None:
    chosen = f"--{CLASSES[what]} {what.replace('{}', str(files))}".split()
    if "corruption" in CLASSES[what]:
        chosen = ["--data.source", "n2n.data.CleanImages", "--data.source.root", str(files / "a"), *chosen]
    args = [*good("fit", files), *chosen]
    say([*args, "--nonsense"])
    parsed = parsers["fit"].parse_args(chosen)
    tried, wrong = 0, []
    for key, value in parsed.items():
        name = key.rpartition(".")[2]
        if not key.startswith(f"{CLASSES[what]}.") or name == "class_path" or value is None:
            continue
        kind = type(value).__name__
        values = ["abc"] if kind in ("bool", "int", "float") else []
        values += ["-7"] if kind in ("int", "float") and name not in ANY else []
        values += [".nan"] if kind == "float" else []
        for given, named in [(misspelt(key), misspelt(name))] * (not tried) + [
            (f"{key}={value}", name) for value in values
        ]:
            tried += 1
            wrong.append(check(say, "fit", [*args, f"--{given}", *["3"] * ("=" not in given)], named))
    assert tried > 2
    assert list(filter(None, wrong)) == []


# What contradicts itself or what is there, and what is said of it; {} is the folder of the files.
FIT = f"fit {NETWORK} --config data/ee559 --data.source.root {{}}/course"
OWN_IMAGES = f"fit {NETWORK} --data.source n2n.data"
PREDICT = "predict --ckpt_path {}/colour.ckpt --output out --input {}"
TABLE = {
    "fitt": "there is no command fitt: expected one of fit, validate, .* (did you mean fit?)",
    "--nonsense": "there is no command --nonsense: expected one of fit, .* (n2n --help describes them)",
    f"{PREDICT}/five.tif": "was trained on images of 3 channels|five.tif has 5",
    "predict --ckpt_path {}/wide.ckpt --output out --input {}/grey.png": "Model1 is bound to images 32 "
    "pixels wide and got 41: set its width to that of the training images, or choose a convolutional backbone",
    f"{PREDICT}/empty": "there is no image in {}/empty: expected PNG, JPEG,",
    f"{PREDICT}/texts": "there is no image in {}/texts (left out: 1 .txt .*): expected PNG, JPEG,",
    f"{PREDICT}/text.png": "text.png is not an image that n2n reads: expected PNG or JPEG",
    f"{PREDICT}/a --output {{}}/a": "--output would replace the input {}/a/0.png: name another folder, or add --overwrite",
    f"{PREDICT}/a --output {{}}/one.tif": "--output {}/one.tif is a file and --input a folder: name a folder to write to",
    f"{PREDICT}/a --ckpt_path {{}}/text.ckpt": "text.ckpt is damaged or not a PyTorch file: expected a checkpoint written by",
    f"{PREDICT}/a --ckpt_path {{}}": "is a folder: expected a checkpoint written by n2n fit",
    f"{PREDICT}/a --range nan 3": "argument --range: nan is given: expected two finite numbers, the low one first",
    f"{PREDICT}/a --range a 3": "argument --range: a is given: expected two finite numbers, the low one first",
    f"{PREDICT}/a stray": "unrecognized arguments: stray (n2n predict --help lists the options)",
    f"{PREDICT}/a --range 5 1": "the range is 5 to 1: expected two finite numbers, the low one first",
    f"{PREDICT}/a --tile 100": "tile is 100: expected a multiple of 16, at least 16",
    f"{PREDICT}/a --device gpu": "the device gpu cannot be used",
    "predict": "the following arguments are required: --ckpt_path, --input, --output (n2n predict --help lists the options)",
    f"{OWN_IMAGES}.Folders {SMALL} --data.source.roots [{{}}/a,{{}}/same]": "nothing is left to train on: "
    "identical captures.*same/0.png is a/0.png",
    f"{OWN_IMAGES}.Folders {SMALL} --data.source.roots [{{}}/a,{{}}/a]": "expected two different folders of matching files",
    f"{OWN_IMAGES}.Folders {SMALL} --data.source.roots [{{}}/a,{{}}/others]": "no file name is in two of "
    "the folders .*: expected matching names, such as a/x.png and b/x.png",
    f"{OWN_IMAGES}.Folders {SMALL} --data.source.roots {{}}/a": "--data.source.roots is {}/a: expected a list such as [A, B] "
    "(n2n fit --data.source.help n2n.data.Folders describes its arguments)",
    "fit --config data/captures --root a --root b": "--data.source.root is ['a', 'b']: expected one value alone (n2n fit --d",
    "fit --data.source.pairs x": "--data.source.pairs is x: expected a whole number",
    "fit --data.source Captures --root a --data.source.value_range [1,2,3]": "--data.source.value_range is [1, 2, 3]: expected "
    "a list of 2 values or null",
    "fit --data.source.axes YX --data.source Captures": "--data.source.axes stands before --data.source Captures, the class",
    "fit --data.val_source.root x": "--data.val_source.root is given, but no class that has it: choose one with --data.val_",
    "fit --data.target nosy": "--data.target is nosy: expected noisy or clean (n2n fit --help-all lists the options)",
    "fit --data [1]": "--data is [1]: expected a file, or names and values such as {A: B}",
    "fit --data.augmentations Flip": "--data.augmentations is Flip: expected a list such as [A, B] or null",
    "fit --model.optimizer Adam --model.optimizer.lr x": "--model.optimizer.lr is x: expected a number (n2n fit --model.optim",
    "fit --speed.compile fast": "--speed.compile is fast: expected true, false, default, reduce-overhead, max-autotune or null",
    "fit --seed_everything x": "--seed_everything is x: expected true, false or a whole number",
    "validate --ckpt_path cours": "cours is not there (did you mean course?): expected a checkpoint written by n2n fit, or one",
    f"{OWN_IMAGES}.Folders {SMALL}": "--data.source.roots is missing, which Folders needs: add --root FOLDER once for each",
    "fit --data.source Captures": "--data.source.root is missing, which Captures needs: add --root FOLDER",
    "fit --data.source Captures --root x --data.source.patern y": "--data.source.patern is no argument of Captures (did you "
    "mean --data.source.pattern?): expected one of root, pattern, clean, .*; n2n fit --data.source.help Captures describes",
    "fit --data.source CleanImages --root x": "--data.source.corruption is missing, which CleanImages needs: expected one of "
    "Bernoulli, Camera, Gaussian",
    "fit --data.source CleanImages --root x --data.source.corruption Gausian": "--data.source.corruption: there is no class "
    "Gausian (did you mean Gaussian?)",
    "fit --data.source CleanImages --root x --data.source.corruption Gaussian --data.source.corruption.sgma 3": "sgma is no "
    "argument of Gaussian (did you mean --data.source.corruption.sigma?): expected one of sigma",
    "fit --model.backbone unet": "--model.backbone: there is no class unet (did you mean UNet?): expected one of DnCNN, Model1",
    "fit --model.backbone.help Unett": "--model.backbone: there is no class Unett (did you mean UNet?)",
    "fit --model.optimizer Adamm": "there is no class Adamm (did you mean Adam?): expected one of Muon, or the import path of "
    "another, such as torch.optim.Adam",
    "fit --data.augmentations [FlipAndRotate]": "there is no class FlipAndRotate (did you mean FlipsAndRotations?)",
    "fit --data.augmentations [{class_path:\\ Contrast,init_args:\\ {x:\\ 1}}]": "x is no argument of the class (n2n fit "
    "--data.augmentations.help CLASS describes its arguments)",
    "fit --data.source n2n.data.Captues": "'n2n.data' has no attribute 'Captues' (did you mean Captures?)",
    "fit --config data/photo": "there is no config 'data/photo' (did you mean data/photos?)",
    "fit --config phots": "there is no config 'phots' (did you mean data/photos?)",
    "fit --checkpoint.mode max": "the checkpoint's mode is max without a monitor: give both, or neither",
    "fit --epoch 3": "unrecognized arguments: --epoch 3 (did you mean --epochs?)",
    "fit --nonsense 3": "unrecognized arguments: --nonsense 3 (n2n fit --help-all lists the options)",
    "fit --root {}/a": "the source DeadLeaves takes no images: choose one that does with --config data/photos,",
    "fit --config data/photos --root": "--root has no value: expected a folder of images",
    f"{OWN_IMAGES}.Captures {SMALL} --data.source.root {{}}/a": "no two files in {}/a are captures of one "
    "scene by the pattern '{scene}_{capture}' .*: set the source's pattern",
    f"{OWN_IMAGES}.Stack {SMALL} --data.source.root {{}}/one.tif": "there is no stack of two pages or more in {}/one.tif",
    f"{OWN_IMAGES}.SingleImages {SMALL} --data.source.root {{}}/empty": "there is no image in {}/empty",
    f"{OWN_IMAGES}.SingleImages {SMALL} --data.source.root {{}}/a --data.source.patch 64": "no training "
    "image has room for a patch of 128 px (the smallest has 80 px): set the source's patch lower",
    f"{OWN_IMAGES}.SingleImages {SMALL} --data.source.root {{}}/a --data.source.val_fraction 0": "nothing "
    "is held out for validation: set the source's val_fraction, or a data.val_source",
    f"{OWN_IMAGES}.SingleImages {SMALL} --data.source.root {{}}/a --data.source.value_range [5,1]": "the range is "
    "5 to 1: expected two finite numbers, the low one first",
    f"{FIT} --model.backbone.channels 1": "the backbone Model2 cannot take images of 3×32×32 .*: set its "
    "channels, or the source's, so that they agree",
    f"{FIT} --model.backbone n2n.backbones.Model1 --model.backbone.width 16": "Model1 is bound to images 16 "
    "pixels wide and got 32: set its width to that of the training images",
    f"{FIT} --model.backbone n2n.backbones.Nope": "\"model.backbone\": .*'n2n.backbones.Nope': module "
    "'n2n.backbones' has no attribute 'Nope'",
    f"{FIT} --model.backbone torch.nn.Identity": "the backbone Identity has no weights to train: choose another",
    f"{FIT} --data.val_source n2n.data.CourseFiles --data.val_source.root {{}}/grey": "training images have "
    "3 channels and validation images 1: set the channels of the sources alike",
    f"{FIT} --data.target clean": "target is clean, and this source of pairs has no clean images to train on",
    f"{FIT} --data.target clean --data.augmentations [n2n.data.augmentation.PixelExchange]": "PixelExchange "
    "needs noisy targets, and target is clean: leave it out",
    f"{FIT} --model.scheduler n2n.schedules.OneCycle --trainer.max_epochs -1": "the scheduler OneCycle "
    "needs an end: set --trainer.max_epochs",
    f"{FIT} --model.optimizer torch.optim.SGD --model.optimizer.momentum -1": "--model.optimizer cannot be "
    "built (Invalid momentum value: -1.0): change its arguments",
    f"{FIT} --trainer.accelerator abacus": "the Trainer refuses --trainer.accelerator abacus .*Available names are: ",
    f"{FIT} --trainer.strategy ddp_spawn --trainer.devices 2": "--trainer.strategy is ddp_spawn, which n2n cannot "
    "train with: use ddp",
    f"{FIT} --trainer.max_epochs=": "--trainer.max_epochs is empty: expected a whole number or null",
    f"{FIT} --trainer.precision 8": "--trainer.precision is 8: expected 64, 32, 16, .*, bf16 or null",
    f"{FIT} --model.scheduler ReduceLROnPlateau --model.scheduler_interval step": "--model.scheduler_interval is step, and "
    "ReduceLROnPlateau needs the loss of a validation: expected epoch",
    f"{FIT} --trainer.default_root_dir {{}}/one.tif": "the run cannot be written to "
    "{}/one.tif/lightning_logs/table1/model2 (Not a directory): choose a folder that can be written with "
    "--trainer.default_root_dir",
    f"{FIT} --data.source.root {{}}/empty": "empty/train_data.pkl is not there: expected a torch.save of a "
    "tuple of two uint8 tensors",
    "validate": "validate needs a checkpoint: add --ckpt_path",
    "validate --ckpt_path quick --data.source n2n.data.CourseFiles --data.source.root {}/grey": "the "
    "checkpoint was trained on images of 3 channels, and those of this source have 1: set the source's channels",
    "compare": "no configuration is given: name one or more",
    "compare table1/model2.yaml --epochs 2 --minutes 3": "--epochs and --minutes are two budgets: give one of them",
    "compare table1/model2.yaml table1/model2.yaml": "two configurations are called model2: the names tell the runs apart",
    "compare table1/model2.yaml --ckpt_path quick": "--ckpt_path is not for a comparison: what was interrupted",
    "search --config quick.yaml": "none of the configs has a section search: add --config search/tpe.yaml",
    "search --config search/grid.yaml --grace 1": "--grace is 1: expected at least 2 seconds",
    "search --config search/grid.yaml --trainer.devices 2": "a trial trains on one device, and "
    "trainer.devices is 2: start the same command once for each device",
    "export --ckpt_path quick --format torch --output x.onnx": "--output is x.onnx: expected a name that ends in .pt2",
    "report {}/empty": "there is no metrics.csv in {}/empty: expected the folder of a run of n2n fit",
    "report {}/run --output {}/one.tif": "one.tif/curves.csv cannot be written (File exists): name another folder",
}


@pytest.mark.parametrize("command", list(TABLE))
def test_the_line_for_a_contradiction(command: str, files: Path, say: Say) -> None:
    status, lines = say(shlex.split(command.replace("{}", str(files))))
    error = next(line for line in lines if ": error: " in line)
    expected = TABLE[command].replace("{}", str(files))
    assert re.search(".*".join(re.escape(part).replace(r"\|", "|") for part in expected.split(".*")), error), error
    assert status == 2
    lines = lines[-1:] if command == "predict" else lines  # which lists the checkpoints first
    assert len(lines) == (2 if lines[-1].startswith("Denoised 0 of 1") else 1)
    assert not any(path.is_file() for path in Path().rglob("*") if path.parts[0] != "cache")


def test_a_batch_larger_than_the_data_set_is_said(files: Path, say: Say, caplog: pytest.LogCaptureFixture) -> None:
    assert say([*shlex.split(FIT.replace("{}", str(files))), "--data.batch_size", "1000"])[0] == 0
    assert "data.batch_size is 1000 and there are 60 training pairs: each step takes all of them" in caplog.text


def test_a_figure_that_there_is_not(files: Path, say: Say) -> None:
    status, lines = say([*shlex.split(FIT.replace("{}", str(files))), "--checkpoint.monitor", "psnr"])
    assert status == 2
    assert "--checkpoint.monitor is 'psnr': expected one of val/loss, val/psnr, val/psnr_per_image, " in lines[-1]
    assert "train/loss" in lines[-1]


def test_where_an_error_came_from_is_shown_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(InputError, match="there is no command"):
        main(["fitt"])
