"""What rules look at: the pictures, the base, the machine, and what was answered."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from lorasmith.advice.advise.signs import plain
from lorasmith.config.load import Override, load_settings
from lorasmith.config.schema import TrainSettings
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.files import read_safetensors_header
from lorasmith.data.captions import split_tags
from lorasmith.data.dataset import Item
from lorasmith.data.layout import folder_name
from lorasmith.models.families.table import Architecture
from lorasmith.models.open import OpenedCheckpoint, locate
from lorasmith.training.setup.base_defaults import SuitedSettings, read_entry
from lorasmith.training.setup.base_model import open_base
from lorasmith.training.setup.preflight import RunPlan, preflight

Kind = Literal["character", "style", "concept", "object"]
Letter = Literal["A", "B", "C", "D", "E", "F", "G", "H", "I"]
Use = Literal["balanced", "faithful", "flexible", "combined", "small"]
Form = Literal["tags", "sentences", "none"]

# Entries of a checkpoint's metadata that may hold its name, or those of what it was merged of.
_NAMING = ("modelspec.title", "modelspec.description", "sd_merge_recipe", "ss_output_name")
_MOST_LETTERS = 20_000
# A tag has seldom more words; a sentence has.
_TAG_WORDS = 3.0
# Captions of fewer tags say little of what a picture shows.
_FEWEST_TAGS = 3


@dataclass(frozen=True, slots=True)
class Concept:
    """A folder of training pictures.

    Args:
        repeats: of each picture in an epoch.
        form: of its captions.
    """

    path: Path
    name: str
    images: int
    repeats: int
    trigger: str
    form: Form

    @property
    def uses(self) -> int:
        return self.images * self.repeats


@dataclass(frozen=True)
class Pictures:
    """What the dataset holds, without regularisation pictures.

    Args:
        captions: those that were written, as :func:`.signs.plain` has them, without triggers.
        longest: CLIP tokens of the longest caption.
        sizes: width and height of each picture, px.
        regularisation: pictures.
        warnings: what `dataset check` says.
    """

    concepts: tuple[Concept, ...]
    captions: tuple[str, ...]
    form: Form
    longest: int
    sizes: tuple[tuple[int, int], ...]
    regularisation: int
    warnings: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        return sum(concept.images for concept in self.concepts)

    @property
    def fewest(self) -> int:
        """Of the smallest concept."""
        return min(concept.images for concept in self.concepts)

    @property
    def captioned(self) -> float:
        """Share with a caption of their own."""
        return len(self.captions) / self.images

    @property
    def triggers(self) -> list[str]:
        return list(dict.fromkeys(c.trigger for c in self.concepts if c.trigger))

    def large_enough(self, side: int) -> float:
        """The share with at least the area of a square of that side, 0 to 1."""
        return sum(w * h >= side**2 for w, h in self.sizes) / len(self.sizes)

    @cached_property
    def summary(self) -> str:
        """For people: "20 pictures in 2 folders, tags up to 42 tokens long"."""
        count = f"{self.images} picture{'' if self.images == 1 else 's'}"
        if len(self.concepts) > 1:
            count += f" in {len(self.concepts)} folders"
        sides = sorted(round((w * h) ** 0.5) for w, h in self.sizes)
        shapes = f"about {sides[0]} to {sides[-1]} px" if sides[0] < sides[-1] else f"{sides[0]} px"
        words = {"tags": "captions of tags", "sentences": "captions in sentences"}
        text = words.get(self.form, "no captions")
        if self.captions:
            text += f" up to {self.longest} tokens long"
            if self.captioned < 1:
                text += f" for {self.captioned:.0%} of them"
        reg = f", {self.regularisation} for regularisation" if self.regularisation else ""
        return f"{count} of {shapes}{reg}, {text}"


@dataclass(frozen=True, slots=True)
class Base:
    """The base model, as far as rules ask.

    Args:
        path: as given.
        suited: settings with what it and its family say.
        says: settings that its own file speaks of: what it was measured with.
        names: words that its file and its metadata call it by, in lower case.
    """

    path: str
    architecture: Architecture
    suited: SuitedSettings
    says: frozenset[str]
    names: str = ""

    @property
    def family(self) -> str:
        return self.architecture.family_name

    @property
    def speaks(self) -> bool:
        """Whether it says itself how it is to be trained, so that guides for other models don't
        count."""
        return "optimizer.lr" in self.says


@dataclass(frozen=True)
class Case:
    """All of it.

    Args:
        run_plan: of a run with no settings but model and pictures.
        male: half a category more, says the guide.
    """

    pictures: Pictures
    base: Base
    run_plan: RunPlan
    kind: Kind = "character"
    difficulty: Letter = "C"
    use: Use = "balanced"
    male: bool = False

    @property
    def settings(self) -> TrainSettings:
        """With what suits the base."""
        return self.base.suited.settings

    @property
    def is_subject(self) -> bool:
        """One thing that looks the same everywhere, so that its difficulty counts."""
        return self.kind in ("character", "object")

    def answered(self, kind: Kind, difficulty: Letter, use: Use, *, male: bool) -> Case:
        return replace(self, kind=kind, difficulty=difficulty, use=use, male=male)


def read_pictures(run_plan: RunPlan) -> Pictures:
    """What a run's images and captions are."""
    dataset = run_plan.dataset
    triggers = {trigger.folder: trigger.text for trigger in run_plan.triggers}
    by_path: dict[Path, Item] = {}
    uses: Counter[int] = Counter()
    for item in dataset.items:
        if not item.reg:
            by_path.setdefault(item.image.path, item)
            uses[item.image.folder] += item.repeats
    items = list(by_path.values())
    concepts, captions = [], []
    for index, spec in enumerate(run_plan.scan.folders):
        own = [item for item in items if item.image.folder == index]
        if not own or spec.reg:
            continue
        trigger = triggers.get(spec.path, "")
        texts = _written(own, trigger)
        captions += texts
        repeats = max(1, round(uses[index] / len(own)))
        name = folder_name(spec) or spec.path.name
        concepts.append(Concept(spec.path, name, len(own), repeats, trigger, form_of(texts)))
    return Pictures(
        tuple(concepts),
        tuple(map(plain, captions)),
        form_of(captions),
        run_plan.report.captions.longest,
        tuple((item.image.width, item.image.height) for item in items),
        len({item.image.path for item in dataset.items if item.reg}),
        tuple(map(str, run_plan.report.warnings)),
    )


def _written(items: Sequence[Item], trigger: str) -> list[str]:
    """Captions that say more than the trigger."""
    words = {plain(word) for word in split_tags(trigger)}
    texts = []
    for item in items:
        if item.image.caption_path is None:
            continue
        tags = [t for t in split_tags(item.caption.split("\n", 1)[0]) if plain(t) not in words]
        if tags:
            texts.append(", ".join(tags))
    return texts


def form_of(captions: Sequence[str]) -> Form:
    """Whether captions are lists of tags or sentences, by most of them."""
    if not captions:
        return "none"
    lists = sum(_is_list(split_tags(text)) for text in captions)
    return "tags" if lists >= len(captions) / 2 else "sentences"


def _is_list(tags: Sequence[str]) -> bool:
    words = statistics.median(len(tag.split()) for tag in tags)
    return words <= _TAG_WORDS and (len(tags) >= _FEWEST_TAGS or words < _TAG_WORDS)


def examine(
    data: Path,
    model: str = "demo",
    *,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Case:
    """
    Args:
        data: folder of images, as ``data.path``.
        model: as ``model.path``.

    Raises:
        UserError: with everything that would stop a run on them.
        Stopped: by the controls.
    """
    overrides = [
        Override("data.path", json.dumps(str(data), ensure_ascii=False), "DIR"),
        Override("model.path", json.dumps(model, ensure_ascii=False), "--model"),
    ]
    settings = load_settings(None, overrides, for_training=True)
    run_plan = preflight(settings, observer=observer, controls=controls)
    checkpoint = open_base(settings)
    assert run_plan.suited is not None
    says, _ = read_entry(checkpoint.defaults, model)
    base = Base(
        model, checkpoint.architecture, run_plan.suited, frozenset(says), _names(checkpoint)
    )
    return Case(read_pictures(run_plan), base, run_plan)


def _names(checkpoint: OpenedCheckpoint) -> str:
    """What the file and its metadata call the model, in lower case."""
    path = locate(checkpoint.reference.path)
    texts = [Path(str(checkpoint.reference.path)).name]
    if path.suffix == ".safetensors":
        metadata = read_safetensors_header(path).metadata
        texts += [metadata.get(name, "")[:_MOST_LETTERS] for name in _NAMING]
    return " ".join(texts).lower()
