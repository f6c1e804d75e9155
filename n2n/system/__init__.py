"""Files, hardware, threads and command-line options."""
