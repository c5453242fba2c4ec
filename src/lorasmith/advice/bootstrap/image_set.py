"""The set that is trained on: the images that were given, and drawings that were kept. Every change
goes through the dataset's journal, so that ``lorasmith dataset undo`` takes it back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lorasmith.advice.bootstrap.state import (
    Bootstrap,
    DrawingRecord,
    Round,
    caption_beside,
    images_of,
    kept_name,
)
from lorasmith.core.errors import DatasetError, Problem, RunError, UserError
from lorasmith.core.file_names import safe_stem
from lorasmith.core.files import parse_json, write_text
from lorasmith.core.text import quantity
from lorasmith.curation.changes.plan import Plan
from lorasmith.data.captions import join_tags
from lorasmith.data.images import SUFFIXES, load_image
from lorasmith.sampling.from_dataset import words_in

MOST_GIVEN = 100
CAPTIONS = (".txt", ".caption")
"""Endings of the caption file beside a given image, in the order in which they are looked for."""


@dataclass(frozen=True, slots=True)
class GivenImage:
    """
    Args:
        caption: with the trigger in front.
        bare: nothing is said of it besides the trigger.
    """

    path: Path
    caption: str
    bare: bool


def read_given(paths: Iterable[Path], trigger: str, caption: str | None) -> list[GivenImage]:
    """The images that were named, and their captions.

    Args:
        paths: images, and folders of images.
        caption: of images without a caption file.

    Raises:
        UserError: with every one that is not there or cannot be read; there is none.
    """
    problems: list[Problem] = []
    given: list[GivenImage] = []
    for path in dict.fromkeys(_images_in(paths, problems)):
        try:
            load_image(path)
            text = given_caption(path) or (caption or "").strip()
        except DatasetError as error:
            problems += error.problems
            continue
        full = called(text, trigger)
        given.append(GivenImage(path, full, full == trigger))
    if not given and not problems:
        problems.append(Problem("images", "there is no picture", "name one of the subject"))
    if len(given) > MOST_GIVEN:
        what = f"{quantity(len(given), 'picture')} are enough to train on at once"
        problems.append(Problem("images", what, "lorasmith train takes them as they are"))
    if problems:
        raise UserError(dict.fromkeys(problems))
    return given


def called(caption: str, trigger: str) -> str:
    """A caption with the trigger, which is put in front where it is missing."""
    if words_in(caption, [trigger]):
        return caption
    return join_tags([trigger, caption], ",") if caption else trigger


def set_caption(boot: Bootstrap, number: int, text: str) -> str:
    """Say what a drawing of the newest round shows, before something is chosen: it joins the set
    with this caption. What was written: with the trigger in front where it was missing.

    Raises:
        RunError: there is no such drawing, or nothing is to be chosen.
    """
    if boot.stage != "choose":
        raise RunError.of(boot.folder, "does not wait for a choice", "edit captions in its dataset")
    if problem := boot.choice_problem([number]):
        raise RunError(problem)
    caption = called(" ".join(text.split()), boot.options.trigger)
    drawing = boot.now.drawings[number - 1]
    write_text(boot.drawing(boot.now, drawing).with_suffix(".txt"), f"{caption}\n")
    return caption


def _images_in(paths: Iterable[Path], problems: list[Problem]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            images = images_of(path)
            if not images:
                problems.append(Problem(str(path), "there is no picture in it", "name another"))
            yield from images
        elif not path.exists():
            problems.append(Problem(str(path), "does not exist", "correct the path"))
        else:
            yield path


def given_caption(path: Path) -> str:
    """The first line of the caption file beside an image; "" where there is none.

    Raises:
        DatasetError: it cannot be read.
    """
    for suffix in CAPTIONS:
        file = path.with_suffix(suffix)
        try:
            return file.read_text(encoding="utf-8-sig").split("\n", 1)[0].strip()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError.of(file, "cannot be read as text", "give a UTF-8 file") from error
    return ""


def begin_set(boot: Bootstrap, given: Sequence[GivenImage]) -> None:
    """Copy the given images into the dataset, each with its caption."""
    folder = boot.given_folder
    plan = Plan("bootstrap: the images that were given", [boot.dataset])
    plan.make_folder(folder)
    names: set[str] = set()
    for image in given:
        stem, number = safe_stem(image.path.stem), 1
        while (name := stem if number == 1 else f"{stem}-{number}") in names:
            number += 1
        names.add(name)
        suffix = image.path.suffix.lower()
        target = folder / f"{name}{suffix if suffix in SUFFIXES else '.png'}"
        plan.write_file(target, partial(_copy, image.path))
        _write_caption(plan, target, image.caption)
    plan.apply()


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _write_caption(plan: Plan, image: Path, caption: str) -> None:
    path = image.with_suffix(".txt")
    before = path.read_bytes() if path.exists() else None
    plan.write_text(path, before, f"{caption}\n".encode())


def apply_choice(boot: Bootstrap) -> None:
    """Bring the drawings that were kept of the newest round into the set, each with its caption;
    take out what they replace, and kept images that the LoRA repeats."""
    one = boot.now
    assert one.kept is not None
    keeps = [drawing for drawing in one.drawings if drawing.number in one.kept]
    one.replaced = list(dict.fromkeys(drawing.source for drawing in keeps if drawing.source))
    one.purged = [
        name
        for name in one.repeated
        if (boot.drawn_folder / name).exists() and name not in one.replaced
    ]
    lineage = read_lineage(boot)
    plan = Plan(f"bootstrap: round {one.number}", [boot.dataset])
    plan.make_folder(boot.drawn_folder)
    for drawing in keeps:
        target = boot.drawn_folder / kept_name(one, drawing)
        with plan.together(target):
            plan.write_file(target, partial(_copy, boot.drawing(one, drawing)))
            # What its caption file says: somebody may have mended it.
            caption = caption_beside(boot.drawing(one, drawing)) or drawing.caption
            _write_caption(plan, target, caption)
        lineage[target.name] = lineage_of(one, drawing)
    for name, why in [
        *((name, "a drawing that began with it is better") for name in one.replaced),
        *((name, "the LoRA repeats it") for name in one.purged),
    ]:
        image = boot.drawn_folder / name
        for path in (image, image.with_suffix(".txt")):
            if path.exists():
                plan.remove(path, what=why)
        lineage.pop(name, None)
    path = boot.lineage
    before = path.read_bytes() if path.exists() else None
    text = json.dumps(lineage, ensure_ascii=False, indent=2)
    plan.write_text(path, before, f"{text}\n".encode())
    plan.apply()


def read_lineage(boot: Bootstrap) -> dict[str, Any]:
    """What made each drawing of the set, by its name."""
    try:
        lineage = parse_json(boot.lineage.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        hint = "`lorasmith dataset undo` brings the last one back"
        raise DatasetError.of(boot.lineage, "cannot be read", hint) from error
    return lineage if isinstance(lineage, dict) else {}


def lineage_of(one: Round, drawing: DrawingRecord) -> dict[str, Any]:
    """What is kept of how a drawing was made."""
    return {
        "round": one.number,
        "drawing": drawing.number,
        "lora": Path(one.lora).name,
        "model": drawing.model,
        "prompt": drawing.prompt,
        "seed": drawing.seed,
        "began_with": drawing.source,
        "likeness": drawing.likeness,
        "copying": drawing.copying,
    }
