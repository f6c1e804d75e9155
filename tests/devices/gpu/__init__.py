"""Check and measure n2n on a GPU: ``python -m tests.devices.gpu`` writes one Markdown table, in under nine minutes."""
