"""Requests that bring images into a dataset, and that rename them."""

from __future__ import annotations

import os
import shlex
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from lorasmith.config.values import UserPath
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.events import Controls, Observer
from lorasmith.jobs.dataset.changes import ChangeRequest, FolderChangeRequest
from lorasmith.jobs.request import option

if TYPE_CHECKING:
    from lorasmith.curation.changes.plan import Plan
    from lorasmith.curation.sidecars.tags import TagRules


class TagsRequest(ChangeRequest):
    """What all verbs that bring images in have in common: what becomes of their tags."""

    drop: str = option(
        "meta",
        "Kinds of tags to leave out, of character, copyright, artist, species, meta, quality, "
        'model, lore and general; "none" for none',
        metavar="KIND,...",
    )
    ratings: bool = option(False, "Write the rating (safe, explicit …) as a tag")
    underscores: bool = option(False, "Keep long_hair, rather than make it long hair")

    def rules(self) -> TagRules:
        """
        Raises:
            UserError: a kind of tags is not known.
        """
        from lorasmith.curation.sidecars.tags import TagRules, parse_categories

        return TagRules(parse_categories([self.drop]), self.ratings, self.underscores)


class IntoRequest(TagsRequest):
    """What verbs that add to a dataset have in common."""

    into: UserPath = option(..., "The folder that they are copied into", metavar="DIR")
    captions: Literal["keep", "replace", "append"] = option(
        "keep", "Of pictures that DIR has already: keep theirs, replace them, or append what is new"
    )


class ImportPicturesRequest(IntoRequest):
    """Copy pictures from SRC into a dataset, with captions made of the tags beside them.

    SRC is a folder, a picture, or a ZIP or CBZ archive. Read are Grabber's and Hydrus' text files,
    gallery-dl's and the sites' JSON, metadata.jsonl, CSV, kohya's meta_*.json, and the prompts in
    generated pictures. What the dataset has already is not copied twice. See
    docs/dataset-import.md.
    """

    verb: ClassVar = "dataset import"

    sources: list[UserPath] = option(
        ..., "Where the pictures are", metavar="SRC...", positional=True
    )
    name_tags: str = option(
        "",
        "Tags that stand in the files' names, as Grabber writes them: "
        "%artist%/%character%/%md5%.%ext%",
        metavar="PATTERN",
    )
    prompts: bool = option(
        True, "Make no captions of the prompts in generated pictures", flag="no-prompts"
    )
    keep_folders: bool = option(False, "Keep the folders of SRC, rather than copy all into one")

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        from lorasmith.curation.importing.import_images import plan_import

        return plan_import(
            self.sources,
            self.into,
            captions=self.captions,
            rules=self.rules(),
            name_tags=self.name_tags,
            prompts=self.prompts,
            keep_folders=self.keep_folders,
            command=f"import {' '.join(path.name for path in self.sources)}"[:200],
            observer=observer,
            controls=controls,
        )


class GatherRequest(IntoRequest):
    """Fetch the pictures of pages, and import them with their tags.

    URL is a search, a gallery, an artist or one post on any site that gallery-dl knows; it does the
    work, and keeps the pauses between requests that each site wants. What came is not fetched
    again, so that the same command goes on where it ended. See docs/dataset-import.md.
    """

    verb: ClassVar = "dataset gather"

    urls: list[str] = option(..., "Addresses of pages", metavar="URL...", positional=True)
    limit: int = option(100, "New pictures at most; 0 for all", metavar="N", ge=0)
    pause: float = option(
        0.5, "Seconds between two pictures", metavar="SECONDS", unit="seconds", ge=0, le=3600
    )
    wait: float = option(
        60.0,
        "Seconds to wait when a site says that there were too many requests; more each time",
        metavar="SECONDS",
        unit="seconds",
        ge=1,
        le=86400,
    )
    again: bool = option(False, "Also fetch what came earlier")
    own_settings: UserPath | None = option(
        None,
        "Settings of gallery-dl's, for accounts and keys",
        flag="gallery-dl-config",
        metavar="FILE.json",
    )

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        from lorasmith.curation.importing.gather import plan_gather

        return plan_gather(
            self.urls,
            self.into,
            limit=self.limit,
            pause=self.pause,
            wait=self.wait,
            again=self.again,
            own_settings=self.own_settings,
            captions=self.captions,
            rules=self.rules(),
            simulate=self.dry_run,
            observer=observer,
            controls=controls,
        )


class InitRequest(TagsRequest):
    """Make a project in DIR: folders img/N_name, reg, log and mdl, with pictures in their place.

    N, the repeats of each picture in an epoch, is worked out from the steps that the training shall
    have; nothing else comes of --steps, --epochs and --batch: a training has its own. Pictures that
    lie in DIR itself move to their place; others are copied from --from, with captions made of the
    tags beside them. Nothing that is there is overwritten. Several DIR become a project each.
    """

    verb: ClassVar = "dataset init"

    folders: list[UserPath] = option(
        ..., "The projects' folders", metavar="DIR...", positional=True
    )
    sources: list[UserPath] = option(
        [],
        "Where pictures are copied from, as in `dataset import`; may be repeated",
        flag="from",
        metavar="SRC",
    )
    name: str = option(
        "", "Of the pictures' folder", metavar="NAME", default_text="the project's folder's"
    )
    steps: int = option(1500, "Steps that the training shall have", metavar="N", ge=1)
    epochs: int = option(10, "Epochs of the training", metavar="N", ge=1)
    batch: int = option(1, "Pictures per batch", metavar="N", ge=1)
    plain: bool = option(False, "Pictures in DIR itself, without folders around them")
    move: bool = option(False, "Move the pictures of --from, which lie in DIR, rather than copy")

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        from lorasmith.curation.importing.project import plan_project, plan_projects

        folders = list({os.path.abspath(folder): folder for folder in self.folders}.values())
        if self.sources and len(folders) > 1:
            what = f"fills one project, and there are {len(folders)}"
            raise SettingsError(Problem("sources", what, "give one DIR"))
        plan = partial(
            plan_project,
            sources=self.sources,
            name=self.name,
            steps=self.steps,
            epochs=self.epochs,
            batch=self.batch,
            plain=self.plain,
            move=self.move,
            rules=self.rules(),
            observer=observer,
            controls=controls,
        )
        return plan_projects([plan(folder) for folder in folders])


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
        from lorasmith.curation.edit.rename import plan_rename, plan_trim_digits
        from lorasmith.curation.filter import parse_filter

        if (self.prefix is not None) == self.trim_digits:
            what = "say either --prefix NAME or --trim-digits"
            raise SettingsError(Problem("prefix", what, "as in --prefix zorp"))
        collection = open_collection(self.folders, observer=observer)
        images = parse_filter(self.where).select(collection, observer, controls)
        words = ["rename", *(["--prefix", self.prefix] if self.prefix else ["--trim-digits"])]
        command = shlex.join([*words, "--where", self.where] if self.where else words)
        if self.prefix is None:
            return plan_trim_digits(collection, images, command)
        return plan_rename(
            collection, images, self.prefix, command, start=self.start, digits=self.digits
        )
