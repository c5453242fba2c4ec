"""The training loop, top to bottom."""

from __future__ import annotations

import contextlib

from lorasmith.core.errors import Stopped, UserError
from lorasmith.core.events import EpochDone, RunFinished, RunStarted, StateSaved
from lorasmith.tensors.transfer import frees_cpu
from lorasmith.training.batches import StepInputs
from lorasmith.training.monitoring.metrics import Meter
from lorasmith.training.monitoring.watchdog import Trouble, Watchdog
from lorasmith.training.runs.control import (
    Inbox,
    PendingRequests,
    apply_lr_requests,
    poll,
    report_done,
)
from lorasmith.training.runs.result_cards import write_cards
from lorasmith.training.runs.snapshots import (
    draw_last,
    draw_samples,
    judge_snapshot,
    keep_best,
    save_snapshot,
    validate,
)
from lorasmith.training.runs.state import Position, save_state
from lorasmith.training.setup.build import Run
from lorasmith.training.setup.preflight import should


def train(run: Run) -> None:
    """Train from ``run.position`` to the last step, or until nothing more is gained; the result is
    ``run.folder.result``.

    Raises:
        Stopped: the user asked; the state is saved and ``--resume`` continues from it.
        RunError: numbers went wrong and going back did not help, or a file cannot be written.
    """
    watchdog = Watchdog(run)
    meter = Meter(run, run.position, watchdog)
    inbox = Inbox(run.folder.control if run.processes.main else None, run.controls, run.observer)
    run.observer(RunStarted(run.folder.path, run.steps, run.position.step, run.epochs))
    if run.position.step == 0 and run.settings.sample.at_start:
        draw_samples(run, 0, 0)
    if run.position.step == 0 and should(run.settings.validation, 0, 0, False, last=True):
        validate(run, 0)

    done = run.position.step
    if done == run.steps and not run.folder.result.exists():
        save_snapshot(run, done, None)  # Lost since, or a shorter run than was begun.
    ended = gains_no_more(run, done)  # Judged already, or stopped before it was.
    ahead = frees_cpu(run.model.device)
    with contextlib.closing(StepInputs(run.batches, run.trainer, run.steps, ahead=ahead)) as inputs:
        while done < run.steps and not ended:
            try:
                do_step(run, inputs, meter, done)
                pending = poll(run, inbox, done + 1)
                after_step(run, meter, done, pending)
                inbox.done()
            except Trouble as trouble:
                inputs.close()
                position = watchdog.go_back(trouble)
                meter = Meter(run, position, watchdog)
                inbox.put_back()
                done = position.step
                continue
            done += 1
            if pending.stop and done < run.steps:
                raise stopped(run, done)
            ended = gains_no_more(run, done)

    keep_best(run, done)
    draw_last(run, done)
    write_cards(run)
    run.observer(RunFinished("done", done, run.stopwatch.rounded()))


def gains_no_more(run: Run, done: int) -> bool:
    """Whether the run may end after ``done`` steps, by the snapshots that were judged until now.

    It comes after the state was saved: a run that is killed or stopped meanwhile judges again.

    Raises:
        Stopped: the user asked; see :func:`train`.
    """
    try:
        best = judge_snapshot(run, done)
    except Stopped:
        raise stopped(run, done) from None
    return best is not None and best.nothing_gained


def do_step(run: Run, inputs: StepInputs, meter: Meter, step: int) -> None:
    """Step ``step`` (from 0), and its numbers where they are due."""
    with run.stopwatch.phase("steps"):
        micro_batches, total = inputs.of(step)
        result = run.trainer(step, micro_batches, total)
        done = step + 1
        epoch, last = run.batches.epoch_of(step), done == run.steps
        run.observer(meter.measure(done, epoch, total, result, last=last))


def after_step(run: Run, meter: Meter, step: int, pending: PendingRequests) -> None:
    """What is due after step ``step`` (from 0), by the settings or because it was asked for."""
    settings, done, last = run.settings, step + 1, step + 1 == run.steps
    epoch, ends_epoch = run.batches.epoch_of(step), run.batches.ends_epoch(step)
    every = settings.save.state_every_steps
    snapshot = last or "snapshot" in pending or should(settings.save, done, epoch, ends_epoch)
    samples = "samples" in pending or should(settings.sample, done, epoch, ends_epoch, last=last)
    validation = should(settings.validation, done, epoch, ends_epoch, last=last)
    state = snapshot or pending.stop or "state" in pending or "lr" in pending
    state = state or bool(every and done % every == 0)
    if snapshot or samples or validation or state:
        meter.catch_up()  # Raises Trouble: what is bad is neither written nor drawn.
    if ends_epoch:
        run.observer(EpochDone(epoch, run.epochs))
    # What this step produces first, its state last: a run that is killed in between does the
    # step again instead of going on without its files.
    if snapshot:
        try:
            save_snapshot(run, done, epoch if ends_epoch else None)
        except UserError:
            if last:  # Whoever resumes has nothing to do but to write the result.
                with contextlib.suppress(UserError):
                    keep_state(run, meter, done)
            raise
    if samples:
        draw_samples(run, done, epoch if ends_epoch else None)
    if validation:
        validate(run, done)
    apply_lr_requests(run, done, pending)
    if state:
        keep_state(run, meter, done)
    report_done(run, done, pending)


def keep_state(run: Run, meter: Meter, step: int) -> None:
    if not run.processes.main:
        return
    with run.stopwatch.phase("saving"):
        # The state must hold the loss average of exactly this step, so read it now.
        path = save_state(run.folder.state, run.trainer, Position(step, meter.catch_up()))
    run.observer(StateSaved(path, step))


def stopped(run: Run, step: int) -> Stopped:
    run.observer(RunFinished("stopped", step, run.stopwatch.rounded()))
    return Stopped(
        f"stopped after step {step} of {run.steps}; everything is saved. "
        f"Continue with: {run.folder.resume_command}"
    )
