"""Gather, try, check: the whole of ``lorasmith doctor``."""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lorasmith import __version__
from lorasmith.advice.doctor.checks import CHECKS
from lorasmith.advice.doctor.computer import Computer, Device, Torch, Trial, from_record
from lorasmith.advice.doctor.finding import DoctorReport, shorten_all
from lorasmith.advice.doctor.gather import gather
from lorasmith.advice.doctor.probe import BITSANDBYTES, HIDDEN, Probe, child_arguments
from lorasmith.core.device_names import check_device_name
from lorasmith.core.events import Controls, Observer, Progress, ignore
from lorasmith.core.files import parse_json, user_path

ESSENTIAL = ("torch", "device")
"""Stages without which no other can be run."""
OF_LAUNCHERS = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
)
# The longest that a stage may take: importing PyTorch from a slow disk for the first time.
SECONDS_PER_STAGE = 300.0
_PAUSE = 0.1
_SAYING = "looking at this computer"


def doctor(
    *,
    quick: bool = False,
    device: str = "auto",
    output: str | Path = "runs",
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> DoctorReport:
    """Whether this computer can make LoRAs, line by line, with what mends each.

    ::

        report = doctor()
        for finding in report.broken:
            print(finding.check, finding.evidence, finding.mend)

    Args:
        quick: import no PyTorch and try nothing.
        device: that training would take; as ``performance.device``.
        output: the folder of runs, whose disk is looked at; is not made.

    Raises:
        SettingsError: there is no such device name.
        Stopped: the controls asked for it.
    """
    controls = controls or Controls()
    asked = check_device_name(device)
    computer = replace(gather(user_path(output)), asked=asked)
    if not quick and find_spec("torch") is not None:
        computer = probed(computer, device, observer, controls)
    return report_of(computer, quick=quick)


def report_of(computer: Computer, *, quick: bool = False) -> DoctorReport:
    """What the checks say of a computer, with the user's name left out."""
    user = ""
    with contextlib.suppress(OSError, KeyError, ImportError):  # Nobody, as in some containers.
        user = getpass.getuser()
    findings = [finding for check in CHECKS if (finding := check(computer))]
    home = Path.home()
    return DoctorReport(
        __version__,
        shorten_all(computer, home, user),
        shorten_all(findings, home, user),
        quick,
    )


def probed(computer: Computer, device: str, observer: Observer, controls: Controls) -> Computer:
    """The computer with all that PyTorch tells; a stage that ends its process is told as such."""
    names = every = list(Probe(device).stages())
    results: dict[str, Any] = {}
    failures: dict[str, str] = {}
    hidden: list[str] = []
    with tempfile.TemporaryDirectory(prefix="lorasmith-doctor-") as folder:
        while names:
            out = Path(folder) / f"{len(failures)}.jsonl"
            before = set(results) | set(failures)

            def tell(done: Iterable[str], before: set[str] = before) -> None:
                observer(Progress(_SAYING, len(before | set(done)), len(every)))

            failed, why = _run_stages(out, device, [*hidden, *names], tell, controls)
            results |= _results(out)
            if failed is None:
                break
            failures[failed] = why
            if failed in ESSENTIAL:
                break
            if failed == BITSANDBYTES:
                hidden.append(f"{HIDDEN}{BITSANDBYTES}")
            rest = [name for name in names if name not in results and name not in failures]
            # A new process needs them again, and fp32's time to compare with.
            again = [*ESSENTIAL, *(["fp32"] if "fp32" in results else [])]
            names = [*again, *rest] if rest else []
    return _with_results(computer, results, failures)


def _run_stages(
    out: Path,
    device: str,
    names: Sequence[str],
    tell: Callable[[Iterable[str]], None],
    controls: Controls,
) -> tuple[str | None, str]:
    """Run them in a process of their own.

    Args:
        tell: gets the names of those that are done.

    Returns:
        the stage that ended it, and how; ``None`` where all came to their end.
    """
    errors = out.with_suffix(".txt")
    with errors.open("wb") as stderr:
        child = subprocess.Popen(
            child_arguments(out, device, names),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=_environment(),
        )
        try:
            late = _wait(child, out, tell, controls)
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
    begun = _begun(out)
    done = _results(out)
    stage = begun if begun is not None and begun not in done else None
    if stage is None and child.returncode == 0:
        return None, ""
    if late:
        return stage or names[0], f"it does not come back within {SECONDS_PER_STAGE:g} seconds"
    return stage or names[0], _ending(child.returncode, errors)


def _environment() -> dict[str, str]:
    """Without what a launcher says of several processes, which the child would wait for."""
    kept = {name: value for name, value in os.environ.items() if name not in OF_LAUNCHERS}
    return kept | {"PYTHONFAULTHANDLER": "", "PYTHONIOENCODING": "utf-8"}


def _wait(
    child: subprocess.Popen[bytes],
    out: Path,
    tell: Callable[[Iterable[str]], None],
    controls: Controls,
) -> bool:
    """Until it ends; whether it was too late."""
    count, since = -1, time.monotonic()
    while child.poll() is None:
        controls.check()
        time.sleep(_PAUSE)
        done = _results(out)
        if len(done) != count:
            count, since = len(done), time.monotonic()
            tell(done)
        elif time.monotonic() - since > SECONDS_PER_STAGE:
            return True
    return False


def _records(out: Path) -> list[dict[str, Any]]:
    try:
        lines = out.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [parse_json(line) for line in lines if line.endswith("\n")]


def _results(out: Path) -> dict[str, Any]:
    return {one["stage"]: one["result"] for one in _records(out) if "result" in one}


def _begun(out: Path) -> str | None:
    records = _records(out)
    return records[-1]["stage"] if records else None


def _ending(status: int, errors: Path) -> str:
    """How a process ended: the signal's name, or the last line that it wrote."""
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"it ends Python itself ({name})"
    lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = lines[-1].strip() if lines else ""
    return last or f"it ends Python itself (status {status & 0xFFFFFFFF:#x})"


def _with_results(
    computer: Computer, results: dict[str, Any], failures: dict[str, str]
) -> Computer:
    trials = {
        name: from_record(Trial, record)
        for name, record in results.items()
        if name not in ("torch", "device", "libraries")
    }
    trials |= {
        name: Trial(finite=False, problem=why)
        for name, why in failures.items()
        if name not in ("torch", "device", "libraries")
    }
    device = from_record(Device, results["device"]) if "device" in results else None
    if "device" in failures:
        device = Device(problem=failures["device"])
    libraries = dict(results.get("libraries", {}))
    if "libraries" in failures:
        libraries["one of them"] = failures["libraries"]
    return replace(
        computer,
        torch=from_record(Torch, results["torch"]) if "torch" in results else None,
        torch_problem=failures.get("torch", ""),
        device=device,
        libraries=libraries,
        trials=trials,
    )
