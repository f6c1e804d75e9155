"""How pairs are kept and cut into batches."""
