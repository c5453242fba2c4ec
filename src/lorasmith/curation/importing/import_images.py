"""Images from elsewhere into a dataset, each with the caption that its side-cars make."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

from lorasmith.core.disk import write_error
from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, Observer, Progress, ignore
from lorasmith.core.file_names import safe_stem
from lorasmith.core.text import quantity, shortlist
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import CollectionImage, dataset_root, open_collection
from lorasmith.curation.edit.caption_text import CaptionFile, TagLine, edit_captions
from lorasmith.curation.importing.file_names import FreeNames, NamePattern
from lorasmith.curation.importing.sources import FileEntry, Sources, list_sources
from lorasmith.curation.sidecars.generation import read_generation
from lorasmith.curation.sidecars.kinds import remember_kinds
from lorasmith.curation.sidecars.read import read_sidecars
from lorasmith.curation.sidecars.tags import SideCar, TagRules, caption_of, merge, same
from lorasmith.data.cache.file_memo import hash_file
from lorasmith.data.companions import find_companions, masks_in_folders
from lorasmith.data.images import SUFFIXES, glance, read_header, readable_suffixes
from lorasmith.data.layout import FolderSpec
from lorasmith.data.recorded_crops import (
    CROP_SUFFIX,
    crop_record_of,
    crop_records,
    is_crop_record,
    read_crop_record,
)

T = TypeVar("T")

Captioned = Literal["keep", "replace", "append"]
NUMBERED = re.compile(r"\d+_.+", re.DOTALL)
"""Names of folders in kohya's layout."""

# Pictures that training does not read.
_CONVERTIBLE = (".gif", ".tif", ".tiff")
_MARKS = {"mask": "-masklabel", "control image": "-condlabel"}
_CROP = CROP_SUFFIX.removesuffix(".json")


@dataclass
class _SourceImage:
    """One content, wherever in the sources it lies.

    Args:
        entry: the first file with it.
        car: what all of its files' side-cars say.
        companions: masks, control images and recorded crops, by what stands behind the name.
    """

    entry: FileEntry
    car: SideCar
    companions: dict[str, Path] = field(default_factory=dict)


def plan_import(
    sources: Sequence[Path | str],
    into: Path | str,
    *,
    captions: Captioned = "keep",
    rules: TagRules | None = None,
    name_tags: str = "",
    prompts: bool = True,
    keep_folders: bool = False,
    command: str = "import",
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Plan:
    """Copy the images of sources into a folder, with captions of what lies beside them.

    An image that is in the folder's dataset already, or twice in the sources, is not copied again;
    what its side-cars say is, and its mask and recorded crop, where it has none. One that cannot be
    decoded is named, and not copied.

    Args:
        sources: folders, images, side-cars and archives.
        into: the folder; made where it is not there.
        captions: what becomes of those that images in the dataset have: they stay, are replaced,
            or get the tags that they lack.
        rules: for the tags.
        name_tags: a pattern of Grabber's for tags in names; see :class:`NamePattern`.
        prompts: take the prompt inside a generated image, where nothing lies beside it.
        keep_folders: copy into the folders that there are in the sources, not all into one.

    Raises:
        UserError: with everything that is wrong with the arguments.
        Stopped: by ``controls``.
    """
    controls = controls or Controls()
    rules = rules or TagRules()
    pattern = NamePattern(name_tags) if name_tags else None
    target = Path(into)
    if target.exists() and not target.is_dir():
        raise DatasetError.of(target, "is a file", "give a folder")
    for source in sources:
        if target.is_dir() and Path(source).is_dir() and os.path.samefile(source, target):
            what = "is the folder itself that is imported into"
            raise DatasetError.of(source, what, "give another --into")
    if not keep_folders:
        require_no_project(target)
    listing = list_sources([Path(path) for path in sources], target, controls)
    plan = Plan(command, [dataset_root(target)])
    entries, companions = _without_companions(listing, plan)
    hashes, present = _hash_sound(entries, target, listing, plan, observer, controls)
    records = _crop_records(list(hashes), listing, plan)
    cars = _read_cars(list(hashes), listing, plan, prompts, pattern)
    images: dict[str, _SourceImage] = {}
    for entry, content in hashes.items():
        image = images.setdefault(content, _SourceImage(entry, SideCar()))
        image.car = merge([image.car, cars.get(entry.path, SideCar())])
        own = companions.get(entry.path, {}) | records.get(entry.path, {})
        image.companions = own | image.companions
    names = _Names(target, keep_folders)
    copies = 0
    for content, image in images.items():
        caption = caption_of(image.car, rules)
        twin = present.images.get(content)
        if twin is not None:
            with plan.together(twin.path):
                _recaption(plan, twin, caption, captions)
                _complete(plan, twin, image, present, listing)
        else:
            _copy(plan, image, caption, names, listing)
            copies += 1
    root = plan.roots[0]
    tags = [tag for image in images.values() for tag in image.car.tags]
    plan.when_done.append(lambda: remember_kinds(root, tags))
    twice = len(hashes) - len(images)
    there = len(images) - copies
    _tell(plan, listing, twice, there)
    return plan


def is_mark(path: Path) -> bool:
    """Whether a file that was copied is a mask, a control image or a recorded crop."""
    return path.stem.endswith(tuple(_MARKS.values())) or is_crop_record(path)


def require_no_project(target: Path) -> None:
    """Beside ``N_name`` folders images are not trained on.

    Raises:
        DatasetError: there are some in ``target``; names one to import into.
    """
    for folder in (target, target / "img"):
        if folder.is_dir():
            names = [path.name for path in folder.iterdir() if path.is_dir()]
            project_folders = sorted(name for name in names if NUMBERED.fullmatch(name))
            if project_folders:
                hint = f"import into one of them: --into {folder / project_folders[0]}"
                raise DatasetError.of(target, "is a project, with folders for pictures", hint)


class _Names:
    """Where images go, and under which names."""

    def __init__(self, target: Path, keep_folders: bool) -> None:
        self._target, self._keep_folders = target, keep_folders
        self._free: dict[Path, FreeNames] = {}

    def stem_for(self, entry: FileEntry) -> Path:
        """The path of a file without its ending."""
        place = entry.place if self._keep_folders else PurePosixPath()
        folder = self._target.joinpath(*map(safe_stem, place.parts))
        if folder not in self._free:
            there = [path.name for path in folder.iterdir()] if folder.is_dir() else []
            self._free[folder] = FreeNames(there)
        return folder / self._free[folder].take(entry.path.stem)


def _without_companions(
    listing: Sources, plan: Plan
) -> tuple[list[FileEntry], dict[Path, dict[str, Path]]]:
    """The images themselves; and their masks and control images, by the mark that these get."""
    by_folder: dict[Path, list[FileEntry]] = defaultdict(list)
    for entry in listing.images:
        by_folder[entry.path.parent].append(entry)
    caption_stems = {entry.path.with_suffix("") for entry in listing.files}
    companion_paths: set[Path] = set()
    companions: dict[Path, dict[str, Path]] = defaultdict(dict)
    for folder, entries in by_folder.items():
        paths = [entry.path for entry in entries]
        texts = {path for path in paths if path.with_suffix("") in caption_stems}
        result = find_companions(paths, texts)
        companion_paths |= {one.path for one in result}
        for one in result:
            if one.owner is not None and one.kind in _MARKS:
                companions[one.owner][_MARKS[one.kind]] = one.path
        try:
            without_masks = [path for path in paths if path not in companion_paths]
            masks = masks_in_folders(FolderSpec(folder), without_masks)
        except DatasetError as error:
            plan.skipped += map(listing.told, error.problems)
        else:
            for image, mask in masks.items():
                companions[image].setdefault(_MARKS["mask"], mask)
    images = [entry for entry in listing.images if entry.path not in companion_paths]
    suffixes = readable_suffixes()
    for entry in images:
        suffix = entry.path.suffix.lower()
        if suffix not in suffixes:
            listing.others[suffix] += 1
    return [entry for entry in images if entry.path.suffix.lower() in suffixes], companions


def _hash_sound(
    entries: Sequence[FileEntry],
    target: Path,
    listing: Sources,
    plan: Plan,
    observer: Observer,
    controls: Controls,
) -> tuple[dict[FileEntry, str], _Present]:
    """The hash of each image that can be decoded to its end, and those that the dataset has.

    Each content is decoded once, and what the dataset has is not."""

    def of(entry: FileEntry, look: Callable[[Path], T]) -> T | Problem:
        controls.check()
        try:
            return look(entry.path)
        except DatasetError as error:
            return error.problems[0]
        except OSError as error:
            return Problem(str(entry.path), f"cannot be read: {error.strerror}")

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        results = pool.map(lambda entry: of(entry, _hash), entries)
        hashes = dict(zip(entries, results, strict=True))
        contents = {entry: one for entry, one in hashes.items() if isinstance(one, str)}
        present = _present(target, list(contents))
        new = [pair for pair in contents.items() if pair[1] not in present.images]
        first = {one: entry for entry, one in reversed(new)}
        looks = pool.map(lambda entry: of(entry, glance), first.values())
        problems: dict[str, Problem] = {}
        for number, (content, look) in enumerate(zip(first, looks, strict=True), 1):
            if isinstance(look, Problem):
                problems[content] = look
            observer(Progress("looking at pictures", number, len(first)))
    for entry, one in hashes.items():
        problem = one if isinstance(one, Problem) else problems.get(one)
        if problem is not None:
            where, what = listing.shown(entry.path), listing.shown(problem.what)
            plan.skipped.append(Problem(where, what, problem.hint))
    return {entry: one for entry, one in contents.items() if one not in problems}, present


def _hash(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError:
        glance(path)  # It says better what is wrong.
        raise


def _read_cars(
    entries: Sequence[FileEntry],
    listing: Sources,
    plan: Plan,
    prompts: bool,
    pattern: NamePattern | None,
) -> dict[Path, SideCar]:
    prompt_of: Callable[[Path], SideCar] = read_generation if prompts else lambda path: SideCar()
    result = read_sidecars(
        [entry.path for entry in entries], listing.files, prompt_of, listing.named
    )
    plan.skipped += map(listing.told, result.problems)
    if result.orphans:
        names = [Path(listing.shown(path)).name for path in result.orphans]
        count = quantity(len(names), "side-car")
        verb = "belongs" if len(names) == 1 else "belong"
        what = f"{count} {verb} to no picture that is copied: {shortlist(names, 10)}"
        plan.warnings.append(Problem("", what))
    cars = result.cars
    if pattern is not None:
        nameless = 0
        for entry in entries:
            tags = pattern.tags(entry.path)
            nameless += not tags
            cars[entry.path] = merge([cars.get(entry.path, SideCar()), SideCar(tags)])
        if nameless:
            what = f"{quantity(nameless, 'name', 'is')} not of the form that --name-tags gives"
            plan.warnings.append(Problem("", what))
    return cars


@dataclass
class _Present:
    """What the dataset has of the sources.

    Args:
        images: by their hash.
        masks: by image.
        stems: how many images are called so but for their endings.
    """

    images: dict[str, CollectionImage] = field(default_factory=dict)
    masks: dict[Path, Path] = field(default_factory=dict)
    stems: Counter[Path] = field(default_factory=Counter)


def _present(target: Path, entries: Sequence[FileEntry]) -> _Present:
    """The images of the dataset that have the content of some source; only files of the same size
    are read."""
    if not target.is_dir():
        return _Present()
    sizes = {entry.path.stat().st_size for entry in entries}
    collection = open_collection(target)
    stems = Counter(image.path.with_suffix("") for image in collection.images)
    present = _Present(masks=collection.masks, stems=stems)
    for image in collection.images:
        try:
            if image.path.stat().st_size in sizes:
                present.images[hash_file(image.path)] = image
        except OSError:
            continue  # It cannot be compared; training and `dataset check` name it.
    return present


def _crop_records(
    entries: Sequence[FileEntry], listing: Sources, plan: Plan
) -> dict[Path, dict[str, Path]]:
    """The crops that are recorded of images, by the mark that these get."""
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for entry in listing.records:
        by_folder[entry.path.parent].append(entry.path)
    records = {folder: crop_records(paths) for folder, paths in by_folder.items()}
    orphans = {entry.path for entry in listing.records}
    by_image: dict[Path, dict[str, Path]] = {}
    for path in (entry.path for entry in entries):
        record = crop_record_of(path, records.get(path.parent, {}))
        if record is None:
            continue
        orphans.discard(record)
        try:
            header = read_header(path)
            read_crop_record(record, (header.width, header.height))
        except DatasetError as error:
            problem = listing.told(error.problems[0])
            plan.skipped.append(replace(problem, what=f"not copied: {problem.what}"))
        else:
            by_image[path] = {_CROP: record}
    if orphans:
        what = "the crop of no picture that is copied"
        plan.warnings += [Problem(listing.shown(path), what) for path in sorted(orphans)]
    return by_image


def _complete(
    plan: Plan, twin: CollectionImage, image: _SourceImage, present: _Present, listing: Sources
) -> None:
    """Give an image that is there the mask and the recorded crop of its source, if it has none."""
    has_crop = crop_record_of(twin.path, crop_records(twin.companions)) is not None
    missing = {_MARKS["mask"]: twin.path not in present.masks, _CROP: not has_crop}
    for mark, source in image.companions.items():
        if missing.get(mark):
            # Of a.png and a.jpg, a.crop.json would be of both.
            shared = mark == _CROP and present.stems[twin.path.with_suffix("")] > 1
            stem = twin.path.name if shared else twin.path.stem
            path = twin.path.with_name(f"{stem}{mark}{source.suffix.lower()}")
            if not path.exists():
                what = f"from {listing.shown(source)}"
                plan.write_file(path, _copier(source, listing), what=what)


def _recaption(plan: Plan, image: CollectionImage, caption: str, captions: Captioned) -> None:
    """Give an image that is there its caption, as far as that is wished."""
    path = image.new_caption_path
    before = path.read_bytes() if image.caption_path is not None else None
    if not caption or (before is not None and image.caption and captions == "keep"):
        return
    if before is None or not image.caption:
        plan.write_text(path, before, caption.encode())
        return
    try:
        file = CaptionFile.of(before)
        text = caption
        if captions == "append":
            text = edit_captions(file.text, lambda line: _appended(line, caption))
        plan.write_text(path, before, file.with_text(text))
    except DatasetError as error:
        plan.skipped += [Problem(str(path), each.what, each.hint) for each in error.problems]


def _appended(line: str, caption: str) -> str:
    tags = TagLine(line)
    tag_names = {same(tag) for tag in tags.tags}
    new = [tag for tag in TagLine(caption.replace("\n", ", ")).tags if same(tag) not in tag_names]
    tags.insert(len(tags.tags), new)
    return str(tags)


def _copy(plan: Plan, image: _SourceImage, caption: str, names: _Names, listing: Sources) -> None:
    stem = names.stem_for(image.entry)
    files = {"": image.entry.path, **image.companions}
    with plan.together(stem.with_name(f"{stem.name}{image.entry.path.suffix.lower()}")):
        for mark, source in files.items():
            path = stem.with_name(f"{stem.name}{mark}{source.suffix.lower()}")
            plan.write_file(path, _copier(source, listing), what=f"from {listing.shown(source)}")
        if caption:
            plan.write_text(stem.with_name(f"{stem.name}.txt"), None, caption.encode())


def _copier(source: Path, listing: Sources) -> Callable[[Path], None]:
    """Copies when the plan is applied; until then what was unpacked stays, with the listing."""

    def copy(target: Path) -> None:
        try:
            with open(source, "rb"):
                pass
        except OSError as error:
            what = f"cannot be read: {error.strerror}"
            raise DatasetError.of(listing.shown(source), what) from error
        try:
            shutil.copyfile(source, target)
        except OSError as error:
            raise write_error(target, error) from error

    return copy


def _tell(plan: Plan, listing: Sources, twice: int, there: int) -> None:
    """What was not copied, and why."""
    plan.skipped += map(listing.told, listing.problems)
    if twice:
        verb = "is" if twice == 1 else "are"
        what = f"{quantity(twice, 'picture')} in the sources {verb} a copy of another"
        plan.warnings.append(Problem("", what.replace("are a copy", "are copies"), ""))
    if there:
        plan.notes.append(f"{quantity(there, 'picture', 'is')} in the dataset already")
    kinds = {kind: n for kind, n in listing.others.items() if n and kind}
    images = {kind: kinds.pop(kind) for kind in _CONVERTIBLE if kind in kinds}
    for those, told, hint in (
        (images, plan.skipped, "make them PNG first: lorasmith dataset convert SRC"),
        (kinds, plan.warnings, ""),
    ):
        if those:
            counts = ", ".join(f"{kind}: {n}" for kind, n in sorted(those.items())[:10])
            what = f"{quantity(sum(those.values()), 'other file', 'is')} not imported ({counts})"
            told.append(Problem("", what, hint))
    if not listing.images:
        endings = ", ".join(sorted(SUFFIXES))
        plan.problems.append(
            Problem("", "there is no picture in the sources", f"these are: {endings}")
        )
