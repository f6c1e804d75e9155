"""The parser of ``n2n fit`` and ``n2n validate``: jsonargparse with one-line errors.

The one private function of a library that n2n replaces is replaced here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from jsonargparse import Namespace, _typehints
from lightning.pytorch.cli import LightningArgumentParser

from n2n.errors import InputError
from n2n.system.options import shorten


def _forget_other_class(_: Any, before: Any, now: Any) -> None:
    if before and "init_args" in before and before["class_path"] != now["class_path"]:
        before["init_args"] = Namespace()  # type: ignore[no-untyped-call]


@contextmanager
def _resetting_arguments() -> Iterator[None]:
    """Let the choice of another class reset the class's arguments to their defaults.

    jsonargparse keeps the arguments that the new class has too, and with them the defaults of the old class: Model2 in place of
    ModelFinal would get a slope of -0.1, and AdamW in place of Adam a weight decay of 0. There is no setting for it, and an
    argument that was given cannot be told from a default. Tried with jsonargparse 4.49 and 4.53.
    """
    before = _typehints.discard_init_args_on_class_path_change
    _typehints.discard_init_args_on_class_path_change = _forget_other_class
    try:
        yield
    finally:
        _typehints.discard_init_args_on_class_path_change = before


class OneLineParser(LightningArgumentParser):
    """A parser whose errors are one line, without the pages of usage, and that completes no abbreviated option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse arguments.

        Raises:
            InputError: if an argument is wrong.
        """
        with _resetting_arguments():
            return super().parse_args(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise InputError."""
        raise InputError(shorten(message)) from None


def refusal(parser: LightningArgumentParser, config: Namespace, error: Exception) -> InputError:
    """Return the error to raise if the Trainer refuses an option; it names those that are not at their defaults.

    Args:
        parser: of the command.
        config: of the Trainer.
        error: what the Trainer raised.
    """
    default = parser.get_defaults().trainer
    changed = {name: value for name, value in config.items() if value != default[name]}
    plain = (f"--trainer.{name} {value}" for name, value in changed.items() if isinstance(value, str | int | float))
    return InputError(f"the Trainer refuses {' '.join(plain)}: {shorten(str(error))}")
