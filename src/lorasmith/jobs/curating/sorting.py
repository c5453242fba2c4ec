"""Sorting one by one: what was decided about pictures, carried out a few at a time."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.sorting.decisions import Decision, plan_decisions
from lorasmith.jobs.curating.changes import ChangesRecord, Part, answer
from lorasmith.jobs.curating.open_dataset import OpenDataset


class DecisionRecord(BaseModel):
    """As :class:`.decisions.Decision`, about the image of a name."""

    name: str
    folder: str = ""
    copy_it: bool = False
    delete: bool = False
    add: list[str] = []
    remove: list[str] = []


class FolderCount(BaseModel):
    """A folder of the dataset, "." for its own, and the images right in it."""

    folder: str
    images: int


def decide(dataset: OpenDataset, decisions: Sequence[DecisionRecord], part: Part) -> ChangesRecord:
    """What is decided about an image that is not there any more is skipped, and told.

    Raises:
        DatasetError: as :func:`.decisions.plan_decisions`.
    """
    if not decisions:
        raise DatasetError.of("decisions", "there is none")

    def work_out() -> Plan:
        found, missing = [], []
        for one in decisions:
            try:
                image = dataset.image(one.name)
            except DatasetError:
                what, hint = "is not there any more; the others are sorted", "look where it went"
                missing.append(Problem(one.name, what, hint))
                continue
            tags = tuple(one.add), tuple(one.remove)
            found.append(Decision(image, one.folder, one.copy_it, one.delete, *tags))
        plan = plan_decisions(dataset.collection, found)
        plan.skipped += missing
        return plan

    question = "\n".join(one.model_dump_json() for one in decisions)
    return answer(dataset, question, work_out, part)


def folders(dataset: OpenDataset) -> list[FolderCount]:
    """Those that hold images, as decisions name them."""
    counts: dict[str, int] = {}
    for image in dataset.images:
        name = image.folder or "."
        counts[name] = counts.get(name, 0) + 1
    return [FolderCount(folder=name, images=count) for name, count in sorted(counts.items())]
