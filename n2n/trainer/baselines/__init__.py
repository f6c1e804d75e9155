"""Classical filters, compared with a network on held-out images."""
