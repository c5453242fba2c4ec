"""What ``pick`` knows of a run before a model is loaded: its snapshots, images and prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from lorasmith.config.load import load_settings
from lorasmith.config.schema import TrainSettings
from lorasmith.core.errors import Problem, RunError, UserError, collect_problems
from lorasmith.core.files import parse_json, quick_fingerprint
from lorasmith.data.dataset import Dataset
from lorasmith.data.holdout import measured, measuring_dataset
from lorasmith.data.scan import DatasetImage, scan
from lorasmith.grids.snapshots import Snapshot, find_snapshots
from lorasmith.measures.trigger import (
    Trigger,
    find_trigger,
    mixed_captions,
    spread,
)
from lorasmith.models.families.table import Architecture
from lorasmith.models.open import locate
from lorasmith.sampling.from_dataset import stripped
from lorasmith.training.runs.control import read_status
from lorasmith.training.runs.folder import RunFolder, existing_run_folder, read_info, steps_of
from lorasmith.training.setup.preflight import caption_rules, folder_specs, open_base, sample_groups
from lorasmith.training.setup.validation_split import HeldOut, hold_out_of

# Images whose loss is measured, of each kind. The noise and timesteps are the same for every
# snapshot, so that even few tell snapshots apart.
LOSS_IMAGES = 8
# Training images that drawings are set beside.
REFERENCE_IMAGES = 64
SEED = 0

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
class EvalSet:
    """Everything that is the same for all snapshots of a run.

    Args:
        trigger: what calls the subject.
        dataset: held-out images first, then training images; each once, nothing varied.
        held_out: how many of its items are held out.
        references: as many of the training images as drawings are compared with.
        prompts: captions to draw, with the trigger.
        plain: captions without it; empty where there is no trigger to leave out.
        trained: how many training images there are.
        regularised: whether there are regularisation images.
    """

    trigger: Trigger
    dataset: Dataset
    held_out: int
    references: Dataset
    prompts: tuple[str, ...]
    plain: tuple[str, ...]
    trained: int
    regularised: bool

    @property
    def fingerprint(self) -> str:
        """Changes with any image, caption or prompt."""
        digest = blake2b(digest_size=8)
        for item in (*self.dataset.items, *self.references.items):
            stat = item.image.path.stat()
            place = (item.placement.bucket, item.placement.crop)
            facts = (item.image.path.name, stat.st_size, stat.st_mtime_ns, item.caption, place)
            digest.update(repr(facts).encode())
        digest.update(repr((self.held_out, self.prompts, self.plain)).encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class PickRun:
    """A run folder as ``pick`` sees it; ``state`` as in :class:`~.status.Status`.

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


def open_run(path: Path, images: int, plain: Sequence[str] = ()) -> PickRun:
    """Everything of a run that needs no model.

    Args:
        path: the run's folder.
        images: how many prompts of each kind.
        plain: what is drawn without the trigger, in place of captions.

    Raises:
        RunError: it is no run folder, or holds no snapshot.
        UserError: its images or its base model are gone; all problems at once.
    """
    folder = existing_run_folder(path)
    settings = load_settings(folder.settings)
    state = read_status(folder).state
    candidates = find_candidates(folder, state)
    problems: list[Problem] = []
    opened = collect_problems(problems, lambda: open_base(settings))
    folders = collect_problems(problems, lambda: folder_specs(settings))
    held = None
    if folders is not None:
        extension = settings.captions.extension
        found = collect_problems(problems, lambda: scan(folders, extension=extension))
        if found is not None:
            problems += found.problems
            held = collect_problems(
                problems, lambda: hold_out_of(settings.validation, found, extension)
            )
    if opened is None or held is None or problems:
        raise UserError(dict.fromkeys(problems))
    eval_set = gather(settings, held, opened.architecture, images, plain)
    base = quick_fingerprint(locate(settings.model.path))
    known, uses_per_step = _as_reported(folder, eval_set.trained)
    changed = tuple(_changed(folder, base, known, len(found.images) if found is not None else 0))
    return PickRun(
        folder,
        settings,
        state,
        opened.architecture,
        tuple(candidates),
        eval_set,
        base,
        changed,
        uses_per_step,
    )


def _as_reported(folder: RunFolder, trained: int) -> tuple[int | None, float | None]:
    """From the run's report on its dataset: how many images there were, and how often a step
    showed each of the ``trained`` ones."""
    try:
        report = parse_json((folder.path / "dataset.json").read_text(encoding="utf-8"))
        steps = report["steps"]
        shown = steps["train_samples"] / steps["steps_per_epoch"] / trained
        return len(report["pictures"]), float(shown)
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError):
        return None, None


def _changed(folder: RunFolder, base: str, known: int | None, images: int) -> Iterator[str]:
    if read_info(folder).get("base_model", base) != base:
        yield "the base model's file"
    if known is not None and known != images:
        yield f"the pictures ({known} then, {images} now)"


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
    found = [(snapshot, _step(snapshot)) for snapshot in find_snapshots(folder.path)]
    last = 1 + max((step for _, step in found if step is not None), default=0)
    # A file that does not say its step keeps its place among those that do not.
    found.sort(key=lambda one: (one[1] if one[1] is not None else last, one[0].final))
    return [
        Candidate(
            snapshot.path,
            snapshot.label,
            snapshot.epoch,
            step,
            quick_fingerprint(snapshot.path),
        )
        for snapshot, step in found
        if snapshot.path is not None
    ]


def _step(snapshot: Snapshot) -> int | None:
    if snapshot.step is not None or snapshot.path is None:
        return snapshot.step
    return steps_of(snapshot.path)


def gather(
    settings: TrainSettings,
    held: HeldOut,
    architecture: Architecture,
    images: int,
    others: Sequence[str] = (),
) -> EvalSet:
    """Choose images and prompts; a function of the files' names and captions alone."""
    sizes, rules = sample_groups(settings, architecture), caption_rules(settings)
    folders, separator = held.training.folders, settings.captions.separator
    training = [p for p in held.training.images if not folders[p.folder].reg]
    reg = [p for p in held.training.images if folders[p.folder].reg]

    def ranked(chosen: Sequence[DatasetImage], limit: int) -> tuple[DatasetImage, ...]:
        return measured(held.training, chosen, SEED, limit)[0]

    def dataset(*groups: Sequence[DatasetImage]) -> Dataset:
        return measuring_dataset(held.everything, groups, sizes, rules, SEED)

    out = ranked(held.images, LOSS_IMAGES)
    references = dataset(ranked(training, REFERENCE_IMAGES))
    said = [item.caption for item in references.items]
    trigger = find_trigger(settings.captions.trigger, said, separator)
    asked = [item.caption for item in dataset(out).items] if len(out) >= images else []
    asked = asked or mixed_captions(said, trigger.text, separator)
    plain = list(others)
    if trigger and not others:
        bare = [stripped(caption, [trigger.text], separator) for caption in said]
        bare = list(dict.fromkeys(caption for caption in bare if caption))
        told = [item.caption for item in dataset(ranked(reg, LOSS_IMAGES)).items]
        half = images // 2 if told else 0
        plain = spread(bare, images - half) + spread(told, half)
    plain = spread(plain, images)
    return EvalSet(
        trigger,
        dataset(out, ranked(training, LOSS_IMAGES)),
        len(out),
        references,
        tuple(spread(asked, images)),
        tuple(plain),
        len({image.path for image in training}),
        bool(reg),
    )
