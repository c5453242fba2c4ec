"""Completion of tags: from the dataset, from what a base knows, from a list of the user's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel

from lorasmith.core.errors import DatasetError
from lorasmith.curation.tag_words import (
    TagWord,
    WordList,
    complete_tag,
    read_word_list,
    words_of_labels,
)
from lorasmith.curation.tagger.folders import DEMO_FOLDER, find_labels
from lorasmith.jobs.curating.open_dataset import OpenDataset
from lorasmith.jobs.curating.tagging import scores_of


class WordRecord(BaseModel):
    """As :class:`.tag_words.TagWord`."""

    tag: str
    source: str
    images: int | None
    category: str
    alias: str


def complete_word(
    dataset: OpenDataset | None,
    prefix: str,
    *,
    vocabulary: Path | None = None,
    words: Path | None = None,
    most: int = 20,
) -> list[WordRecord]:
    """What a tag may become.

    Args:
        dataset: its tags come first; ``None`` where there is none.
        vocabulary: a tagger's label file, or a folder with one; ``None`` is that of the tagger that
            looked at the dataset, if one did, else that of the demo's.
        words: a list of the user's, in the form of the web UI's tag completion.

    Raises:
        UserError: a file cannot be read.
    """
    found = complete_tag(prefix, _lists(dataset, vocabulary, words), most)
    return [
        WordRecord(
            tag=one.tag,
            source=one.source,
            images=one.images,
            category=one.category,
            alias=one.alias,
        )
        for one in found
    ]


def _lists(
    dataset: OpenDataset | None, vocabulary: Path | None, words: Path | None
) -> Iterator[WordList]:
    if dataset is not None:
        yield dataset.remembered("words", lambda: _words_of(dataset))
    if words is not None:
        yield _list_in(words, _changed(words))
    scored = scores_of(dataset) if dataset is not None and vocabulary is None else None
    if dataset is not None and scored is not None:
        labels = scored.labels
        yield dataset.remembered("labels", lambda: words_of_labels(labels), str(labels.source))
        return
    source = vocabulary or DEMO_FOLDER
    yield _labels_in(source, _changed(source))


def _words_of(dataset: OpenDataset) -> WordList:
    table = dataset.tags()
    pairs = zip(table.names, table.counts, strict=True)
    return WordList([TagWord(tag, "set", count) for tag, count in pairs])


@lru_cache(maxsize=4)
def _list_in(path: Path, changed: int) -> WordList:
    return read_word_list(path)


@lru_cache(maxsize=4)
def _labels_in(path: Path, changed: int) -> WordList:
    return words_of_labels(find_labels(str(path)))


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise DatasetError.of(path, what, "choose another") from error
