"""Tags by the scores that a tagger left in a dataset: other thresholds, without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from lorasmith.core.errors import DatasetError
from lorasmith.core.file_names import shell_word
from lorasmith.core.text import quantity
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.changes.trash import STORE
from lorasmith.curation.edit.new_captions import Mode, NewCaptions
from lorasmith.curation.filter import parse_filter
from lorasmith.curation.tagger.choose import THRESHOLDS, TagChooser, TagRules
from lorasmith.curation.tagger.scores import FOLDER, Scored, kept_scores
from lorasmith.jobs.curating.changes import (
    ChangesRecord,
    Part,
    answer,
    command_line,
    filter_of,
    key_of,
)
from lorasmith.jobs.curating.open_dataset import OpenDataset
from lorasmith.jobs.engine.giving_way import CPU, GivingWay
from lorasmith.jobs.queue.ledger import AUTO


class ScoresRecord(BaseModel):
    """Which tagger's scores there are.

    Args:
        tagger: its name; "" where none has looked.
        images: that it has looked at.
        total: that there are.
        categories: of its labels, with the usual threshold of each; above 1 is none.
    """

    tagger: str
    images: int
    total: int
    categories: dict[str, float]


class ScoreRecord(BaseModel):
    tag: str
    category: str
    score: float


class TaggedPicture(BaseModel):
    """What a tagger says of one picture, the highest score first."""

    tagger: str
    scores: list[ScoreRecord]


class TagQuestion(BaseModel):
    """
    Args:
        thresholds: by category; others have the usual ones.
        mode: what becomes of captions that are there.
        exclude: tags that are never written.
        first: tags that go to the front.
        order: of the tags.
        where, images: as in an edit.
    """

    thresholds: dict[str, float] = Field(default_factory=dict)
    mode: Mode = "if-empty"
    exclude: list[str] = []
    first: list[str] = []
    order: Literal["category", "score"] = "category"
    underscores: bool = False
    where: str = ""
    images: list[str] | None = None

    def rules(self) -> TagRules:
        return TagRules(
            thresholds={**THRESHOLDS, **self.thresholds},
            exclude=tuple(self.exclude),
            first=tuple(self.first),
            order=self.order,
            underscores=self.underscores,
        )


def scores_of(dataset: OpenDataset) -> Scored | None:
    """What the tagger that looked at most images says of them; ``None`` where none did."""
    folder = dataset.root / STORE / FOLDER
    try:
        state = sorted((path.name, path.stat().st_mtime_ns) for path in folder.glob("*.sqlite"))
    except OSError:
        state = []
    if not state:
        return None
    scored: Scored | None = dataset.remembered(
        "scores", lambda: _scores(dataset), f"{dataset.files_version} {state}"
    )
    return scored


def _scores(dataset: OpenDataset) -> Scored | None:
    return kept_scores({dataset.root: [image.path for image in dataset.images]})


def describe_scores(dataset: OpenDataset) -> ScoresRecord:
    scored = scores_of(dataset)
    if scored is None:
        return ScoresRecord(tagger="", images=0, total=len(dataset.images), categories={})
    categories = dict.fromkeys(scored.labels.categories)
    return ScoresRecord(
        tagger=scored.labels.source.stem.rpartition("-")[0],
        images=len(scored.scores),
        total=len(dataset.images),
        categories={name: usual for name, usual in THRESHOLDS.items() if name in categories},
    )


def scores_of_image(dataset: OpenDataset, name: str, least: float) -> list[ScoreRecord]:
    """The scores of one image from ``least`` on, the highest first; none where none are kept.

    Raises:
        DatasetError: there is no such image.
    """
    image, scored = dataset.image(name), scores_of(dataset)
    scores = scored.scores.get(image.path) if scored is not None else None
    if scored is None or scores is None:
        return []
    pairs = zip(scores.labels.tolist(), scores.values.tolist(), strict=True)
    # Spelled as a tag is written.
    spelled = TagChooser(scored.labels, TagRules()).names
    return [
        ScoreRecord(tag=spelled[label], category=scored.labels.categories[label], score=value)
        for label, value in sorted(pairs, key=lambda pair: -pair[1])
        if value >= least
    ]


def tag_one(
    guard: GivingWay, picture: Path, root: Path, tagger: str, least: float
) -> TaggedPicture:
    """One picture through a tagger at once.

    Args:
        guard: has the process that keeps the tagger loaded.
        root: the folder that keeps its scores.
        tagger: as in `lorasmith dataset tag`.
        least: the lowest score that is told.

    Raises:
        UserError: there is no such tagger, or the picture cannot be read.
        BusyError: a picture is being drawn.
    """
    device = CPU if guard.job_on(AUTO) is not None else AUTO
    with guard.using(device) as first:
        told = guard.engine.tag(picture, root, tagger, device=device, least=least, first=first)
    return TaggedPicture.model_validate(told)


def write_kept_tags(dataset: OpenDataset, question: TagQuestion, part: Part) -> ChangesRecord:
    """What the kept scores write at these thresholds; images without scores are left alone.

    Raises:
        DatasetError: no tagger has looked at the images, or the filter is wrong.
    """
    from lorasmith.curation.tagger.tagging import write_tags  # with NumPy

    scored = scores_of(dataset)
    if scored is None:
        what = "no tagger has looked at these pictures yet"
        raise DatasetError.of(dataset.folder, what, "run one first")
    choose = parse_filter(question.where)
    some = set(dataset.some(question.images))

    def work_out() -> Plan:
        plan = Plan(f"tag at {question.rules().thresholds['general']:g}", dataset.collection.roots)
        taken = [image for image in choose.select(dataset.collection) if image in some]
        captions = NewCaptions(taken, question.mode, plan)
        without = write_tags(captions, scored, question.rules(), question.mode)
        unseen = sum(image.path not in scored.scores for image in captions.images)
        if unseen:
            what = f"{quantity(unseen, 'picture', 'was')} not looked at by the tagger"
            plan.notes.append(f"{what}, and left alone")
        if without:
            pictures = quantity(len(without), "picture")
            plan.notes.append(f"no tag of {pictures} reaches its threshold")
        return plan

    images = dataset.some(question.images) if question.images is not None else None
    line = _line(dataset, question, filter_of(question.where, images))
    return answer(dataset, key_of("tag", question, TagQuestion), work_out, part, line)


def _line(dataset: OpenDataset, question: TagQuestion, where: str | None) -> str:
    scores = describe_scores(dataset)
    words = ["tag", str(dataset.folder), "--tagger", shell_word(scores.tagger)]
    words += ["--mode", question.mode] if question.mode != "if-empty" else []
    for name, value in question.thresholds.items():
        words += [f"--{name}", f"{value:g}"]
    for option in ("exclude", "first"):
        tags = getattr(question, option)
        words += [f"--{option}", shell_word(",".join(tags))] if tags else []
    words += ["--order", question.order] if question.order != "category" else []
    words += ["--underscores"] if question.underscores else []
    return command_line(words, where)
