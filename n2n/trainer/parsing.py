"""The configuration that a command line means, without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from n2n.trainer.cli import TrainingCLI


class ParsingOnly(TrainingCLI):
    """Parses a command line for its configuration, and neither builds nor trains anything.

    Args:
        args: the subcommand and its arguments.
        further_options: those of the command that asks.
    """

    def __init__(self, args: list[str], further_options: Sequence[str] = ()) -> None:
        self.further_options = further_options
        super().__init__(args)

    def _set_seed(self) -> None:
        pass

    def instantiate_classes(self) -> None:
        """Build nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        pass

    @property
    def resolved(self) -> dict[str, Any]:
        """The configuration as a run would save it."""
        parser = self._parser(self.subcommand)
        content: dict[str, Any] = yaml.safe_load(parser.dump(self.config[self._command], skip_unset=False))
        return content
