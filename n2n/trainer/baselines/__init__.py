"""What a user would have done without a network, measured beside it on held-out images."""

from n2n.trainer.baselines.best import compare_best

__all__ = ["compare_best"]
