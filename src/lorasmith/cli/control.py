"""``lorasmith control``"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import click

from lorasmith.core.errors import RunError
from lorasmith.core.events import REQUESTS, Request
from lorasmith.core.terminal import echo
from lorasmith.jobs.runs.asking import ask_run
from lorasmith.training.runs.control import Status, read_status
from lorasmith.training.runs.folder import RunFolder, existing_run_folder


@click.command("control", epilog="Requests: " + "; ".join(f"{k}: {v}" for k, v in REQUESTS.items()))
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("requests", nargs=-1)
@click.option(
    "--wait",
    type=click.FloatRange(0, 86400),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long for the training to do it; exit status 2 if it has not.",
)
def control(run: Path, requests: tuple[str, ...], wait: float) -> None:
    """Ask the training in folder RUN for something, or see how it goes.

    Without a request, shows the status. Requests are done in order after the step in progress:
    samples, snapshot, state, stop, lr=FACTOR.
    """
    folder = existing_run_folder(run)
    if not requests:
        echo("\n".join(status_lines(folder, read_status(folder))))
        return
    file = ask_run(run, requests)
    echo(f"asked for {', '.join(str(Request.parse(text)) for text in requests)}")
    if wait:
        wait_for(folder, file, wait)


def wait_for(folder: RunFolder, file: Path, seconds: float) -> None:
    """Until the training has removed ``file``."""
    deadline = time.monotonic() + seconds
    while file.exists():
        if time.monotonic() > deadline:
            raise RunError.of(
                folder.path, f"not done within {seconds:g} s", "it is done after the step"
            )
        time.sleep(0.05)
    echo("done")


def status_lines(folder: RunFolder, status: Status) -> list[str]:
    lines = [f"{folder.path}: {status.state}"]
    # A damaged log may lack any of them.
    with contextlib.suppress(LookupError, TypeError, ValueError, AttributeError, OverflowError):
        lines += _numbers(status)
    facts = {
        "samples": status.last_samples,
        "snapshot": status.last_snapshot,
        "trouble": status.trouble,
        "waiting": f"{status.waiting} requests" if status.waiting else "",
    }
    lines += [f"{name:10} {value}" for name, value in facts.items() if value]
    for change in status.interventions:
        with contextlib.suppress(LookupError, TypeError, ValueError):
            lines.append(f"changed    after step {change['step']}: {_change(change)}")
    return lines


def _numbers(status: Status) -> list[str]:
    """Lines with the numbers of the last logged step."""
    numbers = status.numbers
    if not numbers:
        return []
    rates = ", ".join(f"{part} {rate:.3g}" for part, rate in numbers["lr"].items())
    lines = [
        f"step       {numbers['step']} of {status.steps}, epoch {numbers['epoch']}",
        f"loss       {numbers['smoothed_loss']:.4f} (average), lr {rates}",
    ]
    if status.state == "running":
        left = time.strftime("%H:%M:%S", time.gmtime(numbers["seconds_left"]))
        lines.append(f"speed      {numbers['samples_per_second']:.3g} samples/s, {left} left")
    return lines


def _change(change: dict[str, object]) -> str:
    parts = [f"learning rate x {change['lr']:g}"] if change["lr"] != 1 else []
    parts += [
        f"{name.replace('_', ' ')}: {change[name]}"
        for name in ("left_out", "in_fp32")
        if change[name]
    ]
    return f"{', '.join(parts)} (by {change['by']})"
