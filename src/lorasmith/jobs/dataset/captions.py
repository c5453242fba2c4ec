"""Requests that write captions."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, ClassVar

from lorasmith.config.values import UserPath
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.events import Controls, Observer
from lorasmith.jobs.dataset.changes import FolderChangeRequest
from lorasmith.jobs.request import option

if TYPE_CHECKING:
    from lorasmith.curation.changes.plan import Plan


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
            collection = open_collection(self.folders, observer=observer)
            return plan_deletion(collection, self.where, observer=observer, controls=controls)
        return plan_edit(
            open_collection(self.folders, observer=observer),
            self.operations,
            self.where,
            families=self.families,
            create=self.create,
            observer=observer,
            controls=controls,
        )


class CaptionsRequest(FolderChangeRequest):
    """Write whole captions for the pictures in DIR, or take them elsewhere.

    Say one of --set, --from-names, --from-folder, --extract, --embed, --to, --merge and
    --copy-metadata. Captions that have text stay as they are unless --overwrite is given.
    """

    verb: ClassVar = "dataset captions"

    text: str | None = option(
        None, 'This text, where there is none; "" makes empty files', flag="set", metavar="TEXT"
    )
    from_names: bool = option(False, "What the pictures' names say: 00012-0-red_hat_003 is red hat")
    from_folder: bool = option(False, "The folder's name, without its repeats")
    extract: bool = option(False, "What --embed, or another program, put into the pictures")
    overwrite: bool = option(False, "Also in the place of captions that there are")
    embed: bool = option(
        False, "Put captions into the pictures' metadata (PNG text, EXIF, XMP); pixels stay"
    )
    to: str | None = option(
        None, "Give caption files another ending, such as .caption", metavar="EXT"
    )
    merge: UserPath | None = option(
        None, "Add what captions of the same names in another folder say", metavar="FROM"
    )
    copy_metadata: UserPath | None = option(
        None,
        "Copy EXIF, XMP and PNG text of the pictures in FROM to those of the same name in DIR",
        metavar="FROM",
    )

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        from lorasmith.curation.collection import open_collection
        from lorasmith.curation.edit import captions
        from lorasmith.curation.filter import parse_filter

        action = self._action()
        over = ("text", "from_names", "from_folder", "extract")
        if self.overwrite and action not in over:
            what = "this writes over no caption"
            raise SettingsError(Problem("overwrite", what, "leave it out"))
        collection = open_collection(self.folders, observer=observer)
        images = parse_filter(self.where).select(collection, observer, controls)
        command = self._command(action)
        shown: dict[str, Any] = {"observer": observer, "controls": controls}
        if self.text is not None:
            return captions.plan_set(
                collection, images, self.text, command, overwrite=self.overwrite
            )
        if self.from_names:
            return captions.plan_from_names(collection, images, command, overwrite=self.overwrite)
        if self.from_folder:
            return captions.plan_from_folders(collection, images, command, overwrite=self.overwrite)
        if self.extract:
            return captions.plan_extract(
                collection, images, command, overwrite=self.overwrite, **shown
            )
        if self.embed:
            return captions.plan_embed(collection, images, command, **shown)
        if self.to is not None:
            return captions.plan_rename_extension(collection, images, self.to, command)
        if self.merge is not None:
            return captions.plan_merge(collection, images, self.merge, command)
        assert self.copy_metadata is not None, action
        return captions.plan_copy_metadata(collection, images, self.copy_metadata, command, **shown)

    def _action(self) -> str:
        """The field that says what to do.

        Raises:
            SettingsError: there is none, or are several.
        """
        names = ("text", "from_names", "from_folder", "extract", "embed", "to", "merge")
        values = {name: getattr(self, name) for name in (*names, "copy_metadata")}
        actions = [name for name, value in values.items() if value not in (None, False)]
        if not actions:
            hint = "say one, such as --from-folder; `lorasmith dataset captions --help` lists them"
            raise SettingsError(Problem("", "there is nothing to do", hint))
        if len(actions) > 1:
            what = "only one of these is done at a time"
            hint = "give the command once for each"
            raise SettingsError(Problem(name, what, hint) for name in actions)
        return actions[0]

    def _command(self, action: str) -> str:
        value = getattr(self, action)
        words = [f"--{'set' if action == 'text' else action.replace('_', '-')}"]
        words += [] if isinstance(value, bool) else [str(value)]
        words += ["--overwrite"] if self.overwrite else []
        words += ["--where", self.where] if self.where else []
        return shlex.join(["captions", *words])
