"""The pages about a dataset: its images and tags, filters, captions, edits with their previews,
undo.

``path`` is the folder of images. What changes it goes through its journal, from which it is taken
back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field

from lorasmith.jobs.curating import captions as caption_files
from lorasmith.jobs.curating import changes
from lorasmith.jobs.curating.captions import CaptionRecord, TokensRecord, count_tokens
from lorasmith.jobs.curating.changes import (
    ChangesRecord,
    EditQuestion,
    HistoryRecord,
    OperationRecord,
    Part,
)
from lorasmith.jobs.curating.listing import (
    CompletionRecord,
    DatasetListing,
    FilterAnswer,
    complete_filter,
    filter_images,
    listing_json,
)
from lorasmith.jobs.curating.open_dataset import OpenDataset
from lorasmith.jobs.curating.sorting import DecisionRecord, FolderCount, decide, folders
from lorasmith.jobs.curating.tagging import (
    ScoreRecord,
    ScoresRecord,
    TagQuestion,
    describe_scores,
    scores_of_image,
    write_kept_tags,
)
from lorasmith.jobs.curating.words import WordRecord, complete_word
from lorasmith.jobs.projects import dataset_of
from lorasmith.studio.context import Studio, StudioDep

router = APIRouter(prefix="/api/dataset", tags=["dataset"])

MOST_ROWS = 500
"""Of a preview, in one answer."""

Offset = Annotated[int, Field(ge=0)]
Limit = Annotated[int, Field(ge=0, le=MOST_ROWS)]


@contextlib.contextmanager
def at_work(studio: Studio, path: str, *, close: bool = False) -> Iterator[OpenDataset]:
    """The dataset in a folder, or of a project, as its files are now; meanwhile no other thread
    works on it.

    Raises:
        OutsideError: it may not be opened.
        DatasetError: it is not there, or cannot be read.
    """
    # What is inside may be a link, too.
    folder = studio.roots.resolve(str(dataset_of(studio.roots.resolve(path))))
    studio.roots.refuse_state(folder)
    dataset = studio.datasets.open(folder)
    with dataset.lock:
        dataset.refresh(close=close)
        yield dataset


def _asked(studio: StudioDep, path: str) -> AbstractContextManager[OpenDataset]:
    """To be entered by the handler itself: a lock belongs to a thread, and the server runs
    dependencies in others."""
    return at_work(studio, path)


DatasetDep = Annotated[AbstractContextManager[OpenDataset], Depends(_asked)]


class PartOfChanges(BaseModel):
    """Which rows of a preview are answered, and whether it is carried out."""

    offset: Offset = 0
    limit: Limit = 50
    apply: bool = False

    @property
    def part(self) -> Part:
        return Part(offset=self.offset, limit=self.limit, apply=self.apply)


class Filter(BaseModel):
    where: str


class HalfFilter(BaseModel):
    text: str
    cursor: int


class NewCaption(BaseModel):
    """``former`` is the text that it takes the place of, as it was got."""

    name: str
    former: str
    text: str


class Text(BaseModel):
    text: str


class Edit(EditQuestion, PartOfChanges):
    pass


class TagsOfScores(TagQuestion, PartOfChanges):
    pass


class Decisions(PartOfChanges):
    decisions: list[DecisionRecord]


class Turn(BaseModel):
    """``entry``: the change that is meant, by its number; the last one where it is null."""

    entry: int | None = None


@router.get("/images", response_class=Response, responses={200: {"model": DatasetListing}})
def images(studio: StudioDep, path: str, version: str = "") -> Response:
    """All images, in columns; or that nothing has changed since the ``version``."""
    with at_work(studio, path, close=True) as dataset:
        content = listing_json(dataset, version)
    return Response(content, media_type="application/json")


@router.post("/filter", response_class=Response, responses={200: {"model": FilterAnswer}})
def filter_them(asked: DatasetDep, body: Filter) -> Response:
    """Which images a filter takes, and how many of these have each tag."""
    with asked as dataset:
        answer = filter_images(dataset, body.where)
    # As it is: checking ten thousand numbers would take longer than finding them.
    return Response(answer.model_dump_json(), media_type="application/json")


@router.post("/complete")
def complete(asked: DatasetDep, body: HalfFilter) -> list[CompletionRecord]:
    """What may be written next in a filter."""
    with asked as dataset:
        return complete_filter(dataset, body.text, body.cursor)


@router.get("/words")
def words(
    studio: StudioDep,
    asked: DatasetDep,
    prefix: str,
    vocabulary: str = "",
    words: str = "",
    most: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[WordRecord]:
    """What a tag may become: tags of the dataset, those of the list ``words`` (in the form of the
    web UI's tag completion), those of ``vocabulary`` (a tagger's labels)."""
    with asked as dataset:
        return complete_word(
            dataset,
            prefix,
            vocabulary=studio.roots.resolve(vocabulary) if vocabulary else None,
            words=studio.roots.resolve(words) if words else None,
            most=most,
        )


@router.get("/caption")
def caption(asked: DatasetDep, name: str) -> CaptionRecord:
    with asked as dataset:
        return caption_files.read(dataset, name)


@router.put("/caption")
def put_caption(asked: DatasetDep, body: NewCaption) -> CaptionRecord:
    """Another caption for one image; 409 where it is not ``former`` any more."""
    with asked as dataset:
        return caption_files.write(dataset, body.name, body.former, body.text)


@router.post("/tokens")
def tokens(body: Text) -> TokensRecord:
    """The CLIP tokens of a caption."""
    return count_tokens(body.text)


@router.get("/operations")
def operations() -> list[OperationRecord]:
    """What edits can do."""
    return changes.operations()


@router.post("/edit")
def edit(asked: DatasetDep, body: Edit) -> ChangesRecord:
    """What an edit changes, a part of it; ``apply`` does it."""
    with asked as dataset:
        return changes.edit(dataset, body, body.part)


@router.get("/history")
def history(asked: DatasetDep) -> HistoryRecord:
    with asked as dataset:
        return changes.history(dataset)


@router.post("/undo")
def undo(asked: DatasetDep, body: Turn) -> HistoryRecord:
    """Take back the last change; 409 where another one is the last."""
    with asked as dataset:
        return changes.turn(dataset, "undo", body.entry)


@router.post("/redo")
def redo(asked: DatasetDep, body: Turn) -> HistoryRecord:
    """Do again what was taken back last; 409 where that is another one."""
    with asked as dataset:
        return changes.turn(dataset, "redo", body.entry)


@router.get("/scores")
def scores(asked: DatasetDep) -> ScoresRecord:
    """Which tagger's scores are kept."""
    with asked as dataset:
        return describe_scores(dataset)


@router.get("/scores/image")
def image_scores(
    asked: DatasetDep, name: str, least: Annotated[float, Query(ge=0, le=1)] = 0.05
) -> list[ScoreRecord]:
    with asked as dataset:
        return scores_of_image(dataset, name, least)


@router.post("/tags")
def tags(asked: DatasetDep, body: TagsOfScores) -> ChangesRecord:
    """What the kept scores write at some thresholds; ``apply`` does it."""
    with asked as dataset:
        return write_kept_tags(dataset, body, body.part)


@router.get("/folders")
def get_folders(asked: DatasetDep) -> list[FolderCount]:
    """The dataset's folders that hold images."""
    with asked as dataset:
        return folders(dataset)


@router.post("/sort")
def sort(asked: DatasetDep, body: Decisions) -> ChangesRecord:
    """What was decided about images one by one; ``apply`` does it."""
    with asked as dataset:
        return decide(dataset, body.decisions, body.part)
