"""The parser of ``n2n fit`` and ``n2n validate``: jsonargparse with n2n's manners."""

from __future__ import annotations

from typing import Any, NoReturn

from jsonargparse import Namespace, _typehints
from lightning.pytorch.cli import LightningArgumentParser

from n2n.errors import InputError
from n2n.system.messages import shorten

# Letters of a message that is put into n2n's words yet.
_LONGEST = 6000


def _forget_other_class(_: Any, before: Any, now: Any) -> None:
    """Drop the arguments of a class that another one takes the place of.

    jsonargparse keeps those whose names the new class has, too, and with them the old class's defaults: Model2 in the place of
    ModelFinal would get its slope of -0.1, and AdamW in the place of Adam its weight decay of 0. There is no setting for it.
    """
    if before and "init_args" in before and before["class_path"] != now["class_path"]:
        before["init_args"] = Namespace()  # type: ignore[no-untyped-call]


_typehints.discard_init_args_on_class_path_change = _forget_other_class


class OneLineParser(LightningArgumentParser):
    """A parser whose errors are one line, without the pages of usage, and that completes no misspelt option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise InputError."""
        # It repeats the value that is wrong, however long, before it says what was expected.
        raise InputError(shorten(" ".join(message.split()), _LONGEST)) from None
