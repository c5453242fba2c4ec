"""Drawing what was asked for: images written as they are done, with their captions beside them or
numbered. What is there already stays."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lorasmith.core.disk import discard
from lorasmith.core.errors import Stopped
from lorasmith.core.events import Controls, Notice, Observer, PictureDrawn
from lorasmith.core.files import write_text
from lorasmith.core.text import quantity
from lorasmith.jobs.images import Place

if TYPE_CHECKING:
    from lorasmith.jobs.kept_models import KeptModels
    from lorasmith.models.reference import ModelReference
    from lorasmith.sampling.from_dataset import Drawing
    from lorasmith.sampling.images import GeneratedImage
    from lorasmith.sampling.request import ImageRequest
    from lorasmith.sampling.sources import Sources
    from lorasmith.sampling.step_preview import Watch

_NUMBERED = re.compile(r"(\d{5,})-\d+\.png", re.ASCII)


@dataclass(slots=True)
class GenerateReport:
    """
    Args:
        images: the files that were written, in their order.
        pending: how many were to be generated; the others were there already.
        captioned: whether each has a caption beside it.
    """

    images: list[Path] = field(default_factory=list)
    pending: int = 0
    captioned: bool = False

    @property
    def summary(self) -> str:
        if not self.pending:
            return "nothing left to draw"
        if not self.images:
            return "no picture was finished"
        if len(self.images) == 1:
            return f"1 picture: {self.images[0]}"
        return f"{len(self.images)} pictures: {self.images[0]} to {self.images[-1].name}"


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be drawn and with what, checked but for the weights.

    Args:
        out: folder of images that are numbered.
        drawings: where each request's image and caption go; ``None`` numbers them in ``out``.
        from_file: the captions are the prompts as they were drawn.
        sources: of what prompts name; ``None`` where they name nothing.
        batch: images at once; ``None`` chooses by their size.
        write: an image of ``drawings`` with its caption, in any thread; ``None`` writes them as
            they are.
    """

    requests: Sequence[ImageRequest]
    model: ModelReference
    place: Place
    out: Path
    drawings: Sequence[Drawing] | None = None
    from_file: bool = False
    sources: Sources | None = None
    batch: int | None = None
    write: Callable[[Drawing, GeneratedImage], None] | None = None


def warn_of_trigger(drawings: Sequence[Drawing], observer: Observer) -> None:
    """A tag that every caption has is a word that the base model does not know."""
    from lorasmith.sampling.from_dataset import shared_tags

    shared = shared_tags(drawings)
    if shared:
        text = f'every caption has "{shared[0]}": if that is a trigger word, take it out with '
        observer(Notice("warning", f'{text}--without "{shared[0]}"'))


def draw(
    work: Work,
    observer: Observer,
    controls: Controls,
    *,
    kept: KeptModels | None = None,
    watch: Watch | None = None,
) -> GenerateReport:
    """Generate what is not there yet.

    Args:
        kept: loads the model, and keeps it.
        watch: as :func:`.generate.generate`.

    Raises:
        Stopped: finished images stay.
    """
    from lorasmith.models.load import load_model
    from lorasmith.sampling.generate import generate
    from lorasmith.sampling.images import ImageWriter
    from lorasmith.sampling.infotext import Provenance

    pending = _pending(work, observer)
    report = GenerateReport([], len(pending), work.drawings is not None)
    if not pending:
        return report
    device = work.place.device
    library = work.sources.library if work.sources else None
    dtype = work.place.dtypes[str(work.model.path)]
    if kept is None:
        model = load_model(work.model, dtype=dtype, device=device)
        provenance = Provenance(work.model)
    else:
        model = kept.load(work.model, dtype, device, observer)
        provenance = kept.provenance(work.model)
        if library is not None:
            library.loaded = kept.loras
    for note in model.notes:
        observer(Notice("warning", note))
    images = generate(
        model,
        [work.requests[index] for index in pending],
        loras=library,
        embeddings=work.sources.embeddings if work.sources else None,
        wildcards=work.sources.wildcards if work.sources else None,
        batch=work.batch,
        describe=provenance.describer(library),
        observer=observer,
        controls=controls,
        watch=watch,
    )
    try:
        with ImageWriter(device) as writer:
            for image in images:
                write, path = _writing(work, pending[image.index], image)
                writer.add(write, partial(_note_written, report, path, observer))
    except Stopped as stop:
        raise Stopped(f"stopped; {report.summary}") from stop
    return report


def _note_written(report: GenerateReport, path: Path, observer: Observer) -> None:
    report.images.append(path)
    observer(PictureDrawn(path))


def _pending(work: Work, observer: Observer) -> list[int]:
    """The places of the requests whose images are not there yet."""
    if work.drawings is None:
        return list(range(len(work.requests)))
    pending = [i for i, drawing in enumerate(work.drawings) if not drawing.path.exists()]
    there = len(work.drawings) - len(pending)
    if there:
        verb = "is" if there == 1 else "are"
        of = quantity(len(work.drawings), "picture")
        observer(Notice("info", f"{there} of {of} {verb} there already, and stay"))
    return pending


def _writing(work: Work, index: int, image: GeneratedImage) -> tuple[Callable[[], None], Path]:
    """What writes the image, and where; the place is taken from now on."""
    if work.drawings is not None:
        drawing = work.drawings[index]
        write = work.write or partial(_write_captioned, from_file=work.from_file)
        return partial(write, drawing, image), drawing.path
    path = _new_path(work.out, image.seed)
    return partial(_write_numbered, path, image), path


def _write_captioned(drawing: Drawing, image: GeneratedImage, *, from_file: bool) -> None:
    from lorasmith.sampling.from_dataset import caption_of

    drawing.path.parent.mkdir(parents=True, exist_ok=True)
    # The caption first: an image that is there is not drawn again. The request's prompt has its
    # wildcards drawn, the line in the file has not.
    caption = caption_of(image.request.prompt) if from_file else drawing.caption
    write_text(drawing.caption_path, caption + "\n")
    image.save(drawing.path)


def _write_numbered(path: Path, image: GeneratedImage) -> None:
    try:
        image.save(path)
    except BaseException:
        discard(path)
        raise


def _new_path(folder: Path, seed: int) -> Path:
    """``NNNNN-SEED.png``, numbered on from the last in ``folder``; an empty file reserves it, so
    that two commands that draw into one folder never take the same."""
    numbers = (_NUMBERED.fullmatch(path.name) for path in folder.iterdir())
    number = max((int(match[1]) for match in numbers if match), default=0)
    while True:
        number += 1
        path = folder / f"{number:05d}-{seed}.png"
        with contextlib.suppress(FileExistsError):
            path.touch(exist_ok=False)
            return path
