"""To sort a dataset's images into folders, and to drop those that are there twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lorasmith.config.values import UserPath
from lorasmith.core.events import Controls, Observer
from lorasmith.jobs.dataset.changes import ChangeRequest, FolderChangeRequest
from lorasmith.jobs.request import option

if TYPE_CHECKING:
    from lorasmith.curation.changes.plan import Plan


class SortRequest(ChangeRequest):
    """Move pictures of DIR into folders: each into that of the first RULE that takes it.

    A RULE is 'FILTER -> FOLDER', as in 'tag:hat -> hats' or '-tag:zorp -> others'; a FOLDER is a
    path from the dataset's folder on. Captions, masks and other side files go along. Pictures
    that no rule takes stay where they are.
    """

    verb: ClassVar = "dataset sort"

    folder: UserPath = option(
        ..., "A folder of pictures; with those in it", metavar="DIR", positional=True
    )
    rules: list[str] = option(..., "FILTER -> FOLDER", metavar="RULE...", positional=True)
    where: str = option(
        "", "Only pictures that this filter takes; see docs/dataset-filter.md", metavar="FILTER"
    )
    also: list[UserPath] = option(
        [], "Sort another folder likewise, within itself; may be repeated", metavar="DIR"
    )

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        from lorasmith.curation.collection import open_collection
        from lorasmith.curation.sorting.sort import plan_sort

        return plan_sort(
            open_collection([self.folder, *self.also], observer=observer),
            self.rules,
            self.where,
            observer=observer,
            controls=controls,
        )


class DedupeRequest(FolderChangeRequest):
    """Put pictures that are there twice into the trash, but for the best of each.

    The best is the largest, of those the least compressed, of those the one with most tags.
    Captions, masks and other side files of the others go along.
    """

    verb: ClassVar = "dataset dedupe"

    exact: bool = option(False, "Only the same files, not those that look nearly the same")
    keep_tags: bool = option(
        False, "Put tags that only the others have behind those of the picture that stays"
    )

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        from lorasmith.curation.collection import open_collection
        from lorasmith.curation.sorting.dedupe import plan_dedupe

        return plan_dedupe(
            open_collection(self.folders, observer=observer),
            self.where,
            exact=self.exact,
            keep_tags=self.keep_tags,
            observer=observer,
            controls=controls,
        )
