"""What a run writes, and whether there is room for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from lorasmith.core.errors import Problem, UserError
from lorasmith.core.files import free_bytes
from lorasmith.core.text import bytes_text
from lorasmith.training.kinds.kind import Disk
from lorasmith.training.kinds.table import kind_of
from lorasmith.training.runs.folder import KEPT_STATES, RunFolder, new_run_folder
from lorasmith.training.setup.base_model import open_base
from lorasmith.training.setup.preflight import RunPlan, should


def planned_files(run_plan: RunPlan) -> tuple[RunFolder, list[Path]]:
    """The run's folder and the LoRA files that will be there at the end."""
    save = run_plan.settings.save
    folder = new_run_folder(save.output, run_plan.name, save.layout)
    snapshots: list[Path] = []
    for done in range(1, run_plan.steps):
        epoch, ends = run_plan.epoch_at(done)
        if should(save, done, epoch, ends):
            snapshots.append(folder.epoch_snapshot(epoch) if ends else folder.step_snapshot(done))
    snapshots = snapshots[-save.keep_last :] if save.keep_last else snapshots
    return folder, [*snapshots, folder.result]


def check_disk(run_plan: RunPlan) -> None:
    """
    Raises:
        UserError: files as large as checkpoints will not fit onto the disk.
    """
    settings = run_plan.settings
    kind = kind_of(settings)
    if not kind.large_files:
        return
    checkpoint = open_base(settings)
    disk = kind.disk(settings, kind.planned(settings, checkpoint), checkpoint)
    folder, files = planned_files(run_plan)
    planned = planned_disk(run_plan, disk, len(files))
    if problems := list(disk_problems(planned, folder, free_bytes(folder.path))):
        raise UserError(problems)


def disk_problems(disk: Mapping[str, int], folder: RunFolder, free: int) -> Iterator[Problem]:
    """Whether so many bytes fit into those that are ``free`` there."""
    needed = sum(disk.values())
    if needed > free:
        what = f"needs about {bytes_text(needed)}, and {bytes_text(free)} are free"
        hint = "free some space, or keep fewer snapshots (save.every_epochs, save.keep_last)"
        yield Problem(str(folder.path), what, hint)


def planned_disk(run_plan: RunPlan, disk: Disk, files: int) -> dict[str, int]:
    """Bytes by what they are for: ``files`` of what is trained, and the rest."""
    settings = run_plan.settings
    cells = sum(
        math.prod(item.placement.bucket) * len(set(run_plan.dataset.views_of(item).all()))
        for item in run_plan.dataset.items
        if item.repeats and run_plan.has_images
    )
    cells *= 2 if run_plan.opposites is not None else 1
    architecture = run_plan.architecture
    latents = cells // architecture.latent_factor**2 * architecture.latent_channels * 2 * 4
    # The best one until now stays beside the newest.
    files += settings.train.stop == "best" and bool(settings.save.keep_last)
    return {
        disk.what: files * disk.file,
        **disk.at_the_end,
        "training states": KEPT_STATES * disk.state,
        "latent cache": latents if settings.performance.cache_latents else 0,
    }
