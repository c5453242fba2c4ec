"""The request that renames images with what belongs to them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, ClassVar

from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.events import Controls, Observer
from lorasmith.jobs.dataset.changes import FolderChangeRequest
from lorasmith.jobs.request import option

if TYPE_CHECKING:
    from lorasmith.curation.plan import Plan


class RenameRequest(FolderChangeRequest):
    """Rename the pictures in DIR, with their captions, masks and other side files.

    With --prefix zorp they become zorp_001.png and so on, in the order of their names; numbers go
    on from folder to folder, so that no two pictures are called alike. No name is ever lost:
    old and new ones may overlap in any way.
    """

    verb: ClassVar = "dataset rename"

    prefix: str | None = option(None, "The new names, before their number", metavar="NAME")
    start: int = option(1, "The first number", metavar="N", ge=0)
    digits: int | None = option(
        None, "Of each number", metavar="N", default_text="3, or as the last needs", ge=1, le=20
    )
    trim_digits: bool = option(
        False, "Name texts such as 00012-0-name.txt like the pictures name.png beside them"
    )

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        from lorasmith.curation.collection import open_collection
        from lorasmith.curation.filter import parse_filter
        from lorasmith.curation.rename import plan_rename, plan_trim_digits

        if (self.prefix is not None) == self.trim_digits:
            what = "say either --prefix NAME or --trim-digits"
            raise SettingsError(Problem("prefix", what, "as in --prefix zorp"))
        collection = open_collection(self.folders)
        images = parse_filter(self.where).select(collection, observer, controls)
        words = ["rename", *(["--prefix", self.prefix] if self.prefix else ["--trim-digits"])]
        command = shlex.join([*words, "--where", self.where] if self.where else words)
        if self.prefix is None:
            return plan_trim_digits(collection, images, command)
        return plan_rename(
            collection, images, self.prefix, command, start=self.start, digits=self.digits
        )
