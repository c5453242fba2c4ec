"""A new project: kohya_ss' folders, or one plain folder, with repeats worked out from steps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasmith.core.errors import DatasetError, Problem
from lorasmith.core.events import Controls, Observer, ignore
from lorasmith.core.file_names import safe_stem
from lorasmith.core.text import quantity
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import CollectionImage, open_collection
from lorasmith.curation.importing.file_names import FreeNames
from lorasmith.curation.importing.import_images import NUMBERED, is_mark, plan_import
from lorasmith.curation.sidecars.tags import TagRules
from lorasmith.data.layout import MAX_REPEATS

IMAGES, REGULARISATION, LOGS, MODELS = "img", "reg", "log", "mdl"
# As some guides and GUIs call the folder of results.
_OTHER_MODELS = ("model", "models")


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """From images to steps.

    Args:
        images: training images.
        repeats: uses of each in an epoch.
        epochs: of the run.
        batch: images to a step.
        target_steps: that were asked for.
    """

    images: int
    repeats: int
    epochs: int
    batch: int
    target_steps: int

    @property
    def steps_per_epoch(self) -> int:
        """Where all images have one size; each further bucket may add one."""
        return -(-self.images * self.repeats // self.batch)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    def __str__(self) -> str:
        pictures = quantity(self.images, "picture")
        samples = self.images * self.repeats
        text = f"{pictures} x {quantity(self.repeats, 'repeat')} = {quantity(samples, 'sample')}"
        if self.batch > 1:
            text += f"; {samples} / {self.batch} to a batch = {self.steps_per_epoch} steps an epoch"
            text += f"; {self.steps_per_epoch}"
        return f"{text} x {quantity(self.epochs, 'epoch')} = {quantity(self.steps, 'step')}"


def work_out(images: int, *, steps: int, epochs: int, batch: int) -> Arithmetic:
    """The repeats that come nearest to so many steps; at least 1."""
    exact = steps * batch / (epochs * images)
    near = {max(1, min(MAX_REPEATS, int(exact) + more)) for more in (0, 1)}
    choices = [Arithmetic(images, repeats, epochs, batch, steps) for repeats in sorted(near)]
    return min(choices, key=lambda choice: abs(choice.steps - steps))


@dataclass(frozen=True, slots=True)
class Project:
    """
    Args:
        plan: what is to be made.
        folder: of the images.
        arithmetic: their repeats; ``None`` of a plain folder or without images.
    """

    plan: Plan
    folder: Path
    arithmetic: Arithmetic | None

    def explain(self) -> list[str]:
        """The arithmetic in words; empty where there is none."""
        if self.arithmetic is None:
            return []
        one = self.arithmetic
        lines = [str(one)]
        off = one.steps - one.target_steps
        if off and abs(off) * 20 > one.target_steps:
            sign = "more" if off > 0 else "fewer"
            more = f"{abs(off)} {sign} than the {one.target_steps} asked for"
            why = "each picture is used once already" if one.repeats == 1 and off > 0 else ""
            hint = f"{why}; fewer epochs would do" if why else "other --epochs come nearer"
            lines.append(f"that is {more}: {hint}")
        return lines


def plan_project(
    folder: Path | str,
    sources: Sequence[Path | str] = (),
    *,
    name: str = "",
    steps: int = 1500,
    epochs: int = 10,
    batch: int = 1,
    plain: bool = False,
    move: bool = False,
    rules: TagRules | None = None,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Project:
    """Folders of a project, with images in them; nothing that is there is overwritten.

    Args:
        folder: of the project.
        sources: where images come from: they are copied, with captions of what lies beside them.
            Without any, images that lie in the folder itself go to their place in it.
        name: of the images' folder, without its number; "" takes the project's.
        steps: that the run shall have, >= 1.
        epochs: of the run, >= 1.
        batch: images to a step, >= 1.
        plain: the images lie in the folder itself, without others around them.
        move: move the images of the sources, which then lie in the folder.

    Raises:
        UserError: with everything that is wrong.
        Stopped: by ``controls``.
    """
    root = Path(folder)
    if root.exists() and not root.is_dir():
        raise DatasetError.of(root, "is a file", "give another folder")
    name = name or _without_number(root.absolute().name)
    plan = Plan(f"init {root.name}", [root])
    sources = [source for source in map(Path, sources) if not _is_same(source, root)]
    _refuse(root, name, plain, sources, plan)
    # A name for now: repeats are known when it is known how many images there are.
    into = root if plain else root / IMAGES / "0_new"
    if sources and not move:
        copies = plan_import(sources, into, rules=rules, observer=observer, controls=controls)
        plan.problems += copies.problems
        plan.warnings += copies.warnings
        plan.skipped += copies.skipped
        images: list[CollectionImage] = []
        plan.when_done += copies.when_done
        changes = copies.changes
        count = sum(change.make is not None and not is_mark(change.path) for change in changes)
    else:
        changes = []
        images = _images_of(root, sources, plan) if sources else _loose(root)
        count = len(images)
    sums = work_out(count, steps=steps, epochs=epochs, batch=batch) if count and not plain else None
    place = root / IMAGES / f"{sums.repeats}_{name}" if sums else root if plain else root / IMAGES
    for change in changes:
        path = place / change.path.name
        with plan.together(change.image or path):
            if change.make is not None:
                plan.write_file(path, change.make, what=change.what)
            else:
                plan.write_text(path, change.before, change.after or b"")
    if sources or not plain:  # In a plain folder they lie where they shall.
        _move(plan, images, place)
    if not plain:
        _make_folders(plan, root, count)
    project = Project(plan, place, sums)
    plan.notes += project.explain()
    return project


def plan_projects(projects: Sequence[Project]) -> Plan:
    """One plan of several, with the arithmetic of each under its name."""
    first, *others = (project.plan for project in projects)
    if not others:
        return first
    roots = [project.plan.roots[0] for project in projects]
    plan = Plan(f"init {' '.join(root.name for root in roots)}"[:200], roots)
    for project in projects:
        one = project.plan
        plan.changes += one.changes
        plan.problems += one.problems
        plan.warnings += one.warnings
        plan.notes += [f"{one.roots[0].name}: {note}" for note in one.notes]
        plan.skipped += one.skipped
        plan.when_done += one.when_done
    return plan


def _without_number(name: str) -> str:
    return name.partition("_")[2] if NUMBERED.fullmatch(name) else name


def _is_same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and os.path.samefile(path, other)


def _refuse(root: Path, name: str, plain: bool, sources: Sequence[Path | str], plan: Plan) -> None:
    """
    Raises:
        DatasetError: there is a project, so that nothing of a plan for a new one would be true.
    """
    if not plain and safe_stem(name) != name:
        hint = f"choose one like {safe_stem(name)}"
        plan.problems.append(Problem("name", f'"{name}" is no name for a folder', hint))
    images = root / IMAGES
    concepts = [
        path.name
        for parent in (root, images)
        if parent.is_dir()
        for path in sorted(parent.iterdir())
        if path.is_dir() and NUMBERED.fullmatch(path.name)
    ]
    if concepts:
        what = f"is a project already: there is {concepts[0]}"
        into = images / concepts[0]
        hint = f"bring pictures in with: lorasmith dataset import SRC --into {into}"
        raise DatasetError([*plan.problems, Problem(str(root), what, hint)])
    if plain and not sources and not _loose(root):
        plan.problems.append(Problem(str(root), "there is no picture in it", "add --from SRC"))


def _loose(root: Path) -> list[CollectionImage]:
    """Images that lie in the folder itself."""
    return [image for image in open_collection(root).images
            if Path(os.path.abspath(image.path.parent)) == Path(os.path.abspath(root))
            ] if root.is_dir() else []  # fmt: skip


def _images_of(root: Path, sources: Sequence[Path | str], plan: Plan) -> list[CollectionImage]:
    """The images of sources that are to be moved; they must lie within the project."""
    outside = [
        source
        for source in sources
        if not Path(os.path.abspath(source)).is_relative_to(Path(os.path.abspath(root)))
    ]
    plan.problems += [
        Problem(
            str(source),
            "is not in the project's folder, and what is moved from elsewhere cannot be taken back",
            "copy (without --move), and remove it yourself",
        )
        for source in outside
    ]
    if outside or not sources:
        return []
    images = open_collection(list(sources)).images
    if not images:
        plan.problems.append(Problem("", "there is no picture in the sources"))
    return images


def _move(plan: Plan, images: Sequence[CollectionImage], place: Path) -> None:
    """Images with all that belongs to them; where two have one name, one gets a number."""
    there = [path.name for path in place.iterdir()] if place.is_dir() else []
    names = FreeNames(there)
    files_so_far: set[Path] = set()
    for image in images:
        stem = names.take(image.path.stem)
        with plan.together(image.path):
            for file in image.files:
                target = place / f"{stem}{file.name.removeprefix(image.path.stem)}"
                if file not in files_so_far:
                    plan.move(file, target)
                    files_so_far.add(file)
                else:  # Two pictures of one name, and one caption: each gets it.
                    plan.write_text(target, None, file.read_bytes())


def _make_folders(plan: Plan, root: Path, count: int) -> None:
    models = next((other for other in _OTHER_MODELS if (root / other).is_dir()), MODELS)
    images = [] if count else [root / IMAGES]
    for folder in (*images, root / REGULARISATION, root / LOGS, root / models):
        plan.make_folder(folder)
