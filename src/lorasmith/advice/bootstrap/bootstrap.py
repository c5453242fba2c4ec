"""From one image, or a few, to a LoRA: train briefly, draw, keep the good drawings, train again.

The way of the guides' "GACHAMAX": each round's drawings that are like the subject, and not like
each other, join the set, so that the next LoRA has seen it in more poses and places than the given
image shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lorasmith.advice.bootstrap.image_set import GivenImage, begin_set, read_given
from lorasmith.advice.bootstrap.material import (
    STRONG_CFG,
    Material,
    open_material,
)
from lorasmith.advice.bootstrap.rounds import first_seed
from lorasmith.advice.bootstrap.stages import advance, alone, chosen, end_rounds
from lorasmith.advice.bootstrap.state import (
    OUT,
    STATE,
    Bootstrap,
    Options,
    Round,
    caption_beside,
    images_of,
    stem_of,
)
from lorasmith.core.disk import discard
from lorasmith.core.errors import Problem, UserError, collect_problems
from lorasmith.core.events import Controls, Notice, Observer, ignore
from lorasmith.core.files import check_writable, nearest_existing
from lorasmith.core.text import parse_size
from lorasmith.curation.collection import finish_interrupted

_RANGE = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class BootstrapPlan:
    """What a bootstrap would do.

    Args:
        given: the images, each with its caption.
        round_steps: optimizer steps of the first round's training.
        steps: of a training of the usual length on the given images.
        captions: what the first round would draw.
        source: where what varies in them is from, in words.
        warnings: what may not be meant.
    """

    given: tuple[GivenImage, ...]
    round_steps: int
    steps: int
    captions: tuple[str, ...]
    source: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """How far a bootstrap has come.

    Args:
        boot: its folder and state.
        plan: of a dry run, which wrote nothing.
    """

    boot: Bootstrap
    plan: BootstrapPlan | None = None

    @property
    def state(self) -> str:
        """ "choose" where it waits for a choice, "done", or "planned"."""
        return "planned" if self.plan else self.boot.stage

    @property
    def dataset(self) -> Path:
        """An ordinary dataset of the given images and the drawings that were kept."""
        return self.boot.dataset

    @property
    def page(self) -> Path | None:
        """To choose by; ``None`` where there is nothing to choose."""
        return self.boot.page if self.state == "choose" else None

    @property
    def lora(self) -> Path:
        """The newest: the result, or that of the round that waits; of a dry run, where the result
        would be."""
        boot = self.boot
        if self.plan:
            return boot.runs / boot.stem / f"{boot.stem}.safetensors"
        is_done = self.state == "done" and boot.results
        return boot.folder / (boot.results[-1] if is_done else boot.now.lora)

    def to_json(self) -> dict[str, Any]:
        """What ``--json`` prints. Keys are only ever added."""
        boot = self.boot
        return {
            "folder": str(boot.folder),
            "state": self.state,
            "trigger": boot.options.trigger,
            "dataset": str(self.dataset),
            "pictures": len(images_of(boot.given_folder)),
            "drawings": len(images_of(boot.drawn_folder)),
            "lora": str(self.lora),
            "page": str(self.page) if self.page else None,
            "choice_file": str(boot.choice_file) if self.page else None,
            "ended": boot.ended,
            "rounds": [_record(boot, one) for one in boot.rounds],
            "plan": _plan_record(self.plan) if self.plan else None,
        }


def _plan_record(plan: BootstrapPlan) -> dict[str, Any]:
    return {
        "given": [
            {"file": str(one.path), "caption": one.caption, "bare": one.bare} for one in plan.given
        ],
        "round_steps": plan.round_steps,
        "steps": plan.steps,
        "captions": list(plan.captions),
        "source": plan.source,
        "warnings": list(plan.warnings),
    }


def _record(boot: Bootstrap, one: Round) -> dict[str, Any]:
    return {
        "round": one.number,
        "pictures": one.images,
        "lora": str(boot.folder / one.lora) if one.lora else None,
        "steps": one.steps,
        "likeness": one.likeness,
        "diversity": one.diversity,
        "kept": one.kept,
        "suggested": one.suggested,
        "repeated": one.repeated,
        "purged": one.purged,
        "replaced": one.replaced,
        "drawings": [
            {
                "number": drawing.number,
                "file": str(boot.drawing(one, drawing)),
                "caption": drawing.caption,
                "prompt": drawing.prompt,
                "seed": drawing.seed,
                "model": drawing.model,
                "began_with": drawing.source or None,
                "likeness": drawing.likeness,
                "copying": drawing.copying,
                "nearest": drawing.nearest or None,
                "defects": drawing.defects,
                "left_out": one.reasons.get(drawing.number),
            }
            for drawing in one.drawings
        ],
    }


def bootstrap(
    images: Sequence[str | Path] = (),
    trigger: str | None = None,
    *,
    model: str | None = None,
    caption: str | None = None,
    out: str | Path | None = None,
    go_on: str | Path | None = None,
    keep: str | None = None,
    finish: bool = False,
    wait: bool = False,
    choose: Literal["ask", "auto"] | None = None,
    rounds: int | None = None,
    drawings: int | None = None,
    keep_most: int | None = None,
    weight: float | None = None,
    redraw: int | None = None,
    denoise: float | None = None,
    round_length: float | None = None,
    prompts: str | Path | None = None,
    wildcard_dir: str | Path | None = None,
    models: Sequence[str] = (),
    style_lora: Sequence[str] = (),
    cfg: float | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    negative: str | None = None,
    size: str | None = None,
    preset: str | None = None,
    settings: Sequence[str] = (),
    seed: int | None = None,
    precision: Literal["auto", "fp32", "fp16", "bf16"] | None = None,
    device: str | None = None,
    dry_run: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Bootstrapped:
    """Make a LoRA of a subject of which there is one image, or a few; or go on with that.

    ::

        waiting = bootstrap(["zorp.png"], "zorp", model="sd15.safetensors")
        waiting.page  # to choose by
        bootstrap(go_on=waiting.boot.folder, keep="1,4,7")

    What is ``None`` is as :class:`~.state.Options` has it, or as it was where it goes on.

    Args:
        images: of the subject, or folders of them; captions lie beside them.
        trigger: the word that is to call it.
        caption: of images without a caption file: what is not the subject.
        out: folder for everything; by default ``bootstrap/TRIGGER``.
        go_on: the folder of a bootstrap that was stopped or waits.
        keep: numbers of drawings, as "1,4,7" or "1-5", or "none"; ``None`` is what
            ``choice.json`` says.
        finish: no more rounds: train on the set as it then is.
        wait: stay until there is a choice, in place of returning.
        size: of the drawings, as "512x768".
        settings: of the trainings, as "section.key=value".
        dry_run: check everything and say what would be done; nothing is written.

    Raises:
        UserError: with everything that is wrong, before a model is loaded.
        Stopped: the controls asked for it; what was done is kept.
    """
    problems: list[Problem] = []
    fixed: dict[str, Any] = {
        "model": model, "weight": weight, "seed": seed, "preset": preset,
        "settings": tuple(settings) or None,
        "size": collect_problems(problems, lambda: _size(size)),
    }  # fmt: skip
    free: dict[str, Any] = {
        "choose": choose, "rounds": rounds, "drawings": drawings, "keep_most": keep_most,
        "redraw": redraw, "denoise": denoise, "round_length": round_length,
        "prompts": str(prompts) if prompts else None,
        "wildcards": str(wildcard_dir) if wildcard_dir else None,
        "models": tuple(models) or None, "style_loras": tuple(style_lora) or None,
        "cfg": cfg, "steps": steps, "sampler": sampler, "negative": negative,
        "precision": precision, "device": device,
    }  # fmt: skip
    changes = {name: value for name, value in free.items() if value is not None}
    if go_on is None:
        choosing = {"keep": keep is not None, "finish": finish}
        what, hint = "there is nothing to choose from yet", "name the bootstrap: --continue DIR"
        problems += [Problem(name, what, hint) for name, said in choosing.items() if said]
        if trigger is None:
            hint = "choose a word that means nothing yet: --trigger zorp"
            problems.append(Problem("trigger", "is missing", hint))
        else:
            problems += trigger_problems(trigger)
        changes |= {name: value for name, value in fixed.items() if value is not None}
        options = Options((trigger or "").strip(), **changes)
        folder = Path(out) if out else Path(OUT) / stem_of(options.trigger)
        return _begin(
            [Path(image) for image in images], options, folder, problems, caption, wait, dry_run,
            observer, controls or Controls(),
        )  # fmt: skip
    fixed |= {"images": images or None, "trigger": trigger, "caption": caption, "out": out}
    if dry_run:
        what, hint = "says what a new bootstrap would do, and this one is begun", "leave it out"
        problems.append(Problem("dry_run", what, hint))
    what, hint = "cannot be changed: what was done goes by it", "leave it out, or begin a new one"
    problems += [Problem(name, what, hint) for name, value in fixed.items() if value is not None]
    numbers = collect_problems(problems, lambda: None if keep is None else parse_numbers(keep))
    if problems:
        raise UserError(problems)
    return _go_on(Path(go_on), changes, numbers, finish, wait, observer, controls or Controls())


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        raise UserError.of("size", str(error), "write it as 512x768") from None


def parse_numbers(text: str) -> list[int]:
    """``1,4,7`` or ``1-5`` or ``none``, in order.

    Raises:
        UserError: it is none of these.
    """
    numbers: set[int] = set()
    words = [word for word in re.split(r"[,\s]+", text.strip()) if word]
    if [word.lower() for word in words] == ["none"]:
        return []
    for word in words:
        match = _RANGE.fullmatch(word)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            hint = "write numbers, as in 1,4,7 or 1-5; or none"
            raise UserError.of("keep", f'"{word}" is no number of a drawing', hint)
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    if not numbers:
        raise UserError.of("keep", "is empty", "write none to keep none")
    return sorted(numbers)


def _begin(
    images: Sequence[Path],
    options: Options,
    folder: Path,
    problems: list[Problem],
    caption: str | None,
    wait: bool,
    dry_run: bool,
    observer: Observer,
    controls: Controls,
) -> Bootstrapped:
    """
    Args:
        problems: what is wrong already.
    """
    given = collect_problems(problems, lambda: read_given(images, options.trigger, caption))
    captions = [image.caption for image in given or ()]
    material = collect_problems(problems, lambda: open_material(options, captions))
    if (folder / STATE).exists():
        what, hint = "holds a bootstrap already", f"go on with it: --continue {folder}"
        problems.append(Problem("out", f"{folder} {what}", hint))
    elif folder.is_dir() and any(folder.iterdir()):
        problems.append(Problem("out", f"{folder} holds something else", "name another folder"))
    else:
        # A dry run makes no folder.
        place = nearest_existing(folder) if dry_run else folder
        collect_problems(problems, lambda: check_writable(place))
    if problems or given is None or material is None:
        raise UserError(dict.fromkeys(problems))
    boot = Bootstrap(folder, replace(options, given=len(given)))
    plan = _plan(boot, material, given)
    for text in plan.warnings:
        observer(Notice("warning", text))
    if dry_run:
        return Bootstrapped(boot, plan)
    begin_set(boot, given)
    boot.save()
    with alone(boot):
        advance(boot, material, wait, observer, controls)
    return Bootstrapped(boot)


def _go_on(
    folder: Path,
    changes: dict[str, Any],
    keep: list[int] | None,
    finish: bool,
    wait: bool,
    observer: Observer,
    controls: Controls,
) -> Bootstrapped:
    boot = Bootstrap.load(folder)
    boot.options = replace(boot.options, **changes)
    problems: list[Problem] = []
    if keep is not None and boot.stage != "choose":
        what = f"there is nothing to choose: what comes next is {WHAT_NEXT[boot.stage]}"
        problems.append(Problem("keep", what, "leave it out"))
    elif keep is not None and (problem := boot.choice_problem(keep)) is not None:
        problems.append(problem)
    collect_problems(problems, lambda: finish_interrupted([boot.dataset], observer))
    captions = [caption_beside(path) for path in images_of(boot.given_folder)]
    if not images_of(boot.given_folder):
        what, hint = "holds no picture any more", "`lorasmith dataset undo` may bring them back"
        problems.append(Problem(str(boot.given_folder), what, hint))
    material = collect_problems(problems, lambda: open_material(boot.options, captions))
    if problems or material is None:
        raise UserError(dict.fromkeys(problems))
    with alone(boot):
        if boot.stage == "done" and len(boot.rounds) < boot.options.rounds and changes:
            boot.stage, boot.ended = "train", ""
            boot.rounds.append(Round(len(boot.rounds) + 1))
        if boot.stage == "draw" and not changes.keys() <= NOT_OF_DRAWINGS:
            # Those that are there were asked for otherwise.
            boot.now.drawings = []
            discard(boot.round_folder(boot.now))
        if keep is not None:
            chosen(boot, keep, observer, finish=finish)
        elif finish:
            end_rounds(boot, observer)
        boot.save()
        advance(boot, material, wait, observer, controls)
    return Bootstrapped(boot)


NOT_OF_DRAWINGS = {"choose", "rounds", "keep_most", "round_length", "precision", "device"}
"""Options that change nothing of what is drawn."""

WHAT_NEXT = {
    "train": "a training",
    "draw": "drawing",
    "choose": "a choice",
    "final": "the last training",
    "done": "nothing; it is done",
}


def trigger_problems(trigger: str) -> list[Problem]:
    """What is wrong with a trigger word."""
    word = trigger.strip()
    if not word:
        return [Problem("trigger", "is empty", "choose a word that means nothing yet: zorp")]
    if "," in word:
        what = f'"{word}" has a comma: it would be several tags'
        return [Problem("trigger", what, "choose one word")]
    if any(sign in word for sign in "<>()[]{}|:\n") or "__" in word:
        what = f'"{word}" has signs that mean something in prompts'
        return [Problem("trigger", what, "choose a word of letters")]
    return []


def _plan(boot: Bootstrap, material: Material, given: Sequence[GivenImage]) -> BootstrapPlan:
    options = boot.options
    variations = material.variations
    first = first_seed(options, 1)
    return BootstrapPlan(
        tuple(given),
        material.steps(len(given), material.round_share(options)),
        material.steps(len(given), 1.0),
        tuple(variations.captions(options.drawings, first, material.wildcards)),
        variations.source,
        tuple(_warnings(material, given)),
    )


def _warnings(material: Material, given: Sequence[GivenImage]) -> Iterator[str]:
    bare = [image.path.name for image in given if image.bare]
    if bare:
        yield (
            f"{bare[0]}: nothing is said of what is not the subject, so its background and pose "
            "are learned as part of it; write them into a caption file beside it, or --caption"
        )
    variations = material.variations
    if not variations.lines and not variations.kinds:
        yield (
            "the captions name nothing that the base model knows other words for, so all drawings "
            "are asked for alike; name what varies in a caption, or give --prompts"
        )
    if material.drawing.cfg > STRONG_CFG:
        yield (
            f"guidance of {material.drawing.cfg:g} makes contrast and colours that are learned "
            "with the drawings; 5 to 7 is mild"
        )
