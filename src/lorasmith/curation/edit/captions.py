"""Whole captions: written where there are none, renamed, merged, put into images and taken out
again; as plans.

Captions that have text are written over only where ``overwrite`` says so.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, Observer, Progress, ignore
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import Collection, CollectionImage
from lorasmith.curation.edit.caption_text import CaptionFile, TagLine, edit_captions
from lorasmith.curation.edit.new_captions import captions_in_tables
from lorasmith.curation.edit.plan_edit import NOT_TEXT, warn_of_files
from lorasmith.curation.edit.spelling import bare, with_spaces
from lorasmith.curation.images.image_metadata import (
    SUFFIXES,
    copied,
    embed_caption,
    embedded_caption,
)
from lorasmith.data.companions import stem_of
from lorasmith.data.images import SUFFIXES as IMAGE_SUFFIXES
from lorasmith.data.layout import FolderSpec, folder_caption
from lorasmith.data.scan import CAPTION_SUFFIXES

# Numbers that programs put before a name (the web UI's 00012-0-name) or behind it (name_001,
# name (2)), and Danbooru's hash.
_BEFORE = re.compile(r"\d+(?:-\d+)*[-_ .]+(?=\D)")
_BEHIND = re.compile(r"(?:[-_ .]+\(?\d+\)?|[-_ .]*\(\d+\))+$")
_HASH = re.compile(r"(?:^|[-_ .]+)[0-9a-f]{32,}$", re.IGNORECASE)
_EXTENSION = re.compile(r"\.?([A-Za-z0-9_-]{1,16})")


def caption_from_name(stem: str) -> str | None:
    """What the name of a file says, without its ending: ``00012-0-red_hat_003`` is "red hat";
    ``None`` of numbers alone.

    Commas in it part tags.
    """
    name = _HASH.sub("", stem)
    match = _BEFORE.match(name)
    name = _BEHIND.sub("", name[match.end() :] if match else name).strip(" _-.")
    tags = [with_spaces(tag) for tag in TagLine(name).tags]
    return None if all(tag.isdigit() for tag in tags) else ", ".join(tags)


def plan_set(
    collection: Collection,
    images: Sequence[CollectionImage],
    text: str,
    command: str,
    *,
    overwrite: bool = False,
) -> Plan:
    """The same text for every image; an empty one makes empty files.

    Args:
        images: of the collection.
        overwrite: also in the place of captions that there are.
    """
    plan = Plan(command, collection.roots)
    _write_each(plan, images, lambda image: text, overwrite=overwrite)
    return plan


def plan_from_names(
    collection: Collection,
    images: Sequence[CollectionImage],
    command: str,
    *,
    overwrite: bool = False,
) -> Plan:
    """Each image's name as its caption; see :func:`caption_from_name`."""
    plan = Plan(command, collection.roots)
    without = _write_each(
        plan, images, lambda image: caption_from_name(stem_of(image.path)), overwrite=overwrite
    )
    warn_of_files(plan, without, "has a name of numbers alone, which gives no caption")
    return plan


def plan_from_folders(
    collection: Collection,
    images: Sequence[CollectionImage],
    command: str,
    *,
    overwrite: bool = False,
) -> Plan:
    """The folder's name, without its repeats, as the caption of each image in it."""
    plan = Plan(command, collection.roots)
    folders = dict.fromkeys(image.path.parent for image in images)
    names = {folder: folder_caption(FolderSpec(folder)) for folder in folders}
    for folder, name in names.items():
        if not name:
            what = "is a general name, which gives no caption"
            plan.warnings.append(Problem(str(folder), what, "rename the folder"))
    _write_each(plan, images, lambda image: names[image.path.parent], overwrite=overwrite)
    return plan


def plan_extract(
    collection: Collection,
    images: Sequence[CollectionImage],
    command: str,
    *,
    overwrite: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Plan:
    """Captions that are embedded in the images, into caption files.

    Raises:
        Stopped: by ``controls``.
    """
    plan = Plan(command, collection.roots)
    texts: dict[Path, str | None] = {}
    for image, data in _contents(plan, images, observer, controls):
        try:
            texts[image.path] = embedded_caption(data) or None
        except ValueError as error:
            plan.skipped.append(Problem(str(image.path), str(error), "get it again or remove it"))
    readable = [image for image in images if image.path in texts]
    without = _write_each(plan, readable, lambda image: texts[image.path], overwrite=overwrite)
    warn_of_files(plan, without, "has no caption in it")
    return plan


def plan_embed(
    collection: Collection,
    images: Sequence[CollectionImage],
    command: str,
    *,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Plan:
    """Each caption into its image: PNG's Description, EXIF's ImageDescription, XMP's
    dc:description. The pixels' bytes stay.

    Raises:
        Stopped: by ``controls``.
    """
    plan = Plan(command, collection.roots)
    tables = captions_in_tables([image for image in images if image.caption_path is None])
    texts: dict[Path, str] = {}
    for image in images:
        with plan.together(image.path):
            texts[image.path] = image.caption or tables.get(image.path, ("",))[0]
    without = [path for path, text in texts.items() if not text]
    warn_of_files(plan, without, "has no caption to embed")
    captioned = [image for image in images if texts.get(image.path)]
    for image, data in _contents(plan, captioned, observer, controls):
        change = partial(embed_caption, text=texts[image.path])
        _rewrite(plan, image.path, data, change, "caption embedded")
    return plan


def plan_copy_metadata(
    collection: Collection,
    images: Sequence[CollectionImage],
    source: Path,
    command: str,
    *,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Plan:
    """EXIF, XMP and PNG text of the images in ``source`` into those of the same name.

    Args:
        source: a folder, or one image where the collection has one of its name.

    Raises:
        DatasetError: ``source`` is not there, or holds no image.
        Stopped: by ``controls``.
    """
    plan = Plan(command, collection.roots)
    sources = _Namesakes(source, sorted(SUFFIXES))
    pairs: dict[Path, Path | None] = {}
    for image in images:
        with plan.together(image.path):
            pairs[image.path] = sources.of(image)
    warn_of_files(plan, [p for p, one in pairs.items() if one is None], "has no namesake there")
    chosen = [image for image in images if pairs.get(image.path) is not None]
    for image, data in _contents(plan, chosen, observer, controls):
        path = pairs[image.path]
        assert path is not None
        try:
            theirs = path.read_bytes()
        except OSError as error:
            plan.skipped.append(Problem(str(path), f"cannot be read: {error.strerror}"))
            continue
        change = partial(_copied, theirs, path)
        _rewrite(plan, image.path, data, change, f"metadata of {path.name}")
    return plan


def _copied(source: bytes, path: Path, target: bytes) -> bytes:
    try:
        return copied(source, target)
    except ValueError as error:
        raise ValueError(f"{error} (or {path.name} is)") from error


def plan_rename_extension(
    collection: Collection, images: Sequence[CollectionImage], extension: str, command: str
) -> Plan:
    """Caption files with another ending, under their images' names.

    Raises:
        DatasetError: it is no such ending.
    """
    match = _EXTENSION.fullmatch(extension)
    suffix = f".{match[1]}" if match else ""
    if not suffix or suffix.lower() in IMAGE_SUFFIXES:
        raise DatasetError(
            Problem("to", f"{extension!r} is no ending of captions", "say txt or caption")
        )
    plan = Plan(command, collection.roots)
    files = {image.caption_path: image for image in images if image.caption_path is not None}
    for path, image in files.items():
        with plan.together(image.path):
            plan.move(path, image.path.with_name(f"{image.path.stem}{suffix}"))
    if files and suffix not in CAPTION_SUFFIXES:
        what = f"training looks for {' and '.join(CAPTION_SUFFIXES)} unless it is told"
        hint = f'set captions.extension = "{suffix}"'
        plan.warnings.append(Problem(suffix, what, hint))
    return plan


def plan_merge(
    collection: Collection, images: Sequence[CollectionImage], source: Path, command: str
) -> Plan:
    """Captions of the same names in another folder into these: the tags that are missing go behind
    those that are there, in any spelling; an empty caption takes the whole text.

    Raises:
        DatasetError: ``source`` is not there, holds no caption, or is the folder itself.
    """
    plan = Plan(command, collection.roots)
    sources = _Namesakes(source, CAPTION_SUFFIXES)
    if any(os.path.samefile(source, folder) for folder in collection.folders):
        what = "is the folder itself whose captions it would be merged with"
        raise DatasetError(Problem(str(source), what, "name another"))
    tables = captions_in_tables([image for image in images if image.caption_path is None])
    seen: set[Path] = set()
    without = []
    for image in images:
        target = image.new_caption_path
        with plan.together(image.path):
            path = sources.of(image)
            if path is None or target in seen:
                without += [image.path] if path is None else []
                continue
            seen.add(target)
            theirs = CaptionFile.of(path.read_bytes())
            before = None if image.caption_path is None else image.caption_path.read_bytes()
            ours = CaptionFile.of(before or tables.get(image.path, ("",))[0].encode())
            foreign = next((p for p, f in ((path, theirs), (target, ours)) if not f.is_text), None)
            if foreign is not None:
                raise DatasetError.of(foreign, "is not a text file; nothing is merged")
            if not ours.text.strip():
                plan.write_text(target, before, theirs.data)
                continue
            tags = TagLine(theirs.text.strip().split("\n", 1)[0]).tags
            text = edit_captions(ours.text, partial(_with_missing, tags=tags))
            if before is not None or text != ours.text:
                plan.write_text(target, before, ours.with_text(text))
    warn_of_files(plan, without, "has no caption there")
    return plan


def _with_missing(caption: str, tags: Sequence[str]) -> str:
    line = TagLine(caption)
    names = {bare(tag) for tag in line.tags}
    line.insert(len(line.tags), [tag for tag in tags if bare(tag) not in names])
    return str(line)


class _Namesakes:
    """Files of another folder by the names of images: with their endings, else without."""

    def __init__(self, source: Path, endings: Sequence[str]) -> None:
        """
        Args:
            source: a folder, with those in it; or one file.
            endings: of its files; of two in one folder the first is taken.
        """
        if not source.exists():
            raise DatasetError(Problem(str(source), "does not exist", "correct the path"))
        files = [source] if source.is_file() else sorted(source.rglob("*"))
        files = [path for path in files if path.suffix.lower() in endings and path.is_file()]
        files.sort(key=lambda path: endings.index(path.suffix.lower()))
        self._by_name: dict[str, dict[Path, Path]] = defaultdict(dict)
        for path in files:
            if not any(part.startswith(".") for part in path.relative_to(source).parts):
                for name in (path.name, stem_of(path)):
                    self._by_name[name].setdefault(path.parent, path)
        if not self._by_name:
            what = f"there is no {' or '.join(endings)} file in it"
            raise DatasetError(Problem(str(source), what, "correct the path"))

    def of(self, image: CollectionImage) -> Path | None:
        """That of an image; of several folders, in the one that is called as the image's.

        Raises:
            DatasetError: there are several.
        """
        by_folder = self._by_name.get(image.path.name) or self._by_name.get(stem_of(image.path), {})
        own = Path(os.path.abspath(image.path.parent)).name
        files = [path for folder, path in by_folder.items() if folder.name == own]
        files = files if len(files) == 1 else list(by_folder.values())
        if len(files) > 1:
            names = " and ".join(str(path) for path in files[:2])
            what = f"there are several files of its name: {names}"
            raise DatasetError.of(image.path, what, "name one of their folders")
        return files[0] if files else None


def _write_each(
    plan: Plan,
    images: Iterable[CollectionImage],
    text_of: Callable[[CollectionImage], str | None],
    *,
    overwrite: bool,
) -> list[Path]:
    """Write captions where there are none, or everywhere.

    Args:
        text_of: gives ``None`` for an image that gets none.

    Returns:
        images that have none and get none.
    """
    images = list(images)
    tables = captions_in_tables([image for image in images if image.caption_path is None])
    if tables and not overwrite:
        what = "has its caption in a table, and keeps it"
        warn_of_files(plan, list(tables), what, "--overwrite writes a file, which goes before it")
    without: list[Path] = []
    foreign: list[Path] = []
    seen: set[Path] = set()
    for image in images:
        path, text = image.new_caption_path, text_of(image)
        exists = image.caption_path is not None
        with plan.together(image.path):
            has_text = bool(image.caption) or image.path in tables
            is_kept = not overwrite and (has_text or (exists and not text))
            if text is None and not is_kept:
                without.append(image.path)
            if text is None or is_kept or path in seen:
                continue
            seen.add(path)
            before = path.read_bytes() if exists else None
            if before is not None and not overwrite and not CaptionFile.of(before).is_text:
                foreign.append(path)
                continue
            plan.write_text(path, before, text.encode())
    warn_of_files(plan, foreign, NOT_TEXT, "--overwrite writes over it")
    return without


def _contents(
    plan: Plan,
    images: Sequence[CollectionImage],
    observer: Observer,
    controls: Controls | None,
) -> Iterator[tuple[CollectionImage, bytes]]:
    """Images whose metadata can be written, with their bytes; the others are told."""
    controls = controls or Controls()
    others = [image.path for image in images if image.path.suffix.lower() not in SUFFIXES]
    warn_of_files(plan, others, "is of a kind whose metadata is not written", "convert it to PNG")
    rest = [image for image in images if image.path.suffix.lower() in SUFFIXES]
    for number, image in enumerate(rest):
        controls.check("stopped; nothing was changed")
        observer(Progress("reading pictures", number, len(rest)))
        try:
            yield image, image.path.read_bytes()
        except OSError as error:
            what = f"cannot be read: {error.strerror}"
            plan.skipped.append(Problem(str(image.path), what, "mend or remove it"))


def _rewrite(
    plan: Plan, path: Path, data: bytes, change: Callable[[bytes], bytes], what: str
) -> None:
    """Plan another content of an image, which is made when the plan is applied."""
    try:
        is_same = change(data) == data
    except ValueError as error:
        plan.skipped.append(Problem(str(path), str(error), "get it again or remove it"))
        return
    if not is_same:
        plan.write_file(path, partial(_make, path, change), what=what)


def _make(path: Path, change: Callable[[bytes], bytes], target: Path) -> None:
    try:
        target.write_bytes(change(path.read_bytes()))
    except ValueError as error:
        raise DatasetError(Problem(str(path), str(error), "mend or remove it")) from error
