"""``python -m tests.devices.gpu``: check and measure n2n on a GPU, each check in a process of its own with a time-out.

Writes one table in Markdown, after each check anew, and prints it at the end. The checks that can fail run several at once;
those that measure time run alone. ``--device pretend-cuda`` and ``--device cpu`` try whatever can run without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock

from tests.devices.gpu import correctness, speed
from tests.devices.gpu.setting import FAILED, MEASURED, OK, SKIPPED, Row, Setting, table
from tests.devices.target import NAMES, find

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        title: for the table.
        run: gives its rows.
        seconds: after which it is stopped; the rows that it gave until then count.
        alone: whether nothing else may run meanwhile, since it measures time.
    """

    title: str
    run: Callable[[Setting], Iterator[Row]]
    seconds: float
    alone: bool = False


# In the order of the table.
CHECKS = {
    "start": Check("1. The README's first commands", correctness.start, 90, alone=True),
    "data": Check(
        "2. Sources and dtypes, resident and not",
        correctness.sweep(
            ["parts"], "source or dtype or augmentation or corruption or photographs", "dtype and uint16"
        ),
        150,
    ),
    "backbones": Check(
        "3. Backbones in each precision against the CPU",
        correctness.sweep(["parts"], "backbone or loss", "backbone and Model2v1"),
        150,
    ),
    "trainer": Check(
        "4. Accumulation, clipping, averaging against the CPU",
        correctness.sweep(["training"], "trainer or figures", "EMA and 32"),
        120,
    ),
    "resume": Check(
        "5. SIGTERM and --ckpt_path last; optimisers",
        correctness.sweep(["commands", "parts"], "resumed or optimizer or schedule", "optimizer and SGD"),
        200,
    ),
    "predict": Check(
        "6. Prediction against the CPU",
        correctness.sweep(["denoiser", "commands"], "denoiser or quick or captures or grey", "array and uint16"),
        150,
    ),
    "large": Check("6. Prediction of a large image, and with little memory", correctness.large_image, 90),
    "compile": Check("7. torch.compile", speed.compiled, 120, alone=True),
    "processes": Check("8. Several processes", correctness.processes, 120),
    "memory": Check("9. Memory", correctness.memory, 60),
    "profile": Check("10. Profile", speed.profile, 60, alone=True),
    "pairs": Check("11. Whole trainings: pairs", speed.prepare, 150),
    "whole": Check("11. Whole trainings", speed.whole, 180, alone=True),
}
# First of all whether anything runs; then what fails, several at once; then the figures, the most wanted first.
ORDER = ("start", *(name for name, check in CHECKS.items() if not check.alone), "whole", "profile", "compile")


def _environment(setting: Setting) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "N2N_CACHE": str(setting.folder / "cache"), "PYTHONUNBUFFERED": "1"}


def _run(name: str, setting: Setting, seconds: float) -> list[Row]:
    """Run a check in a process of its own; rows that it gave before it failed or was stopped count."""
    folder = setting.folder / name
    folder.mkdir()
    own = Setting(setting.device, setting.quick, setting.data, folder)
    own.write(folder / "setting.json")
    command = [sys.executable, "-m", "tests.devices.gpu", "--child", name, str(folder)]
    begun = time.monotonic()
    with (folder / "log.txt").open("w") as log:
        # A session of its own, so that the processes that it starts are stopped with it.
        process = subprocess.Popen(
            command, cwd=folder, env=_environment(setting), stdout=log, stderr=log, start_new_session=True
        )
        try:
            status = process.wait(seconds)
            trouble = f"ended with status {status}" if status else ""
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            trouble = "stopped"
    file = folder / "rows.jsonl"
    rows = [Row(**json.loads(line)) for line in file.read_text().splitlines()] if file.is_file() else []
    if trouble:
        lines = [line for line in (folder / "log.txt").read_text(errors="replace").splitlines() if line.strip()]
        last = f"; its last line: {lines[-1][:150]}" if lines else ""
        rows.append(Row("the check", FAILED, f"{trouble} after {time.monotonic() - begun:.0f} s{last}"))
    print(f"{CHECKS[name].title}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return rows


def _child(name: str, folder: Path) -> None:
    """Run a check in this process, and write each row as soon as it is known."""
    setting = Setting.read(folder / "setting.json")
    with (folder / "rows.jsonl").open("w") as file:
        for row in CHECKS[name].run(setting):
            file.write(json.dumps(asdict(row)) + "\n")
            file.flush()


def machine(setting: Setting) -> list[str]:
    """Return lines on the machine, the versions and the commit."""
    import platform

    import lightning as L
    import torch

    from n2n import __version__
    from n2n.system.hardware import device_name
    from tests.benchmarks.setting import _commit

    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    devices = [device_name(torch.device("cpu"))]
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(number)
            devices.append(
                f"{about.name}, {about.total_memory / 1e9:.0f} GB, compute capability {about.major}.{about.minor}"
            )
    return [
        f"Device: {setting.device}. {'; '.join(devices)}.",
        f"Python {platform.python_version()}, torch {torch.__version__}, CUDA {torch.version.cuda}, "
        f"cuDNN {cudnn}, lightning {L.__version__}, n2n {__version__}, commit {_commit()}.",
        f"Pairs: {'the course files of ' + str(setting.data) if setting.data else 'generated'}"
        f"{', as small as it goes' if setting.quick else ''}.",
    ]


def document(head: Sequence[str], results: dict[str, list[Row]], seconds: float) -> str:
    """Return the table in Markdown."""
    rows = [[CHECKS[name].title, row.what, row.result, row.value] for name in CHECKS for row in results.get(name, [])]
    counts = {kind: sum(row[2] == kind for row in rows) for kind in (OK, FAILED, MEASURED, SKIPPED)}
    summary = f"{', '.join(f'{count} {kind}' for kind, count in counts.items())}; {seconds:.0f} s in all."
    return "\n".join(
        ["# n2n on a device", "", *head, summary, "", *table(["check", "what", "result", "value"], rows), ""]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.devices.gpu", description="Check and measure n2n on a GPU.")
    parser.add_argument("--device", choices=NAMES, default="cuda", help="default: cuda")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the course's two files; else pairs are generated")
    parser.add_argument("--output", type=Path, default=Path("gpu.md"), metavar="FILE", help="default: gpu.md")
    parser.add_argument("--only", nargs="+", choices=list(CHECKS), help="checks to run; by default all")
    parser.add_argument(
        "--seconds", type=int, default=520, help="for all checks; what is left out is named (default: 520)"
    )
    parser.add_argument("--quick", action="store_true", help="as small as it goes, to see whether all of it runs")
    parser.add_argument(
        "--at_once", type=int, metavar="N", help="checks at once of those that measure no time; by default 4 on a GPU"
    )
    return parser


def main(args: Sequence[str] | None = None) -> int:
    """Run the checks; returns 1 if one failed."""
    args = list(sys.argv[1:] if args is None else args)
    if args[:1] == ["--child"]:
        _child(args[1], Path(args[2]))
        return 0
    parser = _parser()
    options = parser.parse_args(args)
    if not options.device.startswith("pretend"):
        try:
            find(options.device)
        except ValueError as error:
            parser.error(str(error))
    wanted = [name for name in ORDER if options.only is None or name in options.only]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(options.device, options.quick, options.data and options.data.resolve(), Path(folder))
        head, results, lock = machine(setting), {}, Lock()

        def run(name: str) -> None:
            left = options.seconds - (time.monotonic() - begun)
            if left < 5:
                rows = [Row("not run", SKIPPED, "no time was left")]
            else:
                rows = _run(name, setting, min(CHECKS[name].seconds, left))
            with lock:
                results[name] = rows
                options.output.write_text(document(head, results, time.monotonic() - begun))

        at_once = options.at_once or (4 if options.device == "cuda" else 1)
        together = [name for name in wanted if not CHECKS[name].alone]
        if "start" in wanted:
            run("start")
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(run, together))
        for name in wanted:
            if CHECKS[name].alone and name != "start":
                run(name)
    print(options.output.read_text())
    return int(any(row.result == FAILED for rows in results.values() for row in rows))


if __name__ == "__main__":
    sys.exit(main())
