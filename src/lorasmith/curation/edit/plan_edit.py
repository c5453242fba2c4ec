"""Edits of a whole collection's captions, as a plan."""

from __future__ import annotations

import contextlib
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, Observer, Progress, ignore
from lorasmith.core.file_names import common_folder
from lorasmith.core.text import quantity, shortlist
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import Collection, CollectionImage
from lorasmith.curation.edit.caption_text import (
    CaptionFile,
    caption_count,
    edit_captions,
    joined_lines,
)
from lorasmith.curation.edit.new_captions import captions_in_tables
from lorasmith.curation.edit.operations import (
    Operation,
    edit_line,
    read_operations,
    shown,
    tags_without_caption,
)
from lorasmith.curation.edit.spelling import bare
from lorasmith.curation.edit.tag_edits import CaptionContext, kinds_in
from lorasmith.curation.filter import parse_filter
from lorasmith.curation.importing.sources import FileEntry
from lorasmith.curation.sidecars.kinds import remembered_kinds
from lorasmith.curation.sidecars.read import SUFFIXES as SIDE_CARS
from lorasmith.curation.sidecars.read import read_sidecars
from lorasmith.data.captions import split_tags
from lorasmith.data.images import SUFFIXES as IMAGE_SUFFIXES
from lorasmith.data.layout import FolderSpec, folder_caption

NOT_TEXT = "is not text, and left alone"
_NEED_COUNTS = ("remove", "replace", "rename-tag", "sort=count")
_PLURALS = {"is": "are", "has": "have", "gets": "get", "keeps": "keep", "its": "their"}
_EVERY = 200  # captions between two looks at whether to stop


def plan_edit(
    collection: Collection,
    operations: Sequence[str],
    where: str = "",
    *,
    images: Sequence[CollectionImage] | None = None,
    families: Path | None = None,
    create: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Plan:
    """What operations would change in the captions.

    Args:
        operations: as :func:`.operations.read_operations` takes them, in this order.
        where: only captions of images that this filter takes.
        images: of the collection; only captions of these.
        families: of tags, besides those that ship, for ``consolidate``.
        create: also write captions for images without a caption file; what a table says of one
            is edited then.

    Raises:
        DatasetError: an operation or the filter is wrong.
        Stopped: by ``controls``.
    """
    edits = read_operations(operations, families)
    if not edits:
        hint = "say one, such as --add TAG; `lorasmith dataset edit --help` lists them"
        raise DatasetError(Problem("", "there is no operation", hint))
    plan = Plan(_command(operations, where, images), collection.roots)
    images = _chosen(collection, where, images, observer, controls)
    files = _read(images, plan, observer, controls or Controls())
    counts: Mapping[str, int] = {}
    if any(edit.text.startswith(_NEED_COUNTS) for edit in edits):
        counts = _counts(collection, files)
        plan.warnings += tags_without_caption(edits, counts)
    contexts = _Contexts(counts, _kinds(collection, edits, plan))
    stages = _stages(edits)
    for image in images:
        # Of two images of one name, the second finds it gone.
        file = files.pop(image.caption_path, None) if image.caption_path is not None else None
        if file is not None and image.caption_path is not None:
            text = _edited(file.text, stages, contexts.of(image))
            _write(plan, image.caption_path, file, text)
    without = {image.new_caption_path: image for image in images if image.caption_path is None}
    tables = captions_in_tables(list(without.values()))
    if create:
        adds = any(edit.adds for edit in edits)
        for path, image in without.items():
            old, _ = tables.get(image.path, ("", None))
            text = _edited(old, stages, contexts.of(image)) if old or adds else ""
            if text != old:
                plan.write_text(path, None, text.encode())
    else:
        _warn_of_missing(plan, [image.path for image in without.values()], tables)
    if any(edit.text.startswith("folder-name") for edit in edits):
        contexts.warn(plan)
    return plan


def plan_deletion(
    collection: Collection,
    where: str,
    *,
    images: Sequence[CollectionImage] | None = None,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Plan:
    """Put the images that a filter takes into the trash, with their captions and side files.

    Args:
        images: of the collection; only these.

    Raises:
        DatasetError: the filter is wrong; or it is empty, and no images are named.
        Stopped: by ``controls``.
    """
    if not where.strip() and images is None:
        raise DatasetError(
            Problem("delete_images", "it would take every picture", "say which: --where")
        )
    plan = Plan(_command(["delete-images"], where, images), collection.roots)
    images = _chosen(collection, where, images, observer, controls)
    gone = {image.path for image in images}
    staying = {
        file for image in collection.images if image.path not in gone for file in image.files
    }
    for file in dict.fromkeys(file for image in images for file in image.files):
        if file not in staying:
            plan.remove(file)
    return plan


def _command(
    operations: Iterable[str], where: str, images: Sequence[CollectionImage] | None
) -> str:
    words = ["edit", *map(shown, operations)]
    words += ["--where", shlex.quote(where)] if where else []
    words += [f"({quantity(len(images), 'picture')})"] if images is not None else []
    return " ".join(words)


def _chosen(
    collection: Collection,
    where: str,
    images: Sequence[CollectionImage] | None,
    observer: Observer,
    controls: Controls | None,
) -> list[CollectionImage]:
    """Those of ``images``, or of all, that a filter takes; in the collection's order."""
    taken = parse_filter(where).select(collection, observer, controls)
    some = set(images) if images is not None else None
    return [image for image in taken if some is None or image in some]


def _read(
    images: Sequence[CollectionImage], plan: Plan, observer: Observer, controls: Controls
) -> dict[Path, CaptionFile]:
    """The caption files that can be edited; others are told."""
    files: dict[Path, CaptionFile] = {}
    foreign, several = [], []
    paths = dict.fromkeys(image.caption_path for image in images if image.caption_path is not None)
    for number, path in enumerate(paths):
        if number % _EVERY == 0:
            controls.check("stopped; nothing was changed")
            observer(Progress("reading captions", number, len(paths)))
        try:
            with open(path, "rb", buffering=0) as stream:
                file = CaptionFile.of(stream.read())
        except OSError as error:
            what = f"the caption cannot be read: {error.strerror}"
            plan.skipped.append(Problem(str(path), what, "mend or remove it"))
            continue
        if not file.is_text:
            foreign.append(path)
            continue
        files[path] = file
        if "\n" in file.text.strip() and caption_count(file.text) > 1:
            several.append(path)
    warn_of_files(plan, foreign, NOT_TEXT)
    hint = "each line is edited as a caption of its own; --join-lines makes one of them"
    downloads = [path for path in several if Path(path.stem).suffix.lower() in IMAGE_SUFFIXES]
    rest = [path for path in several if path not in downloads]
    warn_of_files(plan, rest, "has several lines", hint)
    hint += "; if these are tags of a download program, `dataset import` makes captions of them"
    warn_of_files(plan, downloads, "has several lines", hint)
    return files


def _counts(collection: Collection, files: Mapping[Path, CaptionFile]) -> Counter[str]:
    """In how many captions of the collection each tag is."""
    counts: Counter[str] = Counter()
    for image in collection.images:
        file = files.get(image.caption_path) if image.caption_path is not None else None
        with contextlib.suppress(DatasetError):  # a caption that cannot be read is named already
            counts.update(set(image.tags if file is None else split_tags(file.text.lstrip())))
    return counts


def _kinds(
    collection: Collection, edits: Sequence[Operation], plan: Plan
) -> dict[str, frozenset[str]]:
    """Bare tags by the kinds that a ``prune`` asks for, as side-cars of all images have them."""
    values = [edit.text.partition("=")[2] for edit in edits if edit.text.startswith("prune=")]
    needed = {kind for value in values for kind in kinds_in(value)}
    if not needed:
        return {}
    folders = dict.fromkeys(image.path.parent for image in collection.images)
    entries = (path for folder in folders for path in sorted(folder.iterdir()))
    captions = {image.caption_path for image in collection.images}
    files = [
        FileEntry(path)
        for path in entries
        if path.suffix.lower() in SIDE_CARS and path not in captions
    ]
    found = read_sidecars([image.path for image in collection.images], files)
    kinds: dict[str, set[str]] = {kind: set() for kind in needed}
    for car in found.cars.values():
        for tag in car.tags:
            if tag.category in kinds:
                kinds[tag.category].add(bare(tag.name))
    for root in collection.roots:
        for kind, names in remembered_kinds(root).items():
            if kind in kinds:
                kinds[kind].update(map(bare, names))
    for kind in sorted(needed - {"meta"}):
        if not kinds[kind]:
            what = f"neither an import nor side-cars said which tags are of kind {kind}"
            hint = f"`lorasmith dataset import --drop {kind}` leaves them out from the start"
            plan.warnings.append(Problem("--prune", what, hint))
    return {kind: frozenset(names) for kind, names in kinds.items()}


def _stages(edits: Sequence[Operation]) -> list[list[Operation]]:
    """Operations of lines, parted where lines are joined."""
    stages: list[list[Operation]] = [[]]
    for edit in edits:
        if edit.edit is None:  # lines are joined
            stages.append([])
        else:
            stages[-1].append(edit)
    return stages


def _edited(text: str, stages: Sequence[Sequence[Operation]], context: CaptionContext) -> str:
    for number, edits in enumerate(stages):
        text = joined_lines(text) if number else text
        text = edit_captions(text, partial(edit_line, operations=edits, context=context))
    return text


def _write(plan: Plan, path: Path, file: CaptionFile, text: str) -> None:
    try:
        data = file.with_text(text)
    except DatasetError as error:
        plan.skipped += [Problem(str(path), one.what, one.hint) for one in error.problems]
        return
    if not file.encoding.startswith("UTF-") and CaptionFile.of(data).encoding == "UTF-8":
        what = f"the new text cannot be written in {file.encoding}; it becomes UTF-8"
        plan.warnings.append(Problem(str(path), what))
    plan.write_text(path, file.data, data)


class _Contexts:
    """One for each folder of images."""

    def __init__(self, counts: Mapping[str, int], kinds: Mapping[str, frozenset[str]]) -> None:
        self._counts, self._kinds = counts, kinds
        self._known: dict[tuple[Path, str], CaptionContext] = {}
        self._general: list[Path] = []

    def of(self, image: CollectionImage) -> CaptionContext:
        key = image.root, image.folder
        if key not in self._known:
            folder = image.path.parent
            name = folder_caption(FolderSpec(folder))
            self._known[key] = CaptionContext(name or "", self._counts, self._kinds)
            self._general += [] if name else [folder]
        return self._known[key]

    def warn(self, plan: Plan) -> None:
        """Of folders whose name says nothing."""
        for folder in self._general:
            what = "is a general name, which is put into no caption"
            plan.warnings.append(Problem(str(folder), what, "rename the folder"))


def _warn_of_missing(
    plan: Plan, images: Sequence[Path], tables: Mapping[Path, tuple[str, Path]]
) -> None:
    """Of images without a caption file, some of which have a caption in a table."""
    what = "has its caption in a table, which is not edited"
    hint = "--create writes it, edited, into a file of its own"
    warn_of_files(plan, [path for path in images if path in tables], what, hint)
    what, hint = "has no caption file, and gets none", "--create writes one"
    warn_of_files(plan, [path for path in images if path not in tables], what, hint)


def warn_of_files(plan: Plan, paths: Sequence[Path], what: str, hint: str = "") -> None:
    """One warning for many files."""
    if len(paths) == 1:
        plan.warnings.append(Problem(str(paths[0]), what, hint))
    elif paths:
        where = str(common_folder(path.parent for path in paths))
        names = shortlist([path.name for path in paths])
        many = (
            what.replace("is ", "are ")
            .replace("has ", "have ")
            .replace("gets ", "get ")
            .replace("its ", "their ")
        )
        plan.warnings.append(
            Problem(where, f"{quantity(len(paths), 'file')} {many} ({names})", hint)
        )
