"""What n2n asks of the machine that it runs on: files, hardware, threads, and the command line."""
