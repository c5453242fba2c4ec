"""A run as ``pick`` sees it before a model is loaded: its snapshots, images and prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasmith.config.kinds import refuse_unjudged
from lorasmith.config.load import load_settings
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem, RunError, UserError, collect_problems
from lorasmith.core.files import parse_json, quick_fingerprint
from lorasmith.data.holdout import hold_out_of
from lorasmith.data.scan import Scan, scan
from lorasmith.data.triggers import Trigger, apply_triggers
from lorasmith.grids.snapshots import Snapshot, find_snapshots
from lorasmith.measures.eval_set import EvalSet
from lorasmith.measures.records import AT_LEISURE, Extent
from lorasmith.models.families.table import Architecture
from lorasmith.models.open import locate
from lorasmith.training.early_stopping import eval_set_of
from lorasmith.training.runs.control import read_status
from lorasmith.training.runs.folder import RunFolder, existing_run_folder, read_info, steps_of
from lorasmith.training.setup.base_model import open_base
from lorasmith.training.setup.preflight import folder_specs

ENDED = {
    "done": "the run is finished",
    "running": "the run goes on; new snapshots are added when you ask again",
    "preparing": "the run has not begun its first step",
    "stopped": "the run was stopped before its end",
    "trouble": "the run ended in trouble (lorasmith control says which)",
    "killed": "the run was killed before its end",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A snapshot that may be kept.

    Args:
        step: optimizer steps behind it; ``None`` where its file does not say.
        fingerprint: changes with the file.
    """

    path: Path
    label: str
    epoch: int | None
    step: int | None
    fingerprint: str

    @property
    def drawings(self) -> str:
        """What the files of its drawings begin with: as measures, they are the file's content's."""
        return self.fingerprint[:12]


@dataclass(frozen=True, slots=True)
class PickRun:
    """A run folder as ``pick`` sees it; ``state`` as in :class:`.control.Status`.

    Args:
        base: the base model's fingerprint.
        changed: what is not as it was when the run began.
        uses_per_step: how often a step shows each training image, in the mean; ``None`` where
            the report on its dataset is gone.
    """

    folder: RunFolder
    settings: TrainSettings
    state: str
    architecture: Architecture
    candidates: tuple[Candidate, ...]
    eval_set: EvalSet
    base: str
    changed: tuple[str, ...] = ()
    uses_per_step: float | None = None


@dataclass(frozen=True, slots=True)
class Material:
    """What can be measured on: the base model's architecture, images and prompts."""

    architecture: Architecture
    eval_set: EvalSet
    training: Scan


def open_material(
    settings: TrainSettings, images: int, plain: Sequence[str] = (), extent: Extent = AT_LEISURE
) -> Material:
    """
    Args:
        images: how many prompts of each kind.
        plain: what is drawn without the trigger, in place of captions.

    Raises:
        UserError: the images or the base model are gone; all problems at once.
    """
    problems: list[Problem] = []
    checkpoint = collect_problems(problems, lambda: open_base(settings))
    folders = collect_problems(problems, lambda: folder_specs(settings))
    held_out = None
    triggers: tuple[Trigger, ...] = ()
    if folders is not None:
        extension = settings.captions.extension
        scanned = collect_problems(problems, lambda: scan(folders, extension=extension))
        if scanned is not None:
            scanned, triggers = apply_triggers(scanned, settings.captions)
            problems += scanned.problems
            held_out = collect_problems(
                problems, lambda: hold_out_of(settings.validation, scanned, extension)
            )
    if checkpoint is None or held_out is None or problems:
        raise UserError(dict.fromkeys(problems))
    eval_set = eval_set_of(
        settings,
        checkpoint.architecture,
        held_out,
        triggers,
        count=images,
        extent=extent,
        plain=plain,
    )
    return Material(checkpoint.architecture, eval_set, held_out.training)


def open_run(
    path: Path, images: int, plain: Sequence[str] = (), extent: Extent = AT_LEISURE
) -> PickRun:
    """Everything of a run that needs no model.

    Args:
        path: the run's folder.
        images, plain, extent: see :func:`open_material`.

    Raises:
        RunError: it is no run folder, holds no snapshot, or what it trains cannot be judged.
        UserError: its images or its base model are gone; all problems at once.
    """
    folder = existing_run_folder(path)
    settings = load_settings(folder.settings)
    refuse_unjudged(folder.path, settings)
    state = read_status(folder).state
    candidates = find_candidates(folder, state)
    material = open_material(settings, images, plain, extent)
    eval_set = material.eval_set
    base = quick_fingerprint(locate(settings.model.path))
    images_then, uses_per_step = as_reported(folder, eval_set.trained)
    changed = tuple(_changed(folder, base, images_then, len(material.training.images)))
    return PickRun(
        folder,
        settings,
        state,
        material.architecture,
        tuple(candidates),
        eval_set,
        base,
        changed,
        uses_per_step,
    )


def as_reported(folder: RunFolder, image_count: int) -> tuple[int | None, float | None]:
    """From the run's report on its dataset: how many images there were, and how often a step
    showed each of the ``image_count`` ones."""
    try:
        report = parse_json((folder.path / "dataset.json").read_text(encoding="utf-8"))
        steps = report["steps"]
        uses_per_step = steps["train_samples"] / steps["steps_per_epoch"] / image_count
        return len(report["pictures"]), float(uses_per_step)
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError):
        return None, None


def _changed(folder: RunFolder, base: str, images_then: int | None, images: int) -> Iterator[str]:
    if read_info(folder).get("base_model", base) != base:
        yield "the base model's file"
    if images_then is not None and images_then != images:
        yield f"the pictures ({images_then} then, {images} now)"


def find_candidates(folder: RunFolder, state: str) -> list[Candidate]:
    """The run's snapshots in the order of training.

    Raises:
        RunError: there are none; says why as far as the run's state tells it.
    """
    if not folder.lora_files:
        hint = {
            "running": "wait for its first snapshot (save.every_epochs)",
            "preparing": "wait for its first snapshot (save.every_epochs)",
        }.get(state, f"go on with it: {folder.resume_command}")
        raise RunError.of(folder.path, f"holds no snapshot; {ENDED.get(state, state)}", hint)
    snapshots = [(snapshot, _step(snapshot)) for snapshot in find_snapshots(folder.path)]
    last = 1 + max((step for _, step in snapshots if step is not None), default=0)
    # A file that does not say its step keeps its place among those that do not.
    snapshots.sort(key=lambda one: (one[1] if one[1] is not None else last, one[0].final))
    return [
        Candidate(
            snapshot.path,
            snapshot.label,
            snapshot.epoch,
            step,
            quick_fingerprint(snapshot.path),
        )
        for snapshot, step in snapshots
        if snapshot.path is not None
    ]


def _step(snapshot: Snapshot) -> int | None:
    if snapshot.step is not None or snapshot.path is None:
        return snapshot.step
    return steps_of(snapshot.path)
