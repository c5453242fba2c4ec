"""Train and resume: what the command line and the studio call."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorasmith.config.checks.run import has_wandb
from lorasmith.config.dump import dump_toml
from lorasmith.config.load import Override, load_settings
from lorasmith.config.schema import TrainSettings
from lorasmith.core.disk import remove_file, write_error
from lorasmith.core.errors import Problem, RunError, Stopped, WriteError
from lorasmith.core.events import Controls, NextSteps, Notice, Observer, ignore
from lorasmith.core.files import (
    quick_fingerprint,
    remove_abandoned,
    write_json,
    write_text,
)
from lorasmith.core.text import quantity
from lorasmith.curation.check.check import DatasetChecked
from lorasmith.curation.check.report import report_text
from lorasmith.models.open import locate
from lorasmith.tensors.device import choose_device, deterministic, device_name
from lorasmith.tensors.quantization import nf4_unpacker
from lorasmith.training.early_stopping import oddities
from lorasmith.training.found_lr import keep_rate
from lorasmith.training.kinds.table import kind_of
from lorasmith.training.loop import train as run_loop
from lorasmith.training.lr_schedules import learning_rate
from lorasmith.training.memory.plan import channels_last, memory_of
from lorasmith.training.monitoring.observers import (
    JsonLines,
    Observers,
    TensorBoard,
    WeightsAndBiases,
)
from lorasmith.training.runs.control import forget_requests
from lorasmith.training.runs.disk import check_disk
from lorasmith.training.runs.folder import (
    RunFolder,
    drop_lines_after,
    ended_early,
    environment,
    existing_run_folder,
    new_run_folder,
    read_info,
    steps_of,
    taken_name,
    write_info,
)
from lorasmith.training.runs.result_cards import next_steps, own_word
from lorasmith.training.runs.snapshots import keep_result
from lorasmith.training.runs.state import list_states, load_state, step_of
from lorasmith.training.setup.base_defaults import origin_lines
from lorasmith.training.setup.build import Run, build_run
from lorasmith.training.setup.context import RunContext
from lorasmith.training.setup.preflight import RunPlan, preflight, process_count
from lorasmith.training.setup.processes import Processes

# What may differ on resume: how long, what is kept and shown, what is done in trouble.
# Everything else decides the result.
CHANGEABLE = (
    *("train.epochs", "train.steps", "train.stop", "save.", "sample.", "log.", "performance."),
    *("validation.every_", "watchdog."),
)


NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# They change the last digits, so a run keeps what it was begun with if nobody says otherwise:
# what "auto" meant may change between versions.
KEPT = ("performance.channels_last", "performance.deterministic")


def train(
    settings: TrainSettings,
    *,
    origins: Mapping[str, str] | None = None,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Path:
    """Check everything, then train in a new run folder.

    Args:
        origins: where settings come from that were given, to be said.
        observer: gets every event; ``TrainingTerminal`` of ``monitoring/observers`` shows them.

    Returns:
        The run folder; the LoRA in it has the folder's name.

    Raises:
        UserError: something is wrong; nothing has been written but perhaps caches.
        Stopped: the user stopped it; the run can be resumed.
    """
    controls = controls or Controls()
    run_plan = preflight(
        settings,
        process_count(),
        to_train=True,
        origins=origins,
        observer=observer,
        controls=controls,
    )
    settings = run_plan.settings
    check_disk(run_plan)
    processes = Processes(choose_device(settings.performance.device))
    memory = memory_of(run_plan, processes.device)
    folder = new_run_folder(settings.save.output, run_plan.name, settings.save.layout)
    folder = RunFolder(processes.agree(folder.path))
    observer = observer if processes.main else ignore
    run = RunContext(run_plan, folder, processes, memory, observer, controls)
    warnings = [*run_plan.warnings, *oddities(run_plan), *memory.problems]
    warnings += taken_name(folder, run_plan.name, own_word(folder, settings))
    observer(DatasetChecked(run_plan.report))
    for line in origin_lines(settings, run_plan.origins):
        run.inform(line)
    for warning in warnings:
        run.warn(f"settings: {warning}")
    with own_folder(run):
        if processes.main:
            write_beginning(run, warnings)
        processes.wait()
        _run(run)
    observer(NextSteps(list(next_steps(folder, settings))))
    return folder.path


def resume(
    path: Path,
    overrides: Sequence[Override] = (),
    *,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Path:
    """Go on with a run from its newest state; exactly as if it had never stopped, on a GPU with
    ``performance.deterministic``.

    Args:
        overrides: settings to change; only those in :data:`CHANGEABLE`.

    Raises:
        RunError: it is no run folder, it changed underneath, or a change is not possible.
    """
    folder = existing_run_folder(path)
    refuse_changes(folder.settings, overrides)
    output = folder.loras if folder.flat else folder.path.parent
    fixed = [
        Override("save.output", str(output)),
        Override("save.name", folder.name),
        Override("save.layout", "flat" if folder.flat else "folder"),
    ]
    info = read_info(folder)
    if "precision" in info:  # What "auto" chose then; another machine might choose otherwise.
        fixed.append(Override("train.precision", info["precision"]))
    for setting in KEPT:
        value = info.get(setting.rpartition(".")[2])
        if value is not None and not any(o.path == setting for o in overrides):
            fixed.append(Override(setting, str(value).lower()))
    if info:  # Runs that were begun before there was any keep nothing.
        fixed.append(Override("preservation.enabled", str(info.get("preservation", False)).lower()))
    settings = load_settings(folder.settings, [*overrides, *fixed])
    overridden = {override.path for override in overrides}
    if settings.train.steps is not None and "train.epochs" in overridden:
        what = f"does nothing: this run's length is train.steps = {settings.train.steps}"
        raise RunError.of("train.epochs", what, "change train.steps")
    controls = controls or Controls()
    run_plan = preflight(
        settings, process_count(), to_train=True, observer=observer, controls=controls
    )
    settings = run_plan.settings
    refuse_replaced(folder, run_plan)
    processes = Processes(choose_device(settings.performance.device))
    refuse_other_inputs(folder, info, run_plan)
    refuse_shorter(folder, run_plan)
    observer = observer if processes.main else ignore
    finished = info.get("status") == "done" and info.get("steps") == run_plan.steps
    if ended_early(info):  # It would end there again, however many steps it were given.
        finished = settings.train.stop == "best"
    if finished and folder.result.exists():
        more = "; --train.stop end goes on with it" if ended_early(info) else ""
        observer(Notice("info", f"This run is finished: {folder.result}{more}"))
        return folder.path
    memory = memory_of(run_plan, processes.device)
    run = RunContext(run_plan, folder, processes, memory, observer, controls)
    with own_folder(run):
        _run(run, resume=True)
    observer(NextSteps(list(next_steps(folder, settings))))
    return folder.path


@contextlib.contextmanager
def saying_how_to_go_on(folder: RunFolder) -> Iterator[None]:
    """A file that cannot be written ends a run that can go on: what is said names it.

    Raises:
        WriteError: in place of what the file's writer, or the operating system, has raised.
    """
    try:
        yield
    except (WriteError, OSError) as error:
        cause = error.__cause__ if isinstance(error, WriteError) else error
        if not isinstance(cause, OSError) or (cause is error and cause.errno not in NO_SPACE):
            raise
        place = error.problems[0].where if isinstance(error, WriteError) else cause.filename
        then = f"go on with: {folder.resume_command}"
        raise write_error(Path(place or folder.path), cause, then) from cause


def refuse_other_inputs(folder: RunFolder, info: Mapping[str, Any], run_plan: RunPlan) -> None:
    """Raises RunError when the images or the base model are not those of the run's beginning."""
    if "dataset" not in info:
        what = "is missing or empty: it tells whether pictures and base model are the same"
        raise RunError.of(folder.info, what, "put back a copy, or start a new run")
    changed = {
        "the pictures, their captions or their buckets": ("dataset", run_plan.fingerprint),
        "the base model's file": ("base_model", model_fingerprint(run_plan.settings)),
    }
    problems = [
        Problem(str(folder.path), f"{what} changed since this run began",
                "put back what was there, or start a new run")
        for what, (key, value) in changed.items()
        if info.get(key) != value
    ]  # fmt: skip
    if problems:
        raise RunError(problems)


def refuse_shorter(folder: RunFolder, run_plan: RunPlan) -> None:
    """Raises RunError when more steps were done than are to be done in all."""
    states = list_states(folder.state)
    # States may have been removed to save space, and the result of more steps is there.
    done = max(step_of(states[-1]) if states else 0, steps_of(folder.result) or 0)
    if done > run_plan.steps:
        what = f"has done {quantity(done, 'step')} already, and {run_plan.steps} are asked for"
        hint = f"ask for {done} or more; or take one of its snapshots, or start a new run"
        raise RunError.of(folder.path, what, hint)


def refuse_replaced(folder: RunFolder, run_plan: RunPlan) -> None:
    """Raises RunError when this machine lacks what the run was begun with."""
    adapted = run_plan.adapted
    changed = adapted.replaced if adapted is not None else frozenset()
    problems = [
        Problem(str(folder.path), str(notice), "go on with it where it was begun")
        for notice in (adapted.warnings if adapted is not None else ())
        if notice.where in changed and not notice.where.startswith(CHANGEABLE)
    ]
    if problems:
        raise RunError(problems)


def model_fingerprint(settings: TrainSettings) -> str:
    return quick_fingerprint(locate(settings.model.path))


def refuse_changes(file: Path, overrides: Sequence[Override]) -> None:
    """Raises RunError when a setting that must stay is to be another than the run's own file says;
    the same once more changes nothing."""
    before, problems = load_settings(file), []
    for override in overrides:
        place = override.path in ("save.output", "save.name", "save.layout")
        if override.path.startswith(CHANGEABLE) and not place:
            continue
        if _value(load_settings(file, [override]), override.path) == _value(before, override.path):
            continue
        why, hint = "what was trained until now had another", "leave it out, or start a new run"
        if place:
            why = "the run's files stay where they are"
            hint = "leave it out, and move them when the run is done"
        problems.append(Problem(override.path, f"cannot be changed on resume: {why}", hint))
    if problems:
        raise RunError(problems)


def _value(settings: TrainSettings, path: str) -> object:
    """Of a setting; paths to one file are the same however they are written."""
    section, _, name = path.partition(".")
    value = getattr(settings, section)
    value = getattr(value, name.partition(".")[0]) if name else value
    is_path = isinstance(value, str | Path) and Path(value).exists()
    return Path(value).resolve() if is_path else value


@contextlib.contextmanager
def own_folder(run: RunContext) -> Iterator[None]:
    """Keep other runs out of the folder; one process holds the lock for all."""
    folder = run.folder
    if not run.processes.main:
        yield
        return
    with folder:
        forget_requests(folder.control)  # Of a process that was killed.
        for part in (folder.path, folder.state, folder.samples):
            # Half-written by it; a state may take GBs. Flat runs share the folder of samples.
            ours = not (folder.flat and part == folder.samples)
            remove_abandoned(part, ours=ours)
        try:
            yield
        finally:
            forget_requests(folder.control)


def write_beginning(run: RunContext, warnings: Sequence[Problem]) -> None:
    folder, run_plan = run.folder, run.run_plan
    write_text(folder.settings, dump_toml(run_plan.settings, base=Path()))
    write_json(folder.path / "dataset.json", run_plan.report.to_json())
    lines = [report_text(run_plan.report), *origin_lines(run_plan.settings, run_plan.origins)]
    lines += [f"settings: {warning}" for warning in warnings]
    write_text(folder.path / "dataset.txt", "\n".join(lines) + "\n")
    adapted = run_plan.adapted
    info = {
        "status": "started",
        "dataset": run_plan.fingerprint,
        "base_model": model_fingerprint(run_plan.settings),
        "preservation": run_plan.preservation is not None,
        "replaced": [str(change) for change in adapted.warnings] if adapted else [],
        **environment(),
    }
    write_json(folder.info, info)
    remove_file(folder.events)  # Of a run that failed before its first step.


def _run(context: RunContext, *, resume: bool = False) -> None:
    settings, folder, main = context.settings, context.folder, context.processes.main
    earlier_steps: int | None = None
    was_ended = False
    with contextlib.ExitStack() as stack:
        stack.enter_context(saying_how_to_go_on(folder))
        stack.enter_context(deterministic(settings.performance.deterministic))
        observers = stack.enter_context(Observers(context.observer))
        if main:
            if resume:
                write_text(folder.settings, dump_toml(settings, base=Path()))
                forget_undone(folder)
                info = read_info(folder)
                earlier_steps, was_ended = info.get("steps"), ended_early(info)
            observers.add(JsonLines(folder))
        run = build_run(replace(context, observer=observers))
        if run.rate_search is not None:
            keep_rate(run, run.rate_search)
        if resume:
            run = continue_from_newest(run)
            say_what_differs(run, read_info(folder))
            if earlier_steps is not None and (earlier_steps != run.steps or was_ended):
                go_on_longer(run, earlier_steps)
        if main:
            if settings.log.tensorboard:
                observers.add(TensorBoard(folder, run.position.step))
            if settings.log.wandb and has_wandb():
                log_to_wandb(run, observers)
            describe(run)
        try:
            run_loop(run)
        except Stopped:
            if main:
                write_info(folder, status="stopped")
            run.processes.wait()  # A launcher ends all processes when the first has ended.
            raise
        if main:
            finish(context)
            write_info(folder, status="done", seconds=run.stopwatch.rounded())


def finish(context: RunContext) -> None:
    """Let the kind make of the result what it makes, where no files of others are in its way."""
    settings, folder = context.settings, context.folder
    kind, own = kind_of(settings), folder.further_files
    files = kind.further_files(settings, folder.result)
    if taken := [path for path in files if os.path.lexists(path) and path not in own]:
        context.warn(f"{taken[0]} is there already and not this run's: it stays, and none is made")
        return
    write_info(folder, further_files=sorted(map(folder.further_name, {*own, *files})))
    kind.finish(settings, folder.result, context.observer, context.controls)


def log_to_wandb(run: Run, observers: Observers) -> None:
    """Begin a run of Weights & Biases, or go on with the one that this run began."""
    folder, log = run.folder, run.settings.log
    wandb_id = str(read_info(folder).get("wandb", ""))
    name = log.wandb_name or folder.name
    watcher = WeightsAndBiases(folder, log.wandb, name, wandb_id, observers)
    observers.add(watcher)
    if watcher.run_id:
        write_info(folder, wandb=watcher.run_id)


def forget_undone(folder: RunFolder) -> None:
    """Cut the logs back to the newest state, before anyone appends to them."""
    states = list_states(folder.state)
    step = step_of(states[-1]) if states else -1
    for log in (folder.metrics, folder.events):
        drop_lines_after(log, step)


def continue_from_newest(run: Run) -> Run:
    """Load the newest state, or begin again where the run was killed before its first."""
    states = list_states(run.folder.state)
    if not states:
        run.inform("there is no saved state yet; beginning again from step 0")
        return run
    run = replace(run, position=load_state(states[-1], run.trainer))
    run.inform(f"going on after step {run.position.step} of {run.steps}")
    for change in run.trainer.interventions:
        run.inform(f"after step {change.step}, as before: {change}")
    return run


def nf4_unpacker_of(run: Run) -> str:
    """What unpacks this run's 4-bit weights; empty where it has none."""
    if run.settings.train.base_precision != "nf4":
        return ""
    return nf4_unpacker(run.model.device, run.precision.dtype)


def say_what_differs(run: Run, info: Mapping[str, Any]) -> None:
    """Why the result may not be, to the last bit, what it would be without a stop."""
    repeats, device = run.settings.performance.deterministic, run.model.device
    if repeats != info.get("deterministic", repeats):
        text = f"performance.deterministic is {repeats}, and was {not repeats} until now".lower()
        run.warn(f"{text}: the result is not that of an unbroken run")
    elif device.type not in ("cpu", "meta") and not repeats:
        run.inform(
            f"on {device_name(device)} sums have no fixed order without performance.deterministic: "
            "the result will be as good as an unbroken run's, and not the same to the last bit"
        )
    now, before = nf4_unpacker_of(run), info.get("nf4_unpacker")
    if not now or now == before:
        return
    if before:
        run.inform(f"4-bit weights are unpacked by {now}, and were by {before}: the same numbers")
        return
    run.warn(
        "this run was begun by a version of lorasmith that rounded 4-bit weights otherwise when it "
        "unpacked them: it goes on as well, but its result is not that of an unbroken run"
    )


def go_on_longer(run: Run, earlier_steps: int) -> None:
    """What another length means for what was done already: the result of the shorter run is kept
    among the snapshots, and a schedule that has changed under it is told of."""
    done = run.position.step
    before, now = (learning_rate(run.settings, steps) for steps in (earlier_steps, run.steps))
    as_before = all(before.factor(step) == now.factor(step) for step in range(done))
    keep_result(run, earlier_steps, renew=as_before)
    if as_before:
        return
    run.warn(
        f"the schedule ({now.schedule.name}) was laid out over {earlier_steps} steps and is now "
        f"over {run.steps}: the learning rate goes on at {now.factor(done):.3g} of its full value, "
        f"after {before.factor(done - 1):.3g} at the last step. A run of {run.steps} steps from "
        "the start would have had other rates until here, so its result is not the same"
    )


def describe(run: Run) -> None:
    """What was decided for the user, said and kept."""
    trained = ", ".join(
        f"{group.name} {group.size:,} weights at lr {group.lr:g}" for group in run.trainer.groups
    )
    where = f"{device_name(run.model.device)}, {run.precision.name} ({run.precision.reason})"
    architecture = run.run_plan.architecture
    run.inform(f"{run.model_name}: {architecture.summary}")
    for note in run.model.notes:
        run.inform(note)
    run.inform(f"training {run.trained} on {where}: {trained}")
    if run.run_plan.preservation is not None:
        run.inform(f"the base model's output is kept for {run.run_plan.preservation}")
    write_info(
        run.folder,
        status="started",
        best=None,
        device=device_name(run.model.device),
        precision=run.precision.name,
        channels_last=channels_last(run.settings, run.model.device),
        deterministic=run.settings.performance.deterministic,
        **({"nf4_unpacker": unpacker} if (unpacker := nf4_unpacker_of(run)) else {}),
        model={
            "path": run.settings.model.path,
            "family": architecture.family_name,
            "prediction": architecture.prediction,
        },
        steps=run.steps,
        processes=run.processes.count,
    )
