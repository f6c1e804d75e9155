"""The one exception that means: the user can mend this, and the message says how."""


class InputError(ValueError):
    """Something given by the user cannot be used.

    The message is one line: what was given, what was expected, what to do. The command line prints it without a
    traceback and exits with 2.
    """
