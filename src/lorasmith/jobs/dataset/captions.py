"""Requests that write captions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lorasmith.config.values import UserPath
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.events import Controls, Observer
from lorasmith.jobs.dataset.changes import FolderChangeRequest
from lorasmith.jobs.request import option

if TYPE_CHECKING:
    from lorasmith.curation.plan import Plan


class EditRequest(FolderChangeRequest):
    """Edit the captions of the pictures in DIR.

    Several operations may be given; they are done in the order in which they stand. What none of
    them changes stays as it is, spaces and line ends included. Positions count from 1, negative
    ones from the end.

    A caption is tags between commas; each line of a file is a caption of its own. Tags are the same
    in the same spelling only, but for --rename-tag, --dedupe, --consolidate, --prune and --traits.
    """

    verb: ClassVar = "dataset edit"

    families: UserPath | None = option(
        None, "More families of tags for --consolidate, as in footwear: boots", metavar="FILE"
    )
    create: bool = option(False, "Also write captions for pictures that have no caption file")
    delete_images: bool = option(False, "Put the pictures into the trash, with their captions")
    operations: list[str] = option(
        [],
        "An operation as a text, such as add=hat or dedupe; as scripts keep it",
        flag="do",
        metavar="NAME[=VALUE]",
    )

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        from lorasmith.curation.collection import open_collection
        from lorasmith.curation.edit.plan_edit import plan_deletion, plan_edit

        if self.delete_images:
            if self.operations:
                what = "pictures that go have no captions to edit"
                raise SettingsError(Problem("delete_images", what, "give it alone, with --where"))
            collection = open_collection(self.folders)
            return plan_deletion(collection, self.where, observer=observer, controls=controls)
        return plan_edit(
            open_collection(self.folders),
            self.operations,
            self.where,
            families=self.families,
            create=self.create,
            observer=observer,
            controls=controls,
        )
