"""LoRA files and sample images while a run goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from lorasmith.adapters.network import AdapterNetwork
from lorasmith.core.disk import discard, remove_file, replace_file
from lorasmith.core.errors import RunError, Stopped
from lorasmith.core.events import BestKept, SampleSaved, SnapshotSaved
from lorasmith.formats.run_paths import lora_name
from lorasmith.models.reference import ModelReference
from lorasmith.prompts.infotext import Infotext
from lorasmith.sampling.contact_sheet import contact_sheet
from lorasmith.sampling.generate import generate
from lorasmith.sampling.images import GeneratedImage, ImageWriter
from lorasmith.sampling.infotext import describe, save_image
from lorasmith.tensors.files import PRECISIONS
from lorasmith.training.early_stopping import Best
from lorasmith.training.eval_weights import eval_weights
from lorasmith.training.kinds.table import kind_of
from lorasmith.training.kinds.trained import Trained
from lorasmith.training.runs.folder import steps_of, write_info
from lorasmith.training.runs.metadata import lora_metadata
from lorasmith.training.samples import with_seeds
from lorasmith.training.setup.build import Run
from lorasmith.training.setup.preflight import should


def snapshot_path(run: Run, step: int) -> Path:
    """Where the LoRA of ``step`` lies when it is not the result."""
    epoch, ends_epoch = run.run_plan.epoch_at(step)
    return run.folder.epoch_snapshot(epoch) if ends_epoch else run.folder.step_snapshot(step)


def save_snapshot(run: Run, step: int, epoch: int | None) -> None:
    """Write the LoRA as it is after ``step``; the last one is the result.

    Args:
        epoch: the 1-based epoch that just ended, ``None`` in the middle of one.
    """
    if not run.processes.main:
        return
    final = step == run.steps
    if final:
        path = run.folder.result
    elif epoch is not None:
        path = run.folder.epoch_snapshot(epoch)
    else:
        path = run.folder.step_snapshot(step)
    with run.stopwatch.phase("saving"), eval_weights(run.trainer):
        dtype = PRECISIONS[run.settings.save.precision]
        run.trained.save(path, lora_metadata(run, step), dtype)
    run.observer(SnapshotSaved(path, step, final))
    if not final:
        drop_old_snapshots(run, step)


def judge_snapshot(run: Run, step: int) -> Best | None:
    """With ``train.stop = "best"``, how the run stands after the snapshot of ``step``, if that is
    one to judge; the same in all processes.

    Raises:
        Stopped: on a stop request.
    """
    if run.early_stopping is None or not run.early_stopping.due(step):
        return None
    best: Best | None = None
    interrupted = False
    if run.processes.main:
        epoch, ends_epoch = run.run_plan.epoch_at(step)
        result = run.folder.result
        path = result if steps_of(result) == step else snapshot_path(run, step)
        try:
            best = run.early_stopping.judge(path, step, epoch if ends_epoch else None)
        except Stopped:
            interrupted = True
    best, interrupted = run.processes.agree((best, interrupted))
    if interrupted:
        raise Stopped("stopped while a snapshot was judged")
    return best


def keep_best(run: Run, done: int) -> None:
    """Make the best of the snapshots that were judged the result, under the result's name; what was
    the result until now is a snapshot. Nothing happens the second time."""
    if run.early_stopping is None or not run.processes.main:
        return
    best = run.early_stopping.best(done)
    if best is None:
        return
    result, kept = run.folder.result, best.snapshot
    if steps_of(result) != kept.step:
        file = result.with_name(kept.file)
        if not file.exists():
            what = "is gone, which was to become the result"
            raise RunError.of(file, what, "put it back, or go on without it: --train.stop end")
        if result.exists():
            path = snapshot_path(run, done)
            replace_file(result, path)
            run.observer(SnapshotSaved(path, done, False))
        replace_file(file, result)
    drop_old_snapshots(run, done)
    why = best.why(done, run.steps)
    write_info(run.folder, best={"step": kept.step, "after": done, "why": why})
    run.observer(BestKept(result, kept.step, done, why))


def keep_result(run: Run, earlier_steps: int, *, renew: bool) -> None:
    """Keep the result of a shorter run under a snapshot's name, before the longer one has its own.

    A result that was removed since is written again where a longer run would have a snapshot.

    Args:
        earlier_steps: the length of the shorter run, where the result does not say it.
        renew: write it anew from the state, as the longer run would have written it; otherwise the
            file itself is renamed, which says of itself how it was trained.
    """
    result = run.folder.result
    is_missing = not result.exists()
    step = earlier_steps if is_missing else steps_of(result) or earlier_steps
    at_hand = step == run.position.step
    if not 0 < step < run.steps:
        return
    epoch, ends_epoch = run.run_plan.epoch_at(step)
    if is_missing and not (at_hand and should(run.settings.save, step, epoch, ends_epoch)):
        return
    path = snapshot_path(run, step)
    if at_hand and (renew or is_missing):
        save_snapshot(run, step, epoch if ends_epoch else None)
        remove_file(result)
    else:
        replace_file(result, path)
        run.observer(SnapshotSaved(path, step, False))
    text = f"the result of the first {step} steps is kept as {path.name}"
    if keep := run.settings.save.keep_last:
        text += f" (until there are {keep} newer snapshots, by save.keep_last)"
    run.inform(text)


def validate(run: Run, step: int) -> None:
    """Measure the held-out images; every process must call it, as each does its share."""
    if run.validation is None:
        return
    with run.stopwatch.phase("validating"):
        event = run.validation(step)
    if run.processes.main:
        run.observer(event)


def drop_old_snapshots(run: Run, step: int) -> None:
    """Keep the newest ``save.keep_last`` snapshots of this run, and the best one until now."""
    if not run.settings.save.keep_last:
        return
    snapshots = [path for path in run.folder.lora_files if path.stem != lora_name(path)]
    best = run.early_stopping.best(step) if run.early_stopping is not None else None
    if best is not None:  # It may become the result.
        snapshots = [path for path in snapshots if path.name != best.snapshot.file]
    snapshots.sort(key=lambda path: path.stat().st_mtime_ns)
    for old in snapshots[: -run.settings.save.keep_last]:
        discard(old)


def draw_samples(run: Run, step: int, epoch: int | None) -> None:
    """Images of the LoRA as other programs will see it: through its file's tensors and names.

    A run that samples from the live network shows what it has in memory; this shows what it saved,
    rounded to the file's precision and read back by name.

    Args:
        epoch: the 1-based epoch that just ended, 0 before the first, ``None`` in the middle of one.
    """
    if not run.processes.main or not run.samples:
        return
    with eval_weights(run.trainer):
        saved = run.trained.as_saved(PRECISIONS[run.settings.save.precision])
    strengths = kind_of(run.settings).strengths
    # The base model alone before the first step, unless the LoRA of a file changes something yet.
    changes = step or run.settings.adapter.init_from is not None
    shown = run.trained.replaced_by(saved) if changes else run.trained.detached()
    with run.stopwatch.phase("sampling"), shown:
        if strengths and step:
            _draw_strips(run, saved, strengths, step, epoch)
        else:
            _draw(run, step, epoch)


def _draw(run: Run, step: int, epoch: int | None) -> None:
    images = generate(
        run.model,
        with_seeds(run.samples, run.settings.train.seed, step),
        batch=run.memory.draw_batch,
        observer=run.observer,
        controls=run.controls,
    )
    # A stop request ends the drawing; the loop heeds it after its next step.
    with contextlib.suppress(Stopped), ImageWriter(run.model.device) as writer:
        for image in images:
            path = run.folder.sample(step, epoch, image.index, image.seed)
            event = SampleSaved(path, step, image.request.prompt, image.seed)
            info = sample_info(run, image)
            writer.add(partial(save_image, path, image.image, info), partial(run.observer, event))


def draw_last(run: Run, step: int) -> None:
    """What every run of its kind has drawn at its end, where the settings draw no samples."""
    if not kind_of(run.settings).strengths or not run.processes.main:
        return
    drawn = should(run.settings.sample, step, 0, False, last=True)
    if not (drawn and run.folder.strip.exists()):
        draw_samples(run, step, None)


def _draw_strips(
    run: Run, saved: Trained, strengths: Sequence[float], step: int, epoch: int | None
) -> None:
    """Each sample at all strengths with one seed, side by side in one file; those of the last step
    beneath each other in the run's strip, too."""
    assert isinstance(saved, AdapterNetwork)
    requests = with_seeds(run.samples, run.settings.train.seed, step)
    columns: list[dict[int, GeneratedImage]] = []
    with contextlib.suppress(Stopped):  # The loop heeds it after its next step.
        for strength in strengths:
            with saved.at_strength(strength):
                images = generate(
                    run.model,
                    requests,
                    batch=run.memory.draw_batch,
                    observer=run.observer,
                    controls=run.controls,
                )
                columns.append({image.index: image for image in images})
    if len(columns) < len(strengths):
        return
    labels = [f"{strength:g}" for strength in strengths]
    rows = [[column[index].image for column in columns] for index in range(len(requests))]
    for index, row in enumerate(rows):
        image = columns[-1][index]
        path = run.folder.sample(step, epoch, index, image.seed)
        save_image(path, contact_sheet([row], column_labels=labels), sample_info(run, image))
        run.observer(SampleSaved(path, step, image.request.prompt, image.seed))
    if step == run.steps:
        prompts = [request.prompt for request in requests]
        sheet = contact_sheet(rows, column_labels=labels, row_labels=prompts)
        save_image(run.folder.strip, sheet, sample_info(run, columns[-1][0]))


def sample_info(run: Run, image: GeneratedImage) -> Infotext:
    """What web UIs read from the PNG; what is trained is named as one would write it there."""
    model = run.settings.model
    prompt = kind_of(run.settings).prompt(image.request.prompt, run.folder.name)
    request = replace(image.request, prompt=prompt)
    return describe(request, ModelReference(model.path, clip_skip=model.clip_skip))
