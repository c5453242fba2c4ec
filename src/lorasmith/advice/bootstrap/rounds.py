"""The work of a round: the short training, and the drawings that are chosen from.

What is there already is not done again: a training that was stopped goes on from its state, and
drawings whose files are there stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasmith.advice.bootstrap.choose import empty_rounds
from lorasmith.advice.bootstrap.material import Material, load, split_style
from lorasmith.advice.bootstrap.state import (
    Bootstrap,
    DrawingRecord,
    Options,
    Round,
    images_of,
    kept_records,
)
from lorasmith.config.schema import replace_settings
from lorasmith.core.events import Controls, Event, NextSteps, Notice, Observer
from lorasmith.core.file_names import relative_path
from lorasmith.core.files import write_text
from lorasmith.core.text import quantity
from lorasmith.models.reference import ModelReference
from lorasmith.prompts.lora_tags import take_tags
from lorasmith.sampling.from_dataset import caption_of, escaped
from lorasmith.sampling.request import ImageRequest
from lorasmith.training.runs.folder import RunFolder, read_info, steps_of
from lorasmith.training.setup.base_defaults import is_chosen

if TYPE_CHECKING:
    from lorasmith.sampling.lora_library import LoraLibrary

SEEDS_OF_A_ROUND = 1000


def train_round(
    boot: Bootstrap, material: Material, observer: Observer, controls: Controls
) -> None:
    """A short training on the set of now; its LoRA becomes the round's. After rounds of which
    nothing was worth keeping it is longer, twice for each."""
    one = boot.now
    share = material.round_share(boot.options) * 2 ** empty_rounds(boot.rounds)
    name = f"{boot.stem}-{one.number:02d}"
    folder, one.images = _train(boot, material, name, share, observer, controls, one)
    one.steps = steps_of(folder.result) or 0
    one.run = relative_path(folder.path, boot.folder)
    one.lora = relative_path(folder.result, boot.folder)


def train_result(
    boot: Bootstrap, material: Material, observer: Observer, controls: Controls
) -> None:
    """A training of the usual length on the whole set; its LoRA is the result."""
    count = len(boot.results)
    name = f"{boot.stem}-{count + 1}" if count else boot.stem
    folder, _ = _train(boot, material, name, 1.0, observer, controls)
    boot.results.append(relative_path(folder.result, boot.folder))


def _train(
    boot: Bootstrap,
    material: Material,
    name: str,
    share: float,
    observer: Observer,
    controls: Controls,
    one: Round | None = None,
) -> tuple[RunFolder, int]:
    """The run, and how many images it was trained on.

    Args:
        share: of a whole training's length.
        one: the round that it is of; ``None`` for the last training, after all of them.
    """
    from lorasmith.training.run import resume, train

    count = len(images_of(boot.given_folder)) + len(images_of(boot.drawn_folder))
    folder = RunFolder(boot.runs / name)

    def heard(event: Event) -> None:
        # What to do next is the bootstrap's to say, and its rounds are short by design.
        is_short = isinstance(event, Notice) and event.text.startswith("settings: train.steps")
        if not is_short and not isinstance(event, NextSteps):
            observer(event)

    if read_info(folder).get("status") == "done" and folder.result.is_file():
        return folder, count
    if folder.has_work:
        resume(folder.path, observer=heard, controls=controls)
        return folder, count
    changes: dict[str, Any] = {
        "data.path": boot.dataset,
        "save.output": boot.runs,
        "save.name": name,
        "train.steps": material.steps(count, share),
    }
    which = f"round {one.number}" if one else f"{boot.ended}; the last training"
    text = f"{which}: {quantity(changes['train.steps'], 'step')} on {_set_of(boot)}"
    observer(Notice("info", text))
    if one:  # Nobody looks at samples and snapshots of a round; its drawings are the point.
        quiet = {"sample.every_epochs": None, "sample.at_start": False, "save.every_epochs": None}
        chosen = material.settings
        changes |= {path: value for path, value in quiet.items() if not is_chosen(chosen, path)}
    train(replace_settings(material.settings, changes), observer=heard, controls=controls)
    return folder, count


def first_seed(options: Options, number: int) -> int:
    """Of a round's drawings; each has the next one."""
    return options.seed + SEEDS_OF_A_ROUND * number


def _set_of(boot: Bootstrap) -> str:
    given, drawn = len(images_of(boot.given_folder)), len(images_of(boot.drawn_folder))
    text = quantity(given, "given picture")
    return f"{text} and {quantity(drawn, 'drawing')}" if drawn else text


def plan_drawings(boot: Bootstrap, material: Material) -> list[DrawingRecord]:
    """What the newest round draws.

    From the second round on, further models and style LoRAs take turns, and the last drawings begin
    with kept images, those least like the subject first: better ones may take their places.
    """
    one, options = boot.now, boot.options
    first = first_seed(options, one.number)
    kept = sorted(
        ((record.likeness or 0.0, name, record) for name, record in kept_records(boot).items()),
        key=lambda entry: entry[:2],
    )
    later = one.number > 1
    redrawn = kept[: min(options.redraw, options.drawings // 2)] if later else []
    fresh = options.drawings - len(redrawn)
    captions = material.variations.captions(fresh, first, material.wildcards)
    tags = _tags(boot, one)
    models = material.models if later else material.models[:1]
    styles = ("", *options.style_loras) if later else ("",)
    records = []
    for number, text in enumerate(captions):
        style = styles[number // len(models) % len(styles)]
        # Lines of a file are prompts and weigh words as such; words of kinds are meant literally.
        prompt = text if material.variations.lines else escaped(text)
        records.append(
            DrawingRecord(
                number + 1,
                caption_of(text) if material.variations.lines else text,
                f"{prompt} {tags[style]}",
                first + number,
                str(models[number % len(models)].path),
            )
        )
    for number, (_, name, record) in enumerate(redrawn, fresh):
        prompt = take_tags(record.prompt)[0].strip()
        records.append(
            DrawingRecord(
                number + 1,
                record.caption,
                f"{prompt} {tags['']}",
                first + number,
                str(material.models[0].path),
                source=name,
            )
        )
    return records


def _tags(boot: Bootstrap, one: Round) -> dict[str, str]:
    """Of the round's LoRA alone, by "", and with each style LoRA."""
    _, lora, styles = _library(boot, one)
    own = f"<lora:{lora}:1>"
    strengths = {text: split_style(text)[1] for text in styles}
    return {"": own} | {
        text: f"{own} <lora:{name}:{strengths[text]:g}>" for text, name in styles.items()
    }


def draw_round(boot: Bootstrap, material: Material, observer: Observer, controls: Controls) -> None:
    """Draw what of the newest round is not there yet, and beside each what the base model makes of
    its prompt and seed."""
    one = boot.now
    for reference in material.models:
        pending = [
            (drawing, base)
            for drawing in one.drawings
            for base in (False, True)
            if drawing.model == str(reference.path)
            and not (base and drawing.source)
            and not _file(boot, one, drawing, base=base).exists()
        ]
        if pending:
            _draw(boot, material, reference, pending, observer, controls)


def _file(boot: Bootstrap, one: Round, drawing: DrawingRecord, *, base: bool) -> Path:
    return boot.base_drawing(one, drawing) if base else boot.drawing(one, drawing)


def _draw(
    boot: Bootstrap,
    material: Material,
    reference: ModelReference,
    pending: Sequence[tuple[DrawingRecord, bool]],
    observer: Observer,
    controls: Controls,
) -> None:
    from lorasmith.sampling.generate import generate
    from lorasmith.sampling.images import ImageWriter
    from lorasmith.sampling.infotext import Provenance

    one = boot.now
    model = load(reference, boot.options)
    library, _, _ = _library(boot, one)
    requests = [_request(boot, material, drawing, base=base) for drawing, base in pending]
    images = generate(
        model,
        requests,
        loras=library,
        describe=Provenance(reference).describer(library),
        observer=observer,
        controls=controls,
    )
    with ImageWriter(model.device) as writer:
        for image in images:
            drawing, base = pending[image.index]
            path = _file(boot, one, drawing, base=base)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not base:
                write_text(path.with_suffix(".txt"), f"{drawing.caption}\n")
            writer.add(partial(image.save, path), lambda: None)


def _request(
    boot: Bootstrap, material: Material, drawing: DrawingRecord, *, base: bool
) -> ImageRequest:
    prompt = take_tags(drawing.prompt)[0].strip() if base else drawing.prompt
    request = replace(material.drawing, prompt=prompt, seed=drawing.seed)
    if not drawing.source:
        return request
    source = boot.drawn_folder / drawing.source
    return replace(request, init=source, denoise=boot.options.denoise)


def _library(boot: Bootstrap, one: Round) -> tuple[LoraLibrary, str, dict[str, str]]:
    """The LoRAs that a round draws with, the names there of its own and of the style LoRAs."""
    from lorasmith.sampling.lora_library import LoraLibrary

    library = LoraLibrary(None)
    lora = library.add(boot.folder / one.lora)
    styles = {text: library.add(split_style(text)[0]) for text in boot.options.style_loras}
    return library, lora, styles
