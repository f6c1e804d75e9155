"""The configuration that a command line means, without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml
from lightning.pytorch.cli import ArgsType, LightningArgumentParser

from n2n.trainer.cli import TrainingCLI


class ParsingOnly(TrainingCLI):
    """Parses the arguments of ``n2n fit``, and neither builds nor seeds nor trains anything.

    Args:
        args: the command and its arguments.
        further_options: options of the command that asks, which a misspelt option may have meant.
        asked_by: that command, for messages.
    """

    def __init__(self, args: list[str], further_options: Sequence[str] = (), asked_by: str | None = None) -> None:
        self.further_options, self.asked_by = further_options, asked_by
        super().__init__(args)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the command line."""
        super().parse_arguments(parser, args)
        # LightningCLI seeds after this, unless it finds False.
        self._seed, self.config.seed_everything = self.config.seed_everything, False

    def before_instantiate_classes(self) -> None:
        """Leave to the run what depends on its machine."""
        self.config.seed_everything = self._seed

    def instantiate_classes(self) -> None:
        """Build nothing."""

    @property
    def resolved(self) -> dict[str, Any]:
        """The configuration as plain values."""
        content: dict[str, Any] = yaml.safe_load(self.parser.dump(self.config, skip_unset=False))
        return content
