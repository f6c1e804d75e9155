"""What to do about an argument that the parser refuses: it was misspelt, is missing, or belongs to another class."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from n2n.trainer.classes import PARTS, all_classes, chosen_class, find_named_class, own_classes, plain_key
from n2n.trainer.wrong_values import keys

_WRONG_VALUE = re.compile(r"--([\w.]+) is ")
_HELP = re.compile(r"--([\w.]+)\.help: ")
_REFUSED = re.compile(r"Option '([\w.]+)' is not accepted")
_MISSING = re.compile(r"the following arguments are required: (\w+)")
_NO_CLASS = re.compile(r"Expected a dot import path string: (\w+)")
_NOT_IN_MODULE = re.compile(r"module '(n2n[\w.]*)' has no attribute '(\w+)'")
# Classes that are not n2n's.
_OTHERS = {"loss": "torch.nn.L1Loss", "optimizer": "torch.optim.Adam", "scheduler": "torch.optim.lr_scheduler.StepLR"}


def advise(message: str, args: Sequence[str], command: str) -> str | None:
    """Return a better message about a class or an argument of it; None for what else is wrong.

    Args:
        message: of jsonargparse, or of :func:`n2n.trainer.wrong_values.in_words`, in one line.
        args: the command line.
        command: after ``n2n``; it describes the arguments.
    """
    names, rest = keys(message)
    if found := _HELP.match(rest) or _WRONG_VALUE.match(rest):
        names, rest = [found[1]], rest[found.end() :]
    key = plain_key(".".join(names))
    part = key.rpartition(".")[2]
    if part not in PARTS:
        # An argument of a class may have a wrong value.
        key, _, argument = key.rpartition(".")
        part = key.rpartition(".")[2]
        return f"{message} ({_describe(key, args, command)})" if part in PARTS and argument else None
    if found := _NO_CLASS.search(rest):
        return _no_class(key, part, found[1], command)
    if found := _NOT_IN_MODULE.search(rest):
        close = difflib.get_close_matches(found[2], all_classes(part), n=1)
        return f"{message} (did you mean {close[0]}?)" if close else None
    if found := _REFUSED.search(rest):
        return _no_argument(key, part, found[1], args, command)
    if found := _MISSING.search(rest):
        return _missing(key, found[1], args, command)
    return None


def _describe(key: str, args: Sequence[str], command: str) -> str:
    """Say how the arguments of the class that is chosen for an option are listed."""
    chosen = chosen_class(args, key)
    return f"n2n {command} --{key}.help {chosen or 'CLASS'} describes its arguments"


def _no_class(key: str, part: str, name: str, command: str) -> str:
    own = own_classes(part)
    close = difflib.get_close_matches(name, own, n=1) or difflib.get_close_matches(name, all_classes(part), n=1)
    # Names that differ in their capitals only.
    close = [one for one in all_classes(part) if one.lower() == name.lower()] or close
    hint = f" (did you mean {close[0]}?)" if close else ""
    return (
        f"--{key}: there is no class {name}{hint}: expected one of {', '.join(own)}, or the import path of another, such as "
        f"{_OTHERS.get(part, 'package.module.Class')}; n2n {command} --{key}.help CLASS describes one"
    )


def _no_argument(key: str, part: str, name: str, args: Sequence[str], command: str) -> str:
    chosen = chosen_class(args, key)
    found = find_named_class(part, chosen) if chosen is not None else None
    if found is None:
        return f"--{key}: {name} is no argument of the class ({_describe(key, args, command)})"
    known = arguments(found)
    if name in known:
        return f"--{key}.{name} stands before --{key} {chosen}, the class that has it: give the class first"
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean --{key}.{close[0]}?)" if close else ""
    expected = f"expected one of {', '.join(known)}" if known else "it has none"
    return f"--{key}.{name} is no argument of {found.__name__}{hint}: {expected}; {_describe(key, args, command)}"


def _missing(key: str, name: str, args: Sequence[str], command: str) -> str:
    chosen = (chosen_class(args, key) or "the class").rpartition(".")[2]
    what = {"root": "add --root FOLDER", "roots": "add --root FOLDER once for each of the folders"}
    advice = what.get(name) if key == "data.source" else None
    if name in PARTS:
        advice = f"expected one of {', '.join(own_classes(name))}"
    return f"--{key}.{name} is missing, which {chosen} needs: {advice or _describe(key, args, command)}"


def arguments(cls: type) -> list[str]:
    """Return the names of the arguments of a class, those of its base classes too."""
    return list(ArgumentParser().add_class_arguments(cls, sub_configs=False))
