"""``n2n search``: Optuna over any key of the configuration of ``n2n fit``."""

from n2n.commands.search.command import main

__all__ = ["main"]
