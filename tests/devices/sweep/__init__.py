"""What n2n must do on every device. Run by ``tests/devices/test_pretend.py``, or on a real device:

    N2N_DEVICE=cuda python -m pytest -p no:xdist -o addopts="" tests/devices/sweep

On the pretended device it tries each value once, and with ``N2N_TEST_ALL=1`` all combinations.

The tests find the backbones, sources, augmentations, corruptions, losses, optimisers and schedules themselves. A new class is
tested without being named here, unless its constructor needs arguments.
"""
