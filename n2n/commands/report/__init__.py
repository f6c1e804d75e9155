"""``n2n report``: draw the curves and pictures of runs."""
