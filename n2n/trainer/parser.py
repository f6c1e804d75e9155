"""The parser of ``n2n fit`` and ``n2n validate``: jsonargparse with one-line errors.

Two private functions of jsonargparse are replaced here, while n2n's parser parses.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from jsonargparse import Namespace, _typehints
from lightning.pytorch.cli import LightningArgumentParser

from n2n.errors import InputError
from n2n.system.options import shorten
from n2n.trainer.classes import PARTS, own_classes
from n2n.trainer.wrong_values import in_words

# The section of the Trainer's options, and the list of classes in an option's text.
_TRAINER = "Customize every aspect"
_KNOWN = re.compile(r",\s+known\s+subclasses:([^)]*)\)")


def _own_classes(found: re.Match[str]) -> str:
    """Return the end of an option's text, with n2n's classes for it in place of all that are known."""
    option = found.string[: found.start()].rpartition("\n  --")[2].split()[0]
    if (part := option.rpartition(".")[2]) not in PARTS:
        return ")"
    # As argparse indents the text of an option.
    indent = " " * 24
    names = ", ".join(own_classes(part))
    return ",\n" + textwrap.fill(f"n2n's: {names})", 78, initial_indent=indent, subsequent_indent=indent)


def _forget_other_class(_: Any, before: Any, now: Any) -> None:
    if before and "init_args" in before and before["class_path"] != now["class_path"]:
        before["init_args"] = Namespace()  # type: ignore[no-untyped-call]


def _own_class_first(resolve: Callable[[Any, str], str]) -> Callable[[Any, str], str]:
    """Return a function that finds a class by its name.

    If several classes have it, it is n2n's, such as Muon, or else torch's, such as ReduceLROnPlateau.
    """

    def resolve_own_first(base: Any, name: str) -> str:
        try:
            return resolve(base, name)
        except ValueError as error:
            choices = str(error).partition("avoid ambiguity: ")[2]
            for package in ("n2n", "torch"):
                own = re.findall(rf"(?<![\w.]){package}(?:\.\w+)+", choices)
                if len(own) == 1:
                    return str(own[0])
            raise

    return resolve_own_first


@contextmanager
def _changed() -> Iterator[None]:
    """Let the choice of another class reset its arguments to their defaults, and a name mean n2n's class.

    jsonargparse keeps the arguments that the new class has too, and with them the defaults of the old class: Model2 in place of
    ModelFinal would get a slope of -0.1, and AdamW in place of Adam a weight decay of 0. There is no setting for it, and an
    argument that was given cannot be told from a default. Where a name is that of several classes, it refuses to choose. Tried
    with jsonargparse 4.49 and 4.53.
    """
    before = _typehints.discard_init_args_on_class_path_change, _typehints.resolve_class_path_by_name
    _typehints.discard_init_args_on_class_path_change = _forget_other_class
    _typehints.resolve_class_path_by_name = _own_class_first(before[1])  # type: ignore[assignment]  # other argument names
    try:
        yield
    finally:
        _typehints.discard_init_args_on_class_path_change, _typehints.resolve_class_path_by_name = before


class OneLineParser(LightningArgumentParser):
    """A parser whose errors are one line, without the pages of usage, and that completes no abbreviated option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def parse_args(self, *args: Any, **kwargs: Any) -> Any:
        """Parse arguments.

        Raises:
            InputError: if an argument is wrong.
        """
        with _changed():
            return super().parse_args(*args, **kwargs)

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """Return the help, n2n's own options first. Of known classes it names n2n's, not every layer of torch.nn."""
        sections = _KNOWN.sub(_own_classes, super().format_help(*args, **kwargs)).rstrip().split("\n\n")
        return "\n\n".join(sorted(sections, key=lambda section: section.startswith(_TRAINER))) + "\n"

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise InputError."""
        raise InputError(shorten(in_words(message))) from None


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
