"""``n2n fit`` against CAREamics' training: the same U-Net, pairs and batches. CAREamics is optional."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from tests.benchmarks.clock import Stopwatch
from tests.benchmarks.loops import write_pairs
from tests.benchmarks.setting import Setting, quietly, table, take_turns
from tests.benchmarks.training import OURS, random_pairs, rate_rows, timed, timed_fit

PATCH = 32


def _config(setting: Setting) -> Any:
    """CAREamics' own Noise2Noise configuration, without augmentations, which final.yaml has not either."""
    factory = import_module("careamics.config.factories.care_n2n_factory")
    return factory.create_advanced_n2n_config(
        experiment_name="benchmark",
        data_type="array",
        axes="SCYX",
        target_axes="SCYX",
        patch_size=[PATCH, PATCH],
        batch_size=setting.batch_size,
        num_epochs=setting.epochs,
        n_channels_in=3,
        n_channels_out=3,
        augmentations=[],
        trainer_params={"accelerator": setting.accelerator, "devices": 1},
        seed=1,
    )


def _backbone(config: Any) -> str:
    """Return CAREamics' network, as it configures it, for ``--model.backbone``."""
    network = import_module("careamics.models.unet").UNet
    known = inspect.signature(network).parameters
    wanted = config.algorithm_config.model.model_dump(mode="json")
    init_args = {name: value for name, value in wanted.items() if name in known}
    return json.dumps({"class_path": f"{network.__module__}.{network.__qualname__}", "init_args": init_args})


def run(setting: Setting) -> Iterator[str]:
    """Give one table, or one line where CAREamics cannot be imported."""
    try:
        careamics = import_module("careamics")
    except ImportError as error:
        yield f"CAREamics is left out: {error}."
        return
    first, second = random_pairs(setting)
    write_pairs(setting.folder / "pairs", first, second, first[:250], second[:250])

    def train() -> None:
        with quietly():
            trainer = careamics.CAREamist(_config(setting), work_dir=setting.folder, callbacks=[Stopwatch()])
            trainer.train(train_data=first.numpy(), train_data_target=second.numpy())

    with quietly():
        backbone = _backbone(_config(setting))
    theirs = f"CAREamics {careamics.__version__}, fp32"
    contestants = {
        OURS: timed_fit(setting, backbone),
        "n2n fit, fp32": timed_fit(setting, backbone, "--trainer.precision", "32-true"),
        theirs: timed(setting, lambda _: train()),
    }
    results = take_turns(contestants, setting.rounds)
    yield (
        f"The U-Net that CAREamics configures for Noise2Noise, no augmentations: {setting.pairs:,} pairs of {PATCH} px in "
        f"batches of {setting.batch_size}."
    )
    yield table(["training", "pairs/s", "n2n fit : it", "range"], rate_rows(results, OURS))
