"""The table of a grid's axes: one entry for each thing that can vary. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lorasmith.core.errors import Problem, PromptError, UserError
from lorasmith.core.files import user_path
from lorasmith.core.text import did_you_mean, parse_size, shortlist
from lorasmith.grids.axes import Axis, AxisType, CellSpec, LoraEdit, Value, split_blocks
from lorasmith.grids.snapshot_forms import SnapshotForm, form_of
from lorasmith.grids.snapshots import (
    Snapshot,
    choose,
    find_run,
    find_snapshots,
    is_part,
    is_run,
    split_run,
)
from lorasmith.grids.values import numbers, split_list
from lorasmith.sampling.request import AUTOMATIC

if TYPE_CHECKING:
    from lorasmith.sampling.sources import Sources

Values = Callable[[list[str], str, "Sources"], list[Value]]

# How one writes "without", "the model's own".
NOTHING = ("none", "off")
OWN = ("none", "own", "automatic")


def parse_axis(option: str, text: str, sources: Sources) -> Axis:
    """``AXIS=VALUES``, or ``AXIS@NAME=VALUES`` for one of several LoRAs.

    Args:
        option: named by problems, "--x".

    Raises:
        PromptError: there is no such axis, or a value cannot be read or found.
    """
    name, equals, listed = text.partition("=")
    name, _, target = (part.strip() for part in name.partition("@"))
    kind = axis_type_of(text)
    if kind is None:
        names = ", ".join(kind.name for kind in AXIS_TYPES)
        hint = did_you_mean(_plain(name), {key: each.name for key, each in _BY_NAME.items()})
        hint = f"{hint} there are {names}".lstrip()
        raise PromptError.of(option, f'there is no axis "{name}"', hint)
    where = f"{option} {kind.name}"
    example = f'write it as in {option} "{kind.name}={kind.example}"'
    if not equals:
        raise PromptError.of(where, "it has no values", example)
    if target and not kind.tag:
        raise PromptError.of(where, f"@{target} names a LoRA, which this does not change", example)
    try:
        values = kind.values(split_list(listed), target, sources)
    except ValueError as error:
        raise PromptError.of(where, str(error), example) from None
    except UserError as error:
        problems = error.problems
        raise PromptError(
            Problem(where, f"{p.where}: {p.what}" if p.where else p.what, p.hint) for p in problems
        ) from None
    once = {value.label: value for value in reversed(values)}
    return Axis(
        option, kind, tuple(value for value in values if once[value.label] is value), target
    )


def axis_type_of(text: str) -> AxisType | None:
    """What ``AXIS@NAME=VALUES`` varies; None where no axis is called so."""
    return _BY_NAME.get(_plain(text.partition("=")[0].partition("@")[0]))


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _requested(field: str, *, whole: bool) -> Values:
    """Numbers for a field of the request."""

    def values(items: list[str], target: str, sources: Sources) -> list[Value]:
        return [
            _asking(str(n) if whole else f"{n:g}", **{field: n})
            for n in _numbers(items, whole=whole)
        ]

    return values


def _numbers(items: list[str], *, whole: bool) -> Iterator[int | float]:
    for item in items:
        for number in numbers(item, whole=whole):
            yield int(number) if whole else float(number)


def _asking(label: str, **fields: object) -> Value:
    return Value(label, lambda spec: spec.asking(**fields))


def _editing(label: str, target: str, edit: LoraEdit, file: Path | None = None) -> Value:
    return Value(label, lambda spec: spec.editing(target, edit), file)


def _samplers(items: list[str], target: str, sources: Sources) -> list[Value]:
    from lorasmith.sampling.samplers import find_sampler

    values = []
    for item in items:
        sampler = find_sampler(item)
        # A schedule that is named must stand, whatever --schedule says.
        if item.strip().lower() in (sampler.name, sampler.title.lower()):
            values.append(_asking(sampler.title, sampler=sampler.name))
        else:
            values.append(_asking(f"{sampler.title} {sampler.schedule_title}", sampler=item))
    return values


def _sizes(items: list[str], target: str, sources: Sources) -> list[Value]:
    sizes = [parse_size(item) for item in items]
    return [_asking(f"{w}x{h}", width=w, height=h) for w, h in sizes]


def _schedules(items: list[str], target: str, sources: Sources) -> list[Value]:
    from lorasmith.sampling.samplers import AUTOMATIC_TITLE, SCHEDULES, find_sampler

    values = []
    for item in items:
        # By a sampler that takes any; whether it goes with the grid's own is checked per image.
        schedule = "" if item.lower() == AUTOMATIC else find_sampler("euler", item).schedule
        title = SCHEDULES[schedule].title if schedule else AUTOMATIC_TITLE
        values.append(_asking(title, schedule=schedule or AUTOMATIC))
    return values


def _denoises(items: list[str], target: str, sources: Sources) -> list[Value]:
    def denoising(share: float) -> Value:
        def apply(spec: CellSpec) -> CellSpec:
            request = spec.request
            if request.hires is not None:
                return spec.asking(hires=replace(request.hires, denoise=share))
            if request.init is None:
                raise PromptError.of(
                    "Denoising", "there is no picture to begin with", "add --init or --hires"
                )
            return spec.asking(denoise=share)

        return Value(f"{share:g}", apply)

    return [denoising(float(share)) for share in _numbers(items, whole=False)]


def _models(items: list[str], target: str, sources: Sources) -> list[Value]:
    def drawn_by(model: str) -> Value:
        return Value(_file_label(model), lambda spec: spec.loading(path=model))

    return _labelled(items, drawn_by)


def _vaes(items: list[str], target: str, sources: Sources) -> list[Value]:
    def decoded_by(item: str) -> Value:
        vae = None if item.lower() in OWN else item
        label = "own" if vae is None else _file_label(item)
        return Value(label, lambda spec: spec.loading(vae=vae))

    return _labelled(items, decoded_by)


def _file_label(name: str) -> str:
    path = Path(name)
    return path.stem if path.suffix in (".safetensors", ".ckpt", ".pt") else path.name


def _labelled(items: list[str], make: Callable[[str], Value]) -> list[Value]:
    """Values that tell two files of one name apart by the whole of what was written."""
    values = [make(item) for item in dict.fromkeys(items)]
    labels = [value.label for value in values]
    return [
        replace(value, label=item) if labels.count(value.label) > 1 else value
        for value, item in zip(values, dict.fromkeys(items), strict=True)
    ]


def _prompts(items: list[str], target: str, sources: Sources) -> list[Value]:
    return [_asking(item, prompt=item) for item in items]


def _negatives(items: list[str], target: str, sources: Sources) -> list[Value]:
    return [_asking("none", negative="") if item.lower() in NOTHING else
            _asking(item, negative=item) for item in items]  # fmt: skip


def _replacements(items: list[str], target: str, sources: Sources) -> list[Value]:
    """The web UI's search and replace: the first is replaced by each."""
    searched = items[0]

    def replacing(text: str) -> Value:
        def apply(spec: CellSpec) -> CellSpec:
            request = spec.request
            if searched not in request.prompt and searched not in request.negative:
                raise PromptError.of(
                    "Prompt S/R",
                    f'"{searched}" is neither in the prompt nor in the negative prompt',
                    "the first value is the text that is replaced; capitals matter",
                )
            return spec.asking(
                prompt=request.prompt.replace(searched, text),
                negative=request.negative.replace(searched, text),
            )

        return Value(text, apply)

    return [replacing(item) for item in items]


def _triggers(items: list[str], target: str, sources: Sources) -> list[Value]:
    """Every trigger of a dataset, ``DIR`` or ``DIR,I:J``, in the place of the one in the prompt."""
    from lorasmith.curation.collection import open_collection
    from lorasmith.curation.stats import parse_range, triggers_of

    folders, positions = items, "1"
    if len(items) > 1 and re.fullmatch(r"[-\d\s]*:?[-\d\s]*", items[-1]):
        *folders, positions = items
    images = open_collection([user_path(folder) for folder in folders]).images
    triggers = list(triggers_of(images, *parse_range(positions, "positions")).counts)
    if not triggers:
        raise ValueError(f"no caption in {', '.join(folders)} has tags there")

    def naming(text: str) -> Value:
        def apply(spec: CellSpec) -> CellSpec:
            prompt = spec.request.prompt
            # The longest: "zorp, red hat" and not the "zorp" in it.
            present = max((each for each in triggers if each in prompt), key=len, default=None)
            if present is None:
                raise PromptError.of(
                    "Triggers",
                    f"the prompt has none of {shortlist(triggers)}",
                    "write one of them into the prompt: each takes its place in turn",
                )
            return spec.asking(prompt=prompt.replace(present, text))

        return Value(text, apply)

    return [naming(trigger) for trigger in triggers]


def _strengths(make: Callable[[float], LoraEdit]) -> Values:
    def values(items: list[str], target: str, sources: Sources) -> list[Value]:
        strengths = _numbers(items, whole=False)
        return [_editing(f"{number:g}", target, make(number)) for number in strengths]

    return values


def _blocks(items: list[str], target: str, sources: Sources) -> list[Value]:
    for item in items:
        split_blocks(item)
        if re.search(r"[<>]", item):
            raise ValueError(f'"{item}" cannot stand in a tag')
    return [_editing(item, target, LoraEdit(blocks=item)) for item in items]


def _loras(items: list[str], target: str, sources: Sources) -> list[Value]:
    values = []
    for item in items:
        path, file = user_path(item), None
        if item.lower() in NOTHING:
            edit = LoraEdit(removed=True)
        elif path.is_file():
            edit, file = LoraEdit(name=sources.library.add(path)), path
        else:
            edit, file = LoraEdit(name=item), sources.library.find(item)
        values.append(_editing(edit.name or "no LoRA", target, edit, file))
    return values


def _epochs(items: list[str], target: str, sources: Sources) -> list[Value]:
    snapshots_of_runs: list[tuple[str, Snapshot, SnapshotForm]] = []
    run = ""
    for item in items:
        run_name, part = split_run(item)
        # After the first, a part alone is of the same run: RUN:1-3,5,last.
        if run and is_part(item) and not is_run(find_run(item, sources.folders)):
            run_name, part = run, item
        run = run_name
        snapshots = find_snapshots(find_run(run, sources.folders))
        sources.relatives += [s.path.stem for s in snapshots if s.path is not None]
        form = form_of(snapshots)
        snapshots_of_runs += [(run, snapshot, form) for snapshot in choose(snapshots, part, run)]
    several = len({run for run, _, _ in snapshots_of_runs}) > 1
    values = []
    for run, snapshot, form in snapshots_of_runs:
        label = snapshot.label
        if several and snapshot.path is not None:
            label = f"{_file_label(run)} {label}"
        values.append(form.value(label, snapshot, target, sources))
    return values


AXIS_TYPES: tuple[AxisType, ...] = (
    AxisType("prompt", "Prompt", (), _prompts, "prompt", '"a cat","a dog, asleep"', order=0),
    AxisType("negative", "Negative prompt", ("negative prompt",), _negatives, "negative",
             "none,blurry", order=0),
    AxisType("sr", "Prompt S/R", ("prompt sr", "S/R"), _replacements, "", "cat,dog,bird", order=1),
    AxisType("triggers", "Trigger", ("trigger",), _triggers, "", "pictures,1:2", order=1),
    AxisType("lora", "LoRA", ("lora name",), _loras, "lora", "cat-v1,cat-v2,none", tag=True),
    AxisType("epoch", "Epoch", ("epochs", "snapshot", "snapshots"), _epochs, "lora",
             "runs/cat:1-15", tag=True),
    AxisType("strength", "LoRA strength", ("strengths", "weight", "lora strength"),
             _strengths(lambda s: LoraEdit(unet=s, text_encoder=s)), "unet te", "0.6,0.8,1",
             tag=True),
    AxisType("unet", "UNet strength", ("unet strength",), _strengths(lambda s: LoraEdit(unet=s)),
             "unet", "0.6,0.8,1", tag=True),
    AxisType("te", "Text encoder strength",
             ("te strength", "text encoder", "text encoder strength"),
             _strengths(lambda s: LoraEdit(text_encoder=s)), "te", "0,0.5,1", tag=True),
    AxisType("lbw", "Block weights", ("block weights", "lwb", "blocks"), _blocks, "lbw",
             "ALL,INS,OUTALL", tag=True),
    AxisType("seed", "Seed", ("seeds",), _requested("seed", whole=True), "seed", "1-4"),
    AxisType("steps", "Steps", ("sampling steps",), _requested("steps", whole=True), "steps",
             "10,20"),
    AxisType("cfg", "CFG scale", ("cfg scale", "guidance"), _requested("cfg", whole=False), "cfg",
             "3-9 (+2)"),
    AxisType("sampler", "Sampler", ("samplers", "sampling method"), _samplers, "sampler",
             "ddim,euler_a"),
    AxisType("size", "Size", ("sizes", "resolution"), _sizes, "size", "512x512,512x768"),
    AxisType("schedule", "Schedule", ("schedules", "schedule type", "scheduler"), _schedules,
             "schedule", "karras,exponential"),
    AxisType("clip skip", "Clip skip", (), _requested("clip_skip", whole=True), "clip skip", "1,2"),
    AxisType("denoise", "Denoising", ("denoising", "denoising strength"), _denoises, "denoise",
             "0.3-0.7 (+0.1)"),
    AxisType("cfg rescale", "CFG rescale", ("rescale",), _requested("cfg_rescale", whole=False),
             "cfg rescale", "0,0.7"),
    AxisType("eta", "Eta", (), _requested("eta", whole=False), "eta", "0,0.5,1"),
    AxisType("checkpoint", "Checkpoint", ("checkpoint name", "model", "models", "checkpoints"),
             _models, "model", "sd15.safetensors,other.safetensors"),
    AxisType("vae", "VAE", (), _vaes, "vae", "own,other.vae.safetensors"),
)  # fmt: skip

_BY_NAME = {_plain(name): kind for kind in AXIS_TYPES for name in (kind.name, *kind.aliases)}
