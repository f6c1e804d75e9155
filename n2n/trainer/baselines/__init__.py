"""Classical filters, compared with a network on held-out images."""

from n2n.trainer.baselines.best import compare_best

__all__ = ["compare_best"]
