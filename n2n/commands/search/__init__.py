"""``n2n search``: Optuna over any key of the configuration of ``n2n fit``."""
