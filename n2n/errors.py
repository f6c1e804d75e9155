"""Exceptions that end a command early: wrong input, and an interruption by the user."""

import signal
from pathlib import Path


def one_line(text: str) -> str:
    """Escape line breaks and other characters that cannot be printed, for example in the name of a file."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def reason(error: BaseException) -> str:
    """Return the message of a library's error in one line of at most 200 characters; its type if it has no message."""
    return one_line(" ".join(str(error).split()))[:200] or type(error).__name__


class InputError(ValueError):
    """Something given by the user cannot be used.

    The message is one line: what was given, what was expected, what to do. The command line prints it without a
    traceback and exits with 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class Interrupted(KeyboardInterrupt):
    """A training was interrupted.

    Attributes:
        signum: the signal.
        where: for the user: how far the training was.
        saved: the checkpoint to go on from; None if there is none.
    """

    def __init__(self, signum: int = signal.SIGINT, where: str = "", saved: Path | None = None) -> None:
        super().__init__(where)
        self.signum, self.where, self.saved = signum, where, saved
