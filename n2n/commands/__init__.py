"""The commands beside fit, validate and predict."""
