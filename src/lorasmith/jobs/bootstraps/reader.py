"""The bootstraps that lie in folders, as pages show them: quick to ask again. No torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from lorasmith.advice.bootstrap.image_set import CAPTIONS, given_caption
from lorasmith.advice.bootstrap.state import (
    STATE,
    Bootstrap,
    DrawingRecord,
    Round,
    Stage,
    caption_beside,
    images_of,
    kept_name,
)
from lorasmith.advice.bootstrap.summary import last_choice, round_notes, trend
from lorasmith.core.disk import changed_ns
from lorasmith.core.errors import DatasetError, UserError
from lorasmith.core.files import version_of
from lorasmith.jobs.projects import project_images

Allowed = Callable[[Path], bool]

MOST_OFFERED = 60
"""Pictures of a dataset of which a bootstrap may begin with some."""


class CaptionedPicture(BaseModel):
    """
    Args:
        version: another one whenever the file is; for its address; "" where it is not there yet.
    """

    path: str
    version: str
    caption: str


class OfferedPictures(BaseModel):
    """Pictures of a dataset: the first of them, and how many there are in all."""

    pictures: list[CaptionedPicture]
    total: int


class BootstrapSummary(BaseModel):
    """One in a list of them.

    Args:
        busy: a process is at work on it.
        round: the newest; 0 before the first.
        rounds: at most.
        given, drawn: images of the set.
        cover: a given image.
        problem: why it cannot be read; nothing else is known then.
        changed: Unix time, s.
    """

    path: str
    name: str
    trigger: str = ""
    stage: Stage = "train"
    busy: bool = False
    round: int = 0
    rounds: int = 0
    given: int = 0
    drawn: int = 0
    cover: CaptionedPicture | None = None
    problem: str = ""
    changed: float = 0.0


class RoundDrawing(CaptionedPicture):
    """A drawing of a round, as :class:`.DrawingRecord`.

    Args:
        base: the base model's at the same seed; "" where there is none.
        reason: why "auto" would leave it out; "" where it would keep it.
    """

    number: int
    prompt: str
    seed: int
    model: str
    source: str
    likeness: float | None
    copying: float | None
    nearest: str
    base: str
    base_version: str
    reason: str


class RoundRecord(BaseModel):
    """A round, as :class:`.Round`; ``notes`` say what sticks out and what was taken out."""

    number: int
    images: int
    steps: int
    run: str
    lora: str
    likeness: float | None
    diversity: float | None
    suggested: list[int]
    kept: list[int] | None
    gone: list[str]
    notes: list[str]
    drawings: list[RoundDrawing]


class ImageOfSet(CaptionedPicture):
    """
    Args:
        round, drawing: where it came from; 0 of what was given.
        repeated: how many of the newest drawings repeat it, where it sticks out.
    """

    name: str
    round: int
    drawing: int
    likeness: float | None
    repeated: int


class BootstrapDetail(BootstrapSummary):
    """Everything about one.

    Args:
        ended: why there are no more rounds.
        last: why the choice that it waits for will be its last; "" where another round comes.
        trend: in which measures the newest round is no better.
        lora: the result, or that of the newest round; "" before there is one.
        run: that it came from.
        results: LoRAs of the usual length, the newest last.
        choose: "ask" or "auto".
        weight: how often a drawing is shown beside a given image.
        command_line: that goes on with it.
    """

    dataset: str
    model: str
    ended: str
    last: str
    trend: str
    lora: str
    run: str
    results: list[str]
    choose: str
    weight: float
    images: list[ImageOfSet]
    history: list[RoundRecord]
    command_line: str


def summary(path: Path, allowed: Allowed = lambda path: True) -> BootstrapSummary:
    """One in a list; where it cannot be read, why.

    Args:
        allowed: whether a file may be read, as one that a link leads to may not.
    """
    try:
        return BootstrapSummary(**_summary(Bootstrap.load(path), allowed))
    except UserError as error:
        return BootstrapSummary(path=str(path), name=path.name, problem=str(error))


def _summary(boot: Bootstrap, allowed: Allowed) -> dict[str, Any]:
    given = images_of(boot.given_folder)
    return {
        "path": str(boot.folder),
        "name": boot.folder.name,
        "trigger": boot.options.trigger,
        "stage": boot.stage,
        "busy": boot.busy,
        "round": len(boot.rounds),
        "rounds": boot.options.rounds,
        "given": len(given),
        "drawn": len(images_of(boot.drawn_folder)),
        "cover": _picture(given[0], allowed) if given else None,
        "changed": changed_ns(boot.folder / STATE) / 1e9,
    }


def detail(boot: Bootstrap, allowed: Allowed = lambda path: True) -> BootstrapDetail:
    """
    Args:
        allowed: as of :func:`summary`.

    Raises:
        DatasetError: a caption cannot be read.
    """
    given = images_of(boot.given_folder)
    names = {path.name for path in given}
    newest = next((one.lora for one in reversed(boot.rounds) if one.lora), "")
    lora = boot.results[-1] if boot.results else newest
    return BootstrapDetail(
        **_summary(boot, allowed),
        dataset=str(boot.dataset),
        model=boot.options.model,
        choose=boot.options.choose,
        weight=boot.options.weight,
        ended=boot.ended,
        last=last_choice(boot),
        trend=trend(boot.rounds),
        lora=_inside(boot, lora),
        run=str((boot.folder / lora).parent) if lora else "",
        results=[_inside(boot, each) for each in boot.results],
        images=list(_images(boot, given, allowed)),
        history=[_round(boot, one, names, allowed) for one in boot.rounds],
        command_line=boot.command,
    )


def _inside(boot: Bootstrap, path: str) -> str:
    return str(boot.folder / path) if path else ""


def _round(boot: Bootstrap, one: Round, given: Collection[str], allowed: Allowed) -> RoundRecord:
    return RoundRecord(
        number=one.number,
        images=one.images,
        steps=one.steps,
        run=_inside(boot, one.run),
        lora=_inside(boot, one.lora),
        likeness=one.likeness,
        diversity=one.diversity,
        suggested=sorted(one.suggested),
        kept=one.kept,
        gone=[*one.purged, *one.replaced],
        notes=list(round_notes(one, given)),
        drawings=[_drawing(boot, one, each, allowed) for each in one.drawings],
    )


def _drawing(boot: Bootstrap, one: Round, drawing: DrawingRecord, allowed: Allowed) -> RoundDrawing:
    path, base = boot.drawing(one, drawing), boot.base_drawing(one, drawing)
    base_version = version_of(base)
    return RoundDrawing(
        path=str(path),
        version=version_of(path),
        caption=_caption(path, allowed) or drawing.caption,
        number=drawing.number,
        prompt=drawing.prompt,
        seed=drawing.seed,
        model=drawing.model,
        source=drawing.source,
        likeness=drawing.likeness,
        copying=drawing.copying,
        nearest=drawing.nearest,
        base=str(base) if base_version else "",
        base_version=base_version,
        reason=one.reasons.get(drawing.number, ""),
    )


def _images(boot: Bootstrap, given: Iterable[Path], allowed: Allowed) -> Iterator[ImageOfSet]:
    """Those that were given, then drawings, the newest last."""
    repeated = boot.rounds[-1].repeated if boot.rounds else {}
    made = {
        kept_name(one, drawing): (one.number, drawing.number, drawing.likeness)
        for one in boot.rounds
        for drawing in one.drawings
    }
    unknown = (0, 0, None)
    for path in (*given, *images_of(boot.drawn_folder)):
        is_drawn = path.parent == boot.drawn_folder
        number, drawing, likeness = made.get(path.name, unknown) if is_drawn else unknown
        yield ImageOfSet(
            path=str(path),
            version=version_of(path),
            caption=_caption(path, allowed),
            name=path.name,
            round=number,
            drawing=drawing,
            likeness=likeness,
            repeated=repeated.get(path.name, 0),
        )


def offered_pictures(
    project: Path, allowed: Allowed = lambda path: True, most: int = MOST_OFFERED
) -> OfferedPictures:
    """The pictures of a project's dataset, of which a bootstrap may begin with some.

    Args:
        allowed: as of :func:`summary`.
    """
    images = project_images(project)
    pictures = [_picture(path, allowed) for path in images[:most]]
    return OfferedPictures(pictures=pictures, total=len(images))


def _picture(path: Path, allowed: Allowed) -> CaptionedPicture:
    try:
        inside = all(allowed(path.with_suffix(suffix)) for suffix in CAPTIONS)
        caption = given_caption(path) if inside else ""
    except DatasetError:  # Told where it is taken.
        caption = ""
    return CaptionedPicture(path=str(path), version=version_of(path), caption=caption)


def _caption(image: Path, allowed: Allowed) -> str:
    return caption_beside(image) if allowed(image.with_suffix(".txt")) else ""
