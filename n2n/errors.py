"""What ends a command early: what the user can mend, and what the user asked for."""

import signal
from pathlib import Path


def one_line(text: str) -> str:
    """Write line ends and whatever else is not to be printed, in the name of a file for instance, as escapes."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def reason(error: BaseException) -> str:
    """Say in at most 200 letters of one line what an error of a library says, which may be a page, or nothing."""
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
