"""Reading checkpoints, which may be hostile."""
