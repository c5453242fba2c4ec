"""How long a run is, from its images: the one rule, and the intervals that go by it.

With n images of a concept, each is shown

    s(n) = train.showings x (REFERENCE_IMAGES / n) ^ train.showings_falloff

times in all, so that a concept takes n x s(n) samples: more images take more, but each of them
fewer (with a falloff of 0 each the same, with 1 all sets equally many). Concepts, the folders of
training images, add up. Then

    optimizer steps = sum of n x s(n) / samples of a step, from train.min_steps to train.max_steps
    epochs          = optimizer steps x samples of a step / uses of the training images in an epoch

where regularisation images count for nothing: their share of an epoch comes on top. So repeats,
which only make epochs longer, change nothing but the rounding: epochs are whole where that changes
the length by no more than a tenth, else the last one is cut short.

The numbers are settings of [train]; those of a base model stand in its metadata, those of families
in :mod:`lorasmith.models.families`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasmith.config.kinds import kind_facts
from lorasmith.config.schema import TrainSettings, all_settings, replace_settings
from lorasmith.config.sections.run import RunSettings, SampleSettings, SaveSettings
from lorasmith.config.sections.validation import ValidationSettings
from lorasmith.config.values import AUTO
from lorasmith.core.errors import Problem
from lorasmith.core.text import quantity
from lorasmith.data.dataset import Dataset

REFERENCE_IMAGES = 20
"""So many images are each shown ``train.showings`` times."""

WHOLE_EPOCHS = 0.1
"""By what share of itself the length may change so that epochs are whole."""

FAR = 3.0
"""How many times as long, or as short, as usual is worth a warning."""

SNAPSHOTS = 10
"""About so many snapshots, samples and measurements there are in a run."""

LEAST_BETWEEN = 10
"""Optimizer steps from one of them to the next, where they do not go by epochs."""

FEW_EPOCHS = 5
"""With fewer of them, intervals are in steps."""

RULE = ("showings", "showings_falloff", "min_steps", "max_steps")


@dataclass(frozen=True, slots=True)
class RunLength:
    """How long the rule makes a run.

    Args:
        images: of each concept.
        showings: of each image, in the mean, before rounding and limits.
        per_step: samples of an optimizer step, in the mean.
        updates: optimizer steps on the training images alone, within the limits.
        limit: the setting that limits them, "" for none.
        repeats: of an image in an epoch; ``None`` where images differ.
        steps: optimizer steps of the run, regularisation images' too.
        steps_per_epoch: of all images.
        whole: it ends with an epoch.
    """

    images: tuple[int, ...]
    showings: float
    per_step: float
    updates: float
    limit: str
    repeats: int | None
    steps: int
    steps_per_epoch: int
    whole: bool
    regularised: bool

    def __str__(self) -> str:
        count = quantity(sum(self.images), "picture")
        if len(self.images) > 1:
            count += f" of {len(self.images)} folders"
        samples = sum(self.images) * self.showings / self.per_step
        text = f"{count} x {self.showings:.3g} showings / {self.per_step:.3g} to a step"
        text += f" = {quantity(round(samples), 'optimizer step')}"
        if self.limit:
            bound = "least" if self.limit == "train.min_steps" else "most"
            text += f", {self.updates:g} being the {bound}"
        epochs = self.steps / self.steps_per_epoch
        text += f": {quantity(round(epochs), 'epoch') if self.whole else f'{epochs:.3g} epochs'}"
        if self.repeats is not None and self.repeats > 1:
            text += f" of {self.repeats} repeats"
        if self.regularised:
            return f"{text}, {self.steps} steps with the regularisation pictures"
        return text if self.steps == round(self.updates) else f"{text}, {self.steps} steps"


def showings_of(images: int, rule: RunSettings) -> float:
    """How often each of so many images of a concept is shown in a run."""
    return float(rule.showings * (REFERENCE_IMAGES / images) ** rule.showings_falloff)


def updates_for(images: Sequence[int], per_step: float, rule: RunSettings) -> tuple[float, str]:
    """Optimizer steps for concepts of so many images, and the setting that limits them.

    Args:
        images: of each concept, >= 1.
        per_step: samples of a step.
    """
    wanted = sum(n * showings_of(n, rule) for n in images) / per_step
    if wanted < rule.min_steps:
        return float(rule.min_steps), "train.min_steps"
    if wanted > rule.max_steps:
        return float(rule.max_steps), "train.max_steps"
    return wanted, ""


def work_out(dataset: Dataset, steps_per_epoch: int, rule: RunSettings) -> RunLength:
    """The length of a run on the dataset by the rule.

    Args:
        steps_per_epoch: optimizer steps of an epoch.
        rule: the settings named in :data:`RULE` are read.
    """
    by_folder: dict[int, set[Path]] = defaultdict(set)
    uses: Counter[Path] = Counter()
    for item in dataset.items:
        if not item.reg:
            by_folder[item.image.folder].add(item.image.path)
            uses[item.image.path] += item.repeats
    # A folder that is trained at several sizes is one concept.
    concepts = {frozenset(paths) for paths in by_folder.values()}
    images = tuple(sorted(map(len, concepts), reverse=True))
    per_step = len(dataset.samples) / steps_per_epoch
    updates, limit = updates_for(images, per_step, rule)
    exact = updates * per_step / uses.total()
    epochs = max(1, round(exact))
    whole = abs(epochs - exact) <= WHOLE_EPOCHS * exact
    return RunLength(
        images,
        sum(n * showings_of(n, rule) for n in images) / sum(images),
        per_step,
        updates,
        limit,
        repeats.pop() if len(repeats := set(uses.values())) == 1 else None,
        steps_per_epoch * epochs if whole else max(1, round(exact * steps_per_epoch)),
        steps_per_epoch,
        whole,
        any(item.reg and item.repeats for item in dataset.items),
    )


@dataclass(frozen=True, slots=True)
class PlannedLength:
    """Settings whose length and intervals are numbers.

    Args:
        length: what the rule gives for these images, whether it was asked for or not; ``None``:
            there are none.
        changes: what was "auto", by setting.
        warnings: the run is far shorter or longer than what is usual.
    """

    settings: TrainSettings
    length: RunLength | None
    changes: Mapping[str, Any]
    warnings: tuple[Problem, ...]

    @property
    def explanation(self) -> str:
        """How the number of steps came about; "" where it was set."""
        named = self.changes.keys() & {"train.epochs", "train.steps"}
        if not named:
            return ""
        usual = f"{self.changes.get('train.steps')} optimizer steps, as such runs usually take"
        return usual if self.length is None else str(self.length)


def plan_length(
    settings: TrainSettings,
    dataset: Dataset,
    steps_per_epoch: int,
    suggested: Mapping[str, Any],
    *,
    validates: bool,
) -> PlannedLength:
    """Put numbers in place of what is "auto" in a run's length and intervals.

    Args:
        steps_per_epoch: optimizer steps of an epoch.
        suggested: what the base and its family say, by setting.
        validates: images are held out.
    """
    run = settings.train
    length = work_out(dataset, steps_per_epoch, run)
    changes: dict[str, Any] = {}
    if run.steps is None and run.epochs == AUTO:
        steps, responsible = length.steps, _rule_changed(run, suggested, length.limit)
        named = {"train.epochs": steps // steps_per_epoch} if length.whole else {}
        changes |= named or {"train.steps": steps}
    elif run.steps is not None:
        steps, responsible = run.steps, "train.steps"
    else:
        assert isinstance(run.epochs, int)
        steps, responsible = run.epochs * steps_per_epoch, "train.epochs"
    by_epochs = run.epochs != AUTO and run.steps is None
    changes |= _intervals(settings, steps, steps_per_epoch, by_epochs, validates)
    warnings: tuple[Problem, ...] = ()
    if responsible:
        usual = run.model_copy(update=_usual(suggested))
        warnings = _far(steps, work_out(dataset, steps_per_epoch, usual), responsible)
    return PlannedLength(replace_settings(settings, changes), length, changes, warnings)


def usual_length(settings: TrainSettings, steps_per_epoch: int) -> PlannedLength:
    """As :func:`plan_length` where a difference is learned: what is usual, unless it is set."""
    run = settings.train
    changes: dict[str, Any] = {}
    steps = run.steps
    if steps is None and run.epochs == AUTO:
        steps = changes["train.steps"] = kind_facts(settings).steps
    elif steps is None:
        assert isinstance(run.epochs, int)
        steps = run.epochs * steps_per_epoch
    changes |= _intervals(settings, steps, steps_per_epoch, by_epochs=False, validates=False)
    return PlannedLength(replace_settings(settings, changes), None, changes, ())


def _usual(suggested: Mapping[str, Any]) -> dict[str, Any]:
    """The rule's numbers as the base and its family have them."""
    defaults = all_settings()
    return {
        name: suggested.get(f"train.{name}", defaults[f"train.{name}"].default) for name in RULE
    }


def _rule_changed(run: RunSettings, suggested: Mapping[str, Any], limit: str) -> str:
    """A setting of the rule that is not as usual, ``limit`` before others; "" where all are."""
    usual = _usual(suggested)
    changed = [f"train.{name}" for name in RULE if getattr(run, name) != usual[name]]
    return limit if limit in changed else (changed or [""])[0]


def _intervals(
    settings: TrainSettings, steps: int, steps_per_epoch: int, by_epochs: bool, validates: bool
) -> dict[str, Any]:
    """What becomes of intervals that are "auto".

    Args:
        by_epochs: someone said how many epochs there are, so that each is worth a snapshot.
    """
    changes: dict[str, Any] = {}
    between = max(LEAST_BETWEEN, round(steps / SNAPSHOTS))
    by_epochs |= steps >= FEW_EPOCHS * steps_per_epoch or between >= steps_per_epoch
    sections: dict[str, SaveSettings | SampleSettings | ValidationSettings] = {
        "save": settings.save,
        "sample": settings.sample,
    }
    if validates:
        sections["validation"] = settings.validation
    for name, section in sections.items():
        if section.every_epochs != AUTO:
            continue
        changes[f"{name}.every_epochs"] = None
        if section.every_steps is not None:
            continue
        if by_epochs:
            changes[f"{name}.every_epochs"] = max(1, round(steps / steps_per_epoch / SNAPSHOTS))
        else:
            changes[f"{name}.every_steps"] = between
    return changes


def _far(steps: int, usual: RunLength, responsible: str) -> tuple[Problem, ...]:
    """Says when ``steps`` are far fewer or more than usual."""
    if usual.steps / FAR <= steps <= usual.steps * FAR:
        return ()
    short = steps < usual.steps
    times = usual.steps / steps if short else steps / usual.steps
    share = f"1/{times:.0f} of" if short else f"{times:.0f} times"
    effect = "is hardly learned" if short else "is likely learned by heart"
    what = f"makes {quantity(steps, 'step')}, {share} what such pictures usually take: the subject "
    hint = f"leave it out, which takes {usual.steps} ({usual})"
    return (Problem(responsible, what + effect, hint),)
