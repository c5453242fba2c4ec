"""Images into folders, by rules or one by one; captions, masks and what else is theirs go along."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from lorasmith.core.errors import DatasetError, Problem, collect_each
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.file_names import folded, name_problem
from lorasmith.core.text import quantity
from lorasmith.curation.changes.plan import Applied, Plan
from lorasmith.curation.collection import Collection, CollectionImage, dataset_root
from lorasmith.curation.filter import Filter, parse_filter
from lorasmith.data.companions import stem_of
from lorasmith.data.layout import is_mask_folder

_ARROW = "->"


@dataclass(frozen=True, slots=True)
class SortRule:
    """``FILTER -> FOLDER``."""

    text: str
    filter: Filter
    folder: str


def parse_rule(text: str) -> SortRule:
    """
    Raises:
        DatasetError: it has no arrow, its filter is wrong, or its folder is not in the dataset.
    """
    condition, arrow, folder = text.rpartition(_ARROW)
    if not arrow:
        hint = "write FILTER -> FOLDER, as in 'tag:hat -> hats', in quotes"
        raise DatasetError.of("rules", f'"{text}" has no arrow', hint)
    return SortRule(text.strip(), parse_filter(condition, "rules"), folder_name(folder, "rules"))


def folder_name(text: str, where: str = "folder") -> str:
    """A folder of the dataset as a path with ``/``; "" for the dataset's own.

    Raises:
        DatasetError: it leads out of the dataset, or has an odd name.
    """
    written = text.strip().replace("\\", "/")
    parts = [part for part in written.split("/") if part not in ("", ".")]
    odd = written.startswith("/") or ":" in written or any(map(_is_control, written))
    odd = odd or any(part.startswith(".") or part.endswith((" ", ".")) for part in parts)
    unfit = next(filter(None, map(name_problem, parts)), "")
    if any(is_mask_folder(part) for part in parts):
        what = f'in "{written}" pictures would be masks of others'
        raise DatasetError.of(where, what, "call the folder something else")
    if not written or odd:
        what = f'"{text.strip()}" is not a folder of the dataset' if written else "it has no folder"
        hint = "write its path from the dataset's folder on, as in 10_zorp or img/10_zorp"
        raise DatasetError.of(where, what, hint)
    if unfit:
        raise DatasetError.of(where, unfit, "call the folder something else")
    return "/".join(parts)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs")


def plan_sort(
    collection: Collection,
    rules: Sequence[str],
    where: str = "",
    *,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Plan:
    """Each image into the folder of the first rule whose filter takes it; others stay.

    Folders are those of the image's own dataset. An image gets a number behind its name where the
    folder has another of that name.

    Args:
        rules: ``FILTER -> FOLDER``.
        where: only images that this filter takes.

    Raises:
        DatasetError: with all rules that cannot be read.
        Stopped: by ``controls``.
    """
    if not rules:
        hint = "say one, such as 'tag:hat -> hats'"
        raise DatasetError.of("rules", "there is no rule", hint)
    parsed = collect_each(parse_rule, rules)
    images = parse_filter(where).select(collection, observer, controls)
    targets: dict[CollectionImage, Path] = {}
    plan = Plan(_command(rules, where), collection.roots)
    for rule in parsed:
        waiting = [image for image in images if image not in targets]
        takes = rule.filter.over(collection, waiting, observer, controls)
        taken = [image for image in waiting if takes(image)]
        targets |= {image: image.root / rule.folder for image in taken}
        plan.notes += [f"{rule.folder or '.'}: {quantity(len(taken), 'picture')}"] * bool(taken)
        if not taken:
            plan.warnings.append(Problem(rule.text, "takes no picture"))
    move_images(plan, collection, targets)
    if staying := len(images) - len(targets):
        plan.warnings.append(
            Problem("", f"{quantity(staying, 'picture', 'is')} taken by no rule, and left alone")
        )
    return plan


def _command(rules: Sequence[str], where: str) -> str:
    words = [f"'{rule}'" for rule in rules]
    return " ".join(["sort", *words, *([f"--where '{where}'"] if where else [])])


# Moving


@dataclass
class _Family:
    """Images of one name in a folder, and all that belongs to them: they keep one name."""

    image: Path
    target: Path
    files: dict[Path, None] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.image.parent

    @property
    def stem(self) -> str:
        return self.image.stem


def move_images(
    plan: Plan,
    collection: Collection,
    targets: Mapping[CollectionImage, Path],
    removals: Plan | None = None,
    deleted: Container[CollectionImage] = (),
) -> None:
    """Move images with their files into folders.

    What images share (a.png and a.jpg one caption) goes along with them, or is copied for those
    that part. Where a name is taken, the images get a number behind theirs.

    Args:
        targets: absolute folders, by image of the collection.
        removals: what leaves a dataset for another is copied by ``plan``, and removed by this.
        deleted: images that go, and need no file any more.
    """
    moving = {image: folder for image, folder in targets.items() if image.path.parent != folder}
    staying = [image for image in collection.images if image not in deleted]
    places = _places_of_files(staying, moving)
    for folder in dict.fromkeys(moving.values()):
        blocking = next((path for path in (folder, *folder.parents) if path.is_file()), None)
        if blocking is not None:
            plan.problems.append(Problem(str(blocking), "is a file, not a folder"))
    families: dict[tuple[Path, str, Path], _Family] = {}
    for image, folder in moving.items():
        key = (image.path.parent, stem_of(image.path), folder)
        family = families.setdefault(key, _Family(image.path, folder))
        family.files |= dict.fromkeys(image.files)
    leaving = {file for file, folders in places.items() if None not in folders}
    names = _Names(leaving)
    taken: set[Path] = set()
    for family in families.values():
        stem = names.free_stem(family)
        with plan.together(family.image):
            for file in family.files:
                target = _renamed(file, family, stem)
                names.take(target)
                if file in leaving and file not in taken:
                    taken.add(file)
                    _move(plan, file, target, removals)
                else:
                    plan.write_text(target, None, file.read_bytes())


def copy_images(plan: Plan, targets: Mapping[CollectionImage, Path]) -> None:
    """Copy images with their files into folders; they stay where they are, too. Where a name is
    taken, copies get a number behind theirs.

    Args:
        targets: absolute folders, by image of the collection.
    """
    names = _Names(set())
    for image, folder in targets.items():
        family = _Family(image.path, folder, dict.fromkeys(image.files))
        stem = names.free_stem(family)
        with plan.together(image.path):
            for file in family.files:
                target = _renamed(file, family, stem)
                names.take(target)
                plan.write_file(target, partial(_copy, file), what=f"copy of {file.name}")


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise DatasetError.of(source, f"cannot be copied: {error.strerror}") from error


def _places_of_files(
    images: Sequence[CollectionImage], moving: Mapping[CollectionImage, Path]
) -> dict[Path, set[Path | None]]:
    """The folders that each file goes to; ``None`` among them where an image that stays has it."""
    places: dict[Path, set[Path | None]] = defaultdict(set)
    for image in images:
        for file in image.files:
            places[file].add(moving.get(image))
    return places


def _move(plan: Plan, source: Path, target: Path, removals: Plan | None) -> None:
    if removals is None or plan.root_of(source) == plan.root_of(target):
        plan.move(source, target)
        return
    plan.write_file(target, partial(_copy, source), what=f"from {source.parent}")
    removals.remove(source, what=f"now in {target.parent}")


def _renamed(file: Path, family: _Family, stem: str) -> Path:
    """Where a file of the family goes: masks of a folder into one of that name."""
    name = file.name
    if stem != family.stem and name.startswith(family.stem):
        name = stem + name[len(family.stem) :]
    if file.parent == family.folder:
        return family.target / name
    inside = file.parent.is_relative_to(family.folder)
    place = file.parent.relative_to(family.folder) if inside else Path(file.parent.name)
    return family.target / place / name


class _Names:
    """Names in folders: those that are there and stay, and those that were given."""

    def __init__(self, leaving: set[Path]) -> None:
        self._leaving = leaving
        self._names: dict[Path, set[str]] = {}

    def free_stem(self, family: _Family) -> str:
        """The family's name, or the first of name_2, name_3 … that nothing there has."""
        stem, number = family.stem, 1
        while self._is_taken(family, stem):
            number += 1
            stem = f"{family.stem}_{number}"
        return stem

    def _is_taken(self, family: _Family, stem: str) -> bool:
        there = self._of(family.target)
        if folded(stem) in there:
            return True
        targets = (_renamed(file, family, stem) for file in family.files)
        return any(folded(target.name) in self._of(target.parent) for target in targets)

    def take(self, path: Path) -> None:
        self._of(path.parent).update((folded(path.name), folded(path.stem)))

    def _of(self, folder: Path) -> set[str]:
        """Names with and without endings: a second a.txt would be the caption of both a.png."""
        if folder not in self._names:
            staying: Iterable[Path] = ()
            if folder.is_dir():
                staying = (path for path in folder.iterdir() if path not in self._leaving)
            self._names[folder] = set()
            for path in staying:
                self.take(path)
        return self._names[folder]


# One by one

_TRASH = ""


class SortSession:
    """Images looked at one after the other, each put into a folder, thrown away or passed over.

    Nothing is touched until :meth:`apply`, so that everything can be taken back until then; and all
    of it by one ``undo`` afterwards.

    Args:
        collection: of one source, or of several.
        targets: names of folders; a folder is relative to the first source's dataset, or
            absolute.
        images: those to look at, where these are not all.
    """

    def __init__(
        self,
        collection: Collection,
        targets: Mapping[str, str | Path] | None = None,
        images: Sequence[CollectionImage] | None = None,
    ) -> None:
        self._collection = collection
        self._images = list(collection.images if images is None else images)
        self._targets: dict[str, Path] = {}
        self._decisions: list[str | None] = []
        for name, folder in (targets or {}).items():
            self.add_target(name, folder)

    @property
    def targets(self) -> dict[str, Path]:
        """Folders by name."""
        return dict(self._targets)

    def add_target(self, name: str, folder: str | Path) -> None:
        """
        Raises:
            DatasetError: the name is taken or empty, or the folder is not in the dataset.
        """
        if not name or name in self._targets:
            raise DatasetError.of(name, "another target has this name" if name else "has no name")
        if isinstance(folder, Path) and folder.is_absolute():
            self._targets[name] = Path(os.path.abspath(folder))
        else:
            relative = folder_name(PurePosixPath(folder).as_posix(), name)
            self._targets[name] = self._collection.root / relative

    @property
    def current(self) -> CollectionImage | None:
        """The image to decide about; ``None`` at the end."""
        return self._images[self.done] if self.left else None

    @property
    def done(self) -> int:
        return len(self._decisions)

    @property
    def left(self) -> int:
        return len(self._images) - len(self._decisions)

    def choose(self, name: str) -> None:
        """Put the current image into a target.

        Raises:
            DatasetError: there is no such target, or no image left.
        """
        if name not in self._targets:
            known = ", ".join(self._targets) or "none"
            raise DatasetError.of(name, "is not the name of a target", f"there are {known}")
        self._decide(name)

    def delete(self) -> None:
        """Into the trash, when all is applied."""
        self._decide(_TRASH)

    def skip(self) -> None:
        """Leave the current image where it is."""
        self._decide(None)

    def undo(self) -> bool:
        """Back to the image before; whether there was one."""
        if self._decisions:
            self._decisions.pop()
            return True
        return False

    def _decide(self, decision: str | None) -> None:
        if not self.left:
            raise DatasetError.of("", "every picture is decided about", "apply it, or undo")
        self._decisions.append(decision)

    def counts(self) -> dict[str, int]:
        """Images by target."""
        counts = Counter(self._decisions)
        return {name: counts[name] for name in self._targets}

    @property
    def deleted(self) -> int:
        return self._decisions.count(_TRASH)

    def to_json(self) -> dict[str, Any]:
        """What was decided, to go on later."""
        return {
            "targets": {name: str(folder) for name, folder in self._targets.items()},
            "decisions": {
                str(image.path): decision
                for image, decision in zip(self._images, self._decisions, strict=False)
            },
        }

    @classmethod
    def from_json(cls, collection: Collection, value: Mapping[str, Any]) -> SortSession:
        """Images that are gone since are left out, new ones come last.

        Raises:
            DatasetError: a target is not in the dataset any more.
        """
        by_path = {str(image.path): image for image in collection.images}
        decisions = {path: each for path, each in value["decisions"].items() if path in by_path}
        others = [image for path, image in by_path.items() if path not in decisions]
        images = [*(by_path[path] for path in decisions), *others]
        targets = {name: Path(folder) for name, folder in value["targets"].items()}
        session = cls(collection, targets, images)
        session._decisions = list(decisions.values())
        return session

    def plans(self) -> list[Plan]:
        """What was decided, as plans to be applied in this order: what leaves a dataset for another
        is copied first, and removed then."""
        decided = list(zip(self._images, self._decisions, strict=False))
        roots = [*self._collection.roots, *self._roots_of_targets()]
        plan, removals = Plan("sort", roots), Plan("sort", roots)
        targets = {image: self._targets[name] for image, name in decided if name}
        gone = {image for image, name in decided if name == _TRASH}
        move_images(plan, self._collection, targets, removals, gone)
        needed = {
            file for image in self._collection.images if image not in gone for file in image.files
        }
        files = dict.fromkeys(file for image, _ in decided if image in gone for file in image.files)
        for file in files:
            if file not in needed:
                plan.remove(file)
        return [each for each in (plan, removals) if each.changes]

    def _roots_of_targets(self) -> list[Path]:
        """Absolute targets that lie in no source are datasets of their own."""
        roots = self._collection.roots
        return [
            dataset_root(folder)
            for folder in self._targets.values()
            if not any(folder.is_relative_to(root) for root in roots)
        ]

    def apply(self, observer: Observer = ignore, controls: Controls | None = None) -> list[Applied]:
        """
        Raises:
            DatasetError: something of it cannot be done; nothing was changed.
            Stopped: by ``controls``.
        """
        plans = self.plans()
        for plan in plans:
            plan.check()
        # What one could not copy the other must not remove: all, or nothing.
        if problems := [problem for plan in plans for problem in plan.skipped]:
            raise DatasetError(problems)
        return [plan.apply(observer, controls) for plan in plans]
