from __future__ import annotations

import pytest

from n2n.cli import main


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("predict --ckpt_path a --inptu b --output c", "unrecognized arguments: --inptu (did you mean --input?)"),
        ("predict --ckpt_path=a --input=b --outptu=c", "unrecognized arguments: --outptu (did you mean --output?)"),
        ("predict --ckpt a --input b --output c", "unrecognized arguments: --ckpt"),
        ("predict --input a --output b", "are required: --ckpt_path (n2n predict --help lists the options)"),
        ("export --ckpt_path a --formt onnx", "unrecognized arguments: --formt (did you mean --format?)"),
        (
            "predict --ckpt_path a --input b --output c --tile x",
            "error: --tile is x: expected a whole number (n2n predict",
        ),
        ("export --ckpt_path a --format jpeg", "invalid choice: 'jpeg'"),
    ],
)
def test_misspelt_options_are_named(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"n2n {command.split()[0]}: error:")
    assert message in line
