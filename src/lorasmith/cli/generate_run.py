"""Drawing and saving for ``lorasmith generate``."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lorasmith.cli.signals import stop_on_interrupt
from lorasmith.core.errors import Stopped
from lorasmith.core.events import Controls, Notice
from lorasmith.core.files import write_text
from lorasmith.core.text import quantity

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from lorasmith.cli.generate_options import Options
    from lorasmith.core.terminal_view import Terminal
    from lorasmith.models.diffusion_model import DiffusionModel
    from lorasmith.models.reference import ModelReference
    from lorasmith.prompts.wildcards import Wildcards
    from lorasmith.sampling.embeddings import EmbeddingLibrary
    from lorasmith.sampling.from_dataset import Drawing
    from lorasmith.sampling.images import GeneratedImage
    from lorasmith.sampling.lora_library import LoraLibrary
    from lorasmith.sampling.request import ImageRequest

_NUMBERED = re.compile(r"(\d{5,})-\d+\.png", re.ASCII)


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be drawn and with what, checked but for the weights.

    Args:
        drawings: where each request's picture and caption go; ``None`` numbers them in ``out``.
        random_seed: the first seed, where the user gave none.
    """

    requests: list[ImageRequest]
    drawings: list[Drawing] | None
    loras: LoraLibrary
    embeddings: EmbeddingLibrary
    wildcards: Wildcards
    model: ModelReference
    options: Options
    device: torch.device
    dtype: torch.dtype
    random_seed: int | None


def draw(work: Work, console: Console, terminal: Terminal) -> None:
    """Draw what is not there yet, and say where it went.

    Raises:
        Stopped: on Ctrl-C; finished pictures stay.
    """
    from lorasmith.sampling.images import ImageWriter

    pending = _missing(work, console)
    if not pending:
        console.print("nothing left to draw")
        return
    model = _load(work)
    for note in model.notes:
        terminal(Notice("warning", note))
    controls = Controls()
    saved: list[Path] = []
    with stop_on_interrupt(controls), contextlib.closing(terminal):
        try:
            with ImageWriter(work.device) as writer:
                for index, image in _images(work, model, pending, terminal, controls):
                    write, path = _writing(work, index, image)
                    writer.add(write, partial(saved.append, path))
        except Stopped as stop:
            raise Stopped(f"stopped; {_places(saved)}") from stop
    console.print(_places(saved), soft_wrap=True, markup=False)
    if work.drawings is not None:
        said = "each with its caption: data.reg takes the folder as it is, and so does data.path"
        console.print(said, soft_wrap=True, markup=False)


def _missing(work: Work, console: Console) -> list[int]:
    """The places of the requests that are not drawn yet."""
    if work.drawings is None:
        return list(range(len(work.requests)))
    missing = [i for i, drawing in enumerate(work.drawings) if not drawing.path.exists()]
    there = len(work.drawings) - len(missing)
    if there:
        console.print(
            f"{there} of {quantity(len(work.drawings), 'picture')} "
            f"{'is' if there == 1 else 'are'} there already, and stay"
        )
    return missing


def _load(work: Work) -> DiffusionModel:
    from lorasmith.models.load import load_model

    return load_model(work.model, dtype=work.dtype, device=work.device)


def _images(
    work: Work, model: DiffusionModel, pending: list[int], terminal: Terminal, controls: Controls
) -> Iterator[tuple[int, GeneratedImage]]:
    from lorasmith.sampling.generate import generate
    from lorasmith.sampling.infotext import Provenance

    provenance = Provenance(work.model)
    for image in generate(
        model,
        [work.requests[index] for index in pending],
        loras=work.loras,
        embeddings=work.embeddings,
        wildcards=work.wildcards,
        batch=work.options.batch,
        describe=provenance.describer(work.loras),
        observer=terminal,
        controls=controls,
    ):
        yield pending[image.index], image


def _writing(work: Work, index: int, image: GeneratedImage) -> tuple[Callable[[], None], Path]:
    """What writes the picture, and where; the place is taken from now on."""
    if work.drawings is not None:
        drawing = work.drawings[index]
        from_file = work.options.prompts is not None
        return partial(_write_captioned, drawing, from_file, image), drawing.path
    path = _new_path(work.options.out, image.seed)
    return partial(_write_numbered, path, image), path


def _write_captioned(drawing: Drawing, from_file: bool, image: GeneratedImage) -> None:
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
        path.unlink(missing_ok=True)
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


def _places(saved: list[Path]) -> str:
    if not saved:
        return "no picture was finished"
    if len(saved) == 1:
        return f"1 picture: {saved[0]}"
    return f"{len(saved)} pictures: {saved[0]} to {saved[-1].name}"
