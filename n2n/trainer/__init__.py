"""What LightningCLI runs: fit, validate and predict."""
