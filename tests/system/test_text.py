from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from n2n.system.text import command_line


def test_commands_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["n2n", "predict", "--ckpt_path", "my runs\\best.ckpt"]
    assert shlex.split(command_line(command)) == command
    monkeypatch.setattr(os, "name", "nt")
    # cmd.exe knows double quotes alone, and needs none for a backslash.
    assert command_line(command) == r'n2n predict --ckpt_path "my runs\best.ckpt"'
    assert command_line(["a\\b"]) == r"a\b"


def test_a_pipe_that_cannot_take_a_letter_does_not_end_a_command() -> None:
    """Windows gives pipes an old encoding."""
    command = [sys.executable, "-m", "n2n", "predict", "--help"]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"--ckpt_path" in done.stdout
