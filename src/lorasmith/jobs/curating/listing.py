"""All images of an open dataset at once, in columns: of 10 000 about a megabyte of JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel

from lorasmith.core.errors import DatasetError
from lorasmith.core.events import ignore
from lorasmith.curation.collection import CollectionImage
from lorasmith.curation.filter import Filter, parse_filter
from lorasmith.curation.filter_language.completion import Completion, complete
from lorasmith.data.recorded_crops import is_crop_record
from lorasmith.jobs.curating.open_dataset import OpenDataset
from lorasmith.jobs.curating.tag_index import TagTable
from lorasmith.jobs.runs.records import ProblemRecord

FLAGS: Final = {
    "masked": 1,
    "cropped": 2,
    "no_caption": 4,
    "several_lines": 8,
    "unreadable_caption": 16,
}
"""What an image's number in :attr:`DatasetListing.flags` is the sum of: it has a mask, a recorded
crop, no caption file or an empty one, a caption of several lines, one that cannot be read."""

MOST_TO_MEASURE = 200
"""Images that a filter may decode while somebody waits for its answer."""


class ReadingRecord(BaseModel):
    """What is still being read of the files: "captions", then "sizes"; ``done`` of ``total``
    images."""

    what: str
    done: int
    total: int


class DatasetListing(BaseModel):
    """Images in their order; lists are as long as there are images unless it is said.

    Args:
        version: of all of this; see ``unchanged``.
        unchanged: the version that was asked with is this one, and all lists are empty.
        reading: of a large folder, until all is read; while it is captions, no image has tags
            here, and until sizes are read, they are 0. Then there is another version.
        folder, root: absolute; ``root`` is the dataset's, whose history has what is changed.
        names: paths from ``folder`` on, with ``/``.
        widths, heights: px, upright; 0 of what cannot be read.
        versions: of the files, for the addresses of thumbnails.
        tags: of each image, in the caption's order, as places in ``tag_names``.
        flags: sums of :data:`FLAGS`.
        tag_names, tag_counts: as long as there are different tags: those on most images first.
        problems: images that are left out.
    """

    version: str
    unchanged: bool = False
    reading: ReadingRecord | None = None
    folder: str
    root: str
    names: list[str]
    widths: list[int]
    heights: list[int]
    versions: list[str]
    tags: list[list[int]]
    flags: list[int]
    tag_names: list[str]
    tag_counts: list[int]
    problems: list[ProblemRecord]


class FilterAnswer(BaseModel):
    """
    Args:
        version: the listing's whose places ``images`` are.
        images: places of those that the filter takes.
        counts: as long as the listing's ``tag_names``: how many of them have each tag.
    """

    version: str
    images: list[int]
    counts: list[int]


class CompletionRecord(BaseModel):
    """As :class:`.completion.Completion`."""

    start: int
    end: int
    text: str
    kind: str
    images: int | None
    description: str


def listing_json(dataset: OpenDataset, version: str = "") -> bytes:
    """A :class:`DatasetListing`; checking a million numbers would take longer than making them.

    Args:
        version: of a listing that the asker has.
    """
    if version == dataset.version:
        empty: dict[str, object] = {name: [] for name in DatasetListing.model_fields}
        value = empty | _heading(dataset) | {"unchanged": True}
        return json.dumps(value).encode()
    answer: bytes = dataset.remembered("listing", lambda: _listing(dataset))
    return answer


def _heading(dataset: OpenDataset) -> dict[str, object]:
    now = dataset.reading
    return {
        "version": dataset.version,
        "unchanged": False,
        "reading": {"what": now.what, "done": now.done, "total": now.total} if now else None,
        "folder": str(dataset.folder),
        "root": str(dataset.root),
    }


def _listing(dataset: OpenDataset) -> bytes:
    images = dataset.images
    sizes = dataset.sizes() if dataset.reading is None else {}
    table = TagTable.of([()] * len(images)) if dataset.lacks_captions else dataset.tags()
    shapes = [sizes.get(image.path, (0, 0)) for image in images]
    value = {
        **_heading(dataset),
        "names": [dataset.name_of(image) for image in images],
        "widths": [width for width, _ in shapes],
        "heights": [height for _, height in shapes],
        "versions": [dataset.version_of(image.path) for image in images],
        "tags": table.rows,
        "flags": [_flags(dataset, image) for image in images],
        "tag_names": table.names,
        "tag_counts": table.counts,
        "problems": [ProblemRecord.of(problem).model_dump() for problem in dataset.left_out],
    }
    # Names are UTF-8, as far as a collection has them.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _flags(dataset: OpenDataset, image: CollectionImage) -> int:
    flags = FLAGS["masked"] if image.path in dataset.collection.masks else 0
    flags |= FLAGS["cropped"] if any(map(is_crop_record, image.companions)) else 0
    if dataset.lacks_captions:
        return flags
    try:
        caption = image.caption
    except DatasetError:
        return flags | FLAGS["unreadable_caption"]
    flags |= FLAGS["no_caption"] if not caption else 0
    return flags | (FLAGS["several_lines"] if "\n" in caption else 0)


def filter_images(dataset: OpenDataset, where: str) -> FilterAnswer:
    """
    Raises:
        DatasetError: the filter cannot be read, or needs the pixels of more images than can be
            waited for.
    """
    choose = parse_filter(where)
    require_measured(dataset, choose)
    table = dataset.tags()
    # Of a caption that cannot be read, choosing tells.
    places = table.taken(choose.node) if dataset.captions_are_good else None
    if places is None:
        places = places_of(dataset, choose.select(dataset.collection, ignore))
    counts = table.counts_in(places)
    return FilterAnswer.model_construct(version=dataset.version, images=places, counts=counts)


def places_of(dataset: OpenDataset, images: Sequence[CollectionImage]) -> list[int]:
    if len(images) == len(dataset.images):
        return list(range(len(images)))
    return [dataset.place(dataset.name_of(image)) for image in images]


def require_measured(dataset: OpenDataset, choose: Filter) -> None:
    """
    Raises:
        DatasetError: the filter asks for what only decoding says, of too many images.
    """
    if "pixels" not in choose.needs:
        return
    unknown = len(dataset.images) - len(dataset.collection.remembered())
    if unknown > MOST_TO_MEASURE:
        what = f"asks for the pixels of {unknown} pictures that nobody has measured yet"
        hint = "run an audit, which measures each once"
        raise DatasetError.of(choose.text, what, hint)


def complete_filter(dataset: OpenDataset, text: str, cursor: int) -> list[CompletionRecord]:
    """What the word at the cursor may become."""
    cursor = min(max(cursor, 0), len(text))
    return [_record(one) for one in complete(text, cursor, dataset.collection)]


def _record(one: Completion) -> CompletionRecord:
    return CompletionRecord(
        start=one.start,
        end=one.end,
        text=one.text,
        kind=one.kind,
        images=one.images,
        description=one.description,
    )
