"""To count the tags of a dataset, and the tokens of its captions and of prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lorasmith.config.values import UserPath
from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, Observer
from lorasmith.jobs.request import JobRequest, option

if TYPE_CHECKING:
    from lorasmith.curation.stats import DatasetStats, TaggedFiles, Triggers
    from lorasmith.curation.token_counts import TokenReport


class StatsRequest(JobRequest):
    """Count the tags of the pictures in DIR: on how many, in which folders, with which others.

    A tag that some pictures have and others have not can be switched on and off in prompts; what
    every picture has becomes part of the trigger's meaning. Nothing is changed.
    """

    verb: ClassVar = "dataset stats"

    folders: list[UserPath] = option(
        ..., "Folders of pictures; with those in them", metavar="DIR...", positional=True
    )
    where: str = option(
        "", "Only pictures that this filter takes; see docs/dataset-filter.md", metavar="FILTER"
    )
    find: str = option(
        "", "Instead, list the pictures with this tag; * and ? are any characters", metavar="TAG"
    )
    position: int | None = option(
        None, "Instead, count the N-th tags of captions; -1 is the last", metavar="N"
    )
    triggers: str = option(
        "",
        "Instead, list the different tags from the I-th to the J-th of every caption, as Prompt S/R"
        " and `grid` take them",
        metavar="I:J",
    )
    extension: str = option(
        "auto", 'Of caption files; "auto" takes .txt, then .caption', metavar="EXT"
    )

    def run(self, observer: Observer, controls: Controls) -> DatasetStats | TaggedFiles | Triggers:
        from lorasmith.curation.collection import open_collection
        from lorasmith.curation.filter import parse_filter
        from lorasmith.curation.stats import (
            dataset_stats,
            find_tag,
            parse_range,
            tags_at,
            triggers_of,
        )

        questions = [name for name in ("find", "position", "triggers") if self.given(name)]
        if len(questions) > 1:
            what = "goes with no other question"
            raise DatasetError(Problem(name, what, "ask one at a time") for name in questions[1:])
        if self.position == 0:
            raise DatasetError.of("position", "positions count from 1, and from the end as -1")
        positions = parse_range(self.triggers) if self.given("triggers") else (1, 1)
        choose = parse_filter(self.where)
        collection = open_collection(self.folders, extension=self.extension, observer=observer)
        images = choose.select(collection, observer, controls)
        if self.given("find"):
            return find_tag(images, self.find)
        if self.position is not None:
            return tags_at(images, self.position)
        if self.given("triggers"):
            return triggers_of(images, *positions)
        return dataset_stats(images)


class TokensRequest(JobRequest):
    """Count the CLIP tokens of prompts and captions: what is cut off, and words in pieces.

    TEXT is a prompt, a file of captions or prompts (one a line), a picture (its caption), or a
    folder. All models that lorasmith knows (SD 1, SD 2, SDXL) share one tokenizer, so none is
    asked for. A caption is cut off after model.max_tokens: 75, 150 or 225; a prompt is read whole,
    75 at a time. In a prompt weights and <lora:…> take no tokens, and an embedding's name one for
    each vector; of one that changes on the way the longest text counts.
    """

    verb: ClassVar = "tokens"

    texts: list[str] = option(
        ..., "Prompts, files, folders", metavar="TEXT|FILE|DIR...", positional=True
    )
    literal: bool = option(
        False, "Read prompts to the letter, as captions are: brackets are text too"
    )
    embedding_dir: UserPath | None = option(
        None,
        "Folder with textual inversion embeddings, which take a token for each vector",
        metavar="DIR",
        default_text="runs",
    )

    def run(self, observer: Observer, controls: Controls) -> TokenReport:
        from lorasmith.curation.token_counts import tokenize_texts

        return tokenize_texts(**self.values(), observer=observer)
