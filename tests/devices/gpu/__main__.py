"""``python -m tests.devices.gpu``: check and measure n2n on a GPU, each check in a process of its own with a time-out.

Writes one table in Markdown, after each check anew, and prints it at the end; beside it, in ``gpu.log``, is what they said.
The checks that can fail run several at once; those that measure time run alone. ``--device pretend-cuda`` and ``--device cpu``
try whatever can run without a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from tests.devices.gpu import correctness, speed
from tests.devices.gpu.setting import FAILED, MEASURED, OK, SKIPPED, Row, Setting, table
from tests.devices.target import NAMES, find

ROOT = Path(__file__).parents[3]
# What a check said, in its folder.
LOG = "log.txt"


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
    "start": Check("1. The README's first commands", correctness.start, 120, alone=True),
    "data": Check(
        "2. Sources and dtypes, resident and not",
        correctness.sweep(
            ["parts", "waits"],
            "waits or source or dtype or augmentation or corruption or photographs",
            "dtype and uint16",
        ),
        200,
    ),
    "backbones": Check(
        "3. Backbones in each precision against the CPU",
        correctness.sweep(["parts"], "backbone or loss", "backbone and Model2v1"),
        200,
    ),
    "trainer": Check(
        "4. Configurations; accumulation, clipping, averaging against the CPU; deterministic mode",
        correctness.sweep(
            ["training", "commands", "deterministic"], "trainer or figures or config or deterministic", "EMA and 32"
        ),
        200,
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
    "compile": Check("7. torch.compile", speed.compiled, 240, alone=True),
    "processes": Check("8. Several processes", correctness.processes, 120),
    "memory": Check("9. Memory", correctness.memory, 90),
    "profile": Check("10. Profile", speed.profile, 90, alone=True),
    "pairs": Check("11. Whole trainings: pairs", speed.prepare, 150),
    "whole": Check("11. Whole trainings", speed.whole, 180, alone=True),
}
# First of all whether anything runs; then what fails, several at once; then the figures, the most wanted first.
ORDER = ("start", *(name for name, check in CHECKS.items() if not check.alone), "whole", "profile", "compile")


def _environment(setting: Setting, threads: int | None) -> dict[str, str]:
    # Packages that are not where Python finds them by itself are still needed.
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    limit = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    more = {"PYTHONPATH": path, "N2N_CACHE": str(setting.folder / "cache"), "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **more, **limit}


def _run(name: str, setting: Setting, seconds: float, threads: int | None = None) -> list[Row]:
    """Run a check in a process of its own; rows that it gave before it failed or was stopped count.

    Args:
        name: of the check.
        setting: of all checks.
        seconds: after which it is stopped.
        threads: of the CPU that it may use; None for all.
    """
    own = Setting(setting.device, setting.quick, setting.data, setting.folder / name)
    own.folder.mkdir()
    own.write(own.folder / "setting.json")
    command = [sys.executable, "-m", "tests.devices.gpu", "--child", name, str(own.folder)]
    begun = time.monotonic()
    with (own.folder / LOG).open("w") as log:
        # A group of its own, so that the processes that it starts are stopped with it. Not a session: whoever stops this
        # process must be able to stop all of them.
        process = subprocess.Popen(
            command, cwd=own.folder, env=_environment(setting, threads), stdout=log, stderr=log, process_group=0
        )
        try:
            status = process.wait(seconds)
            trouble = f"ended with status {status}" if status else ""
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            trouble = "stopped"
            # A process that waits in the GPU's driver cannot be killed; the other checks go on.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
    rows = own.rows()
    if trouble:
        lines = [line for line in (own.folder / LOG).read_text(errors="replace").splitlines() if line.strip()]
        last = f"; its last line: {lines[-1][:150]}" if lines else ""
        rows.append(Row("the check", FAILED, f"{trouble} after {time.monotonic() - begun:.0f} s{last}"))
    return rows


def _child(name: str, folder: Path) -> None:
    """Run a check in this process, and write each row as soon as it is known."""
    setting = Setting.read(folder / "setting.json")
    for row in CHECKS[name].run(setting):
        setting.add(row)


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
    at_once = options.at_once or (4 if options.device == "cuda" else 1)
    logs = options.output.with_suffix(".log")
    logs.write_text("")
    # What a check that cannot be killed still writes is no reason to lose the table.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        setting = Setting(options.device, options.quick, options.data and options.data.resolve(), Path(folder))
        head, results, lock = machine(setting), {}, Lock()

        def run(name: str, threads: int | None = None) -> None:
            started = time.monotonic()
            left = options.seconds - (started - begun)
            if left < 5:
                rows = [Row("not run", SKIPPED, "no time was left")]
            else:
                try:
                    rows = _run(name, setting, min(CHECKS[name].seconds, left), threads)
                except Exception as error:  # whatever it is, the other checks run
                    rows = [Row("the check", FAILED, f"{type(error).__name__}: {error}")]
            with lock:
                results[name] = rows
                options.output.write_text(document(head, results, time.monotonic() - begun))
                _say(name, rows, time.monotonic() - started)
                said = Path(folder) / name / LOG
                with logs.open("a") as file:
                    file.write(f"\n=== {name}\n{said.read_text(errors='replace') if said.is_file() else ''}")

        # Threads that wait for each other on too few cores take many times as long.
        few = max(1, (os.cpu_count() or 1) // at_once)
        if "start" in wanted:
            run("start")
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda name: run(name, few), [name for name in wanted if not CHECKS[name].alone]))
        for name in wanted:
            if CHECKS[name].alone and name != "start":
                run(name)
    print(options.output.read_text(), flush=True)
    return int(any(row.result == FAILED for rows in results.values() for row in rows))


def _say(name: str, rows: Sequence[Row], seconds: float) -> None:
    """Say at once how a check ended: whoever stops this process has seen it."""
    lines = [f"{CHECKS[name].title}: {seconds:.0f} s", *(f"  {row.result}: {row.what}: {row.value}" for row in rows)]
    print("\n".join(lines), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
