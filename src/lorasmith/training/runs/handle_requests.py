"""What people ask of a running training, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorasmith.core.events import Controls, Notice, Observer, Request, RequestDone, RequestRefused
from lorasmith.training.interventions import Intervention
from lorasmith.training.runs.folder import write_info
from lorasmith.training.runs.requests import Inbox
from lorasmith.training.setup.build import Run


@dataclass(frozen=True, slots=True)
class PendingRequests:
    """What is wanted after a step; the same in all processes."""

    stop: bool = False
    requests: Sequence[Request] = ()

    def __contains__(self, what: str) -> bool:
        return any(request.what == what for request in self.requests)


def poll(run: Run, inbox: Inbox, controls: Controls, done: int) -> PendingRequests:
    """What was asked by the end of step ``done``. Requests count in the main process, a signal
    to stop in any."""
    inbox.poll(done)
    if not run.processes.any(controls.stopping or controls.asked):
        return PendingRequests()
    stop = run.processes.any(controls.stopping)
    return PendingRequests(stop, run.processes.agree(controls.take()))


def apply_lr_requests(run: Run, done: int, asked: PendingRequests, observe: Observer) -> None:
    """Multiply the learning rates of the steps after ``done`` as asked, and keep that."""
    factors = [request.factor for request in asked.requests if request.what == "lr"]
    if not factors:
        return
    interventions = run.trainer.interventions
    for factor in factors:
        interventions.add(Intervention(done, "request", lr=factor, why=f"asked for lr={factor:g}"))
    if run.processes.main:
        write_info(run.folder, interventions=interventions.records())
    total = interventions.lr_factor(done)
    observe(
        Notice(
            "info",
            f"learning rate x {total:g} after step {done}; settings.toml alone no longer repeats "
            "this run: run.json lists what was changed",
        )
    )


def report_done(run: Run, done: int, asked: PendingRequests, observe: Observer) -> None:
    """Say what was done."""
    for request in asked.requests:
        if request.what == "samples" and not run.samples:
            observe(RequestRefused(done, str(request), "there are no prompts to draw"))
        else:
            observe(RequestDone(done, str(request)))
