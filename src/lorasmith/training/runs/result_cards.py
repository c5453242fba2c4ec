"""What is written beside a finished LoRA, cards for web UIs and people, and what comes next.

``NAME.png`` and ``NAME.json`` are what A1111 and Forge look for (``activation text``, ``preferred
weight``, ``negative text``, ``sd version``, ``notes``); ``NAME.md`` is for people.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from lorasmith.config.kinds import kind_facts
from lorasmith.config.schema import TrainSettings
from lorasmith.core.file_names import shell_word
from lorasmith.core.files import write_bytes
from lorasmith.core.text import quantity
from lorasmith.data.triggers import trigger_words
from lorasmith.sampling.request import ImageRequest
from lorasmith.training.kinds.table import kind_of
from lorasmith.training.runs.folder import (
    RunFolder,
    ended_early,
    read_info,
    steps_of,
    write_info,
)

if TYPE_CHECKING:
    from lorasmith.training.setup.build import Run

# What a LoRA is trained at, so what it is surest at.
STRENGTH = 1.0
_BEFORE_THE_FIRST_STEP = re.compile(r"(.*_)?e?0+[-_]\d+[-_]\d+\.png", re.ASCII | re.DOTALL)
_PROMPTS = 6


def write_cards(run: Run) -> None:
    """Write the three files; those that someone has changed, or that are not this run's, stay."""
    if not run.processes.main:
        return
    card_hashes = read_info(run.folder).get("cards")
    card_hashes = card_hashes if isinstance(card_hashes, dict) else {}
    foreign = []
    for path, content in _contents(run):
        before = path.read_bytes() if path.exists() else None
        if before is not None and sha256(before).hexdigest() != card_hashes.get(path.name):
            foreign += [path.name] if before != content else []
            continue
        write_bytes(path, content)
        card_hashes[path.name] = sha256(content).hexdigest()
    write_info(run.folder, cards=card_hashes)
    if foreign:
        what = "stays" if len(foreign) == 1 else "stay"
        names = " and ".join(foreign)
        run.inform(f"{names} {what} as before: changed since, or not written by this run")


def _contents(run: Run) -> Iterator[tuple[Path, bytes]]:
    result = run.folder.result
    trigger = ", ".join(trigger_words(run.run_plan.triggers))
    called = kind_of(run.settings).called(run.settings, run.folder.name, trigger)
    yield result.with_name(f"{run.folder.name}.json"), _json(web_ui_card(run, called))
    yield result.with_name(f"{run.folder.name}.md"), model_card(run, called).encode()
    sample = _preview(run, trigger)
    if sample is not None:
        yield result.with_name(f"{run.folder.name}.png"), sample.read_bytes()


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=4, ensure_ascii=False) + "\n").encode()


def web_ui_card(run: Run, trigger: str) -> dict[str, object]:
    """As A1111's editor of a LoRA's metadata saves it."""
    architecture = run.run_plan.architecture
    is_avoided, negative = _is_avoided(run.settings), run.settings.sample.negative
    strength = {"preferred weight": STRENGTH} if kind_facts(run.settings).has_strength else {}
    return {
        "description": run.settings.save.comment,
        "sd version": architecture.family.card_version,
        "activation text": "" if is_avoided else trigger,
        **strength,
        "negative text": ", ".join(filter(None, (trigger * is_avoided, negative))),
        "notes": f"trained on {run.model_name}, {_length(run)}"
        + (f"; clip skip {skip}" if (skip := _clip_skip(run)) else ""),
    }


def _clip_skip(run: Run) -> str:
    """ "" for models whose layer is settled."""
    takes_it = run.run_plan.architecture.family.takes_clip_skip
    return str(run.settings.model.clip_skip) if takes_it else ""


def model_card(run: Run, trigger: str) -> str:
    """A page about the LoRA, in Markdown."""
    settings, architecture = run.settings, run.run_plan.architecture
    rows = {
        "trigger": (f"`{_plain(trigger)}`" if trigger else "none")
        + ", for negative prompts" * _is_avoided(settings),
        "trained as": _trained_as(run.folder, settings),
        "base model": f"{_plain(run.model_name)} ({architecture.summary})",
        "strength": _strength(settings),
        "clip skip": _clip_skip(run),
        "kind": kind_of(settings).describe(settings, run.trained),
        "trained on": f"{_data(run)}, {_length(run)}",
        "author": _plain(settings.save.author),
        "license": _plain(settings.save.license),
    }
    lines = [f"# {_plain(run.folder.name)}", ""]
    if settings.save.comment:
        lines += [_plain(settings.save.comment), ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {name} | {value.replace('|', '/')} |" for name, value in rows.items() if value]
    lines += ["", "## Tested on", "", *_tests(run)]
    return "\n".join(lines) + "\n"


def _is_avoided(settings: TrainSettings) -> bool:
    """Whether what is learned is for negative prompts."""
    return settings.embedding.negative and "embedding" in kind_facts(settings).sections


def _strength(settings: TrainSettings) -> str:
    kind = kind_of(settings)
    if kind.strengths:
        return f"{kind.strengths[0]:g} to {kind.strengths[-1]:g}; at 0 nothing changes"
    text = f"{STRENGTH:g}, as it was trained; less where it takes over too much"
    return text if kind_facts(settings).has_strength else ""


def _trained_as(folder: RunFolder, settings: TrainSettings) -> str:
    """The word of captions, where other programs know the file by another; else ""."""
    words = settings.embedding.names
    if own_word(folder, settings) in ("", *words):
        return ""
    return f"`{_plain(words[0])}`, which `lorasmith generate` knows too"


def own_word(folder: RunFolder, settings: TrainSettings) -> str:
    """The word that the run's file goes by, where its name makes it; else ""."""
    return kind_of(settings).called(settings, folder.name, "")


def _data(run: Run) -> str:
    contrast = kind_of(run.settings).contrast(run.settings)
    if contrast is not None and not contrast.has_pairs:
        return _plain("; ".join(contrast.describe(run.settings)))
    images = {item.image.path for item in run.run_plan.dataset.items if not item.reg}
    if contrast is not None:
        return f"{quantity(len(images), 'pair')} of pictures"
    return quantity(len(images), "picture")


def _tests(run: Run) -> Iterator[str]:
    if not (run.samples and any(_samples(run))):
        yield "No pictures were drawn while it was trained."
        return
    how = f" at strength 1 with {_plain(run.model_name)}"
    how = how if kind_facts(run.settings).has_strength else ""
    yield f"Pictures drawn{how} while it was trained, of:"
    yield ""
    for request in run.samples[:_PROMPTS]:
        yield f"- `{_plain(request.prompt)}` ({_drawn_with(request)})"
    if len(run.samples) > _PROMPTS:
        yield f"- and {len(run.samples) - _PROMPTS} more"
    if run.run_plan.validation_set is not None:
        yield ""
        yield (
            f"Its loss was measured on {quantity(run.run_plan.validation_set.held_out, 'picture')} "
            "held out."
        )


def _drawn_with(request: ImageRequest) -> str:
    size = f"{request.width} x {request.height}, " if request.width else ""
    return f"{size}{request.sampler}, {quantity(request.steps, 'step')}, cfg {request.cfg:g}"


def _length(run: Run) -> str:
    """Of what the result was trained, which may be less than the run was to have."""
    steps = steps_of(run.folder.result) or run.steps
    return f"{quantity(steps, 'step')} ({quantity(run.run_plan.epoch_at(steps)[0], 'epoch')})"


def _plain(text: str) -> str:
    """On one line, and nothing that ends a code span."""
    return " ".join(text.replace("`", "'").split())


def _samples(run: Run) -> list[tuple[int, Path]]:
    """The images of the LoRA: what is drawn before the first step shows the base model."""
    images = run.folder.drawn_samples()
    after = [one for one in images if not _BEFORE_THE_FIRST_STEP.fullmatch(one[1].name)]
    steps = steps_of(run.folder.result) or run.steps
    if steps == run.steps:
        return after
    # A snapshot became the result: what was drawn of it, if anything was.
    epoch, ends_epoch = run.run_plan.epoch_at(steps)
    name = run.folder.sample(steps, epoch if ends_epoch else None, 0, 0).name
    own = name[: -len("00_0.png")]
    return [one for one in after if one[1].name.startswith(own)] or after


def _preview(run: Run, trigger: str) -> Path | None:
    """The newest sample of a prompt that has the trigger, else of any."""
    samples = _samples(run)
    words = [word.lower() for word in trigger.split(", ")]
    prompts = [one.prompt.lower() for one in run.samples]
    number = [n for n, prompt in enumerate(prompts) if any(word in prompt for word in words)]
    paths = [path for index, path in samples if number and index == number[0]]
    paths = paths or [path for _, path in samples]
    return paths[-1] if paths else None


def next_steps(folder: RunFolder, settings: TrainSettings) -> Iterator[str]:
    """The commands that come next."""
    run = shell_word(folder.handle)
    drawn = bool(settings.sample.prompts) or any(folder.drawn_samples())
    result = shell_word(folder.result)
    lines = dict(kind_of(settings).next_steps(settings, run, result, drawn=drawn))
    if settings.log.tensorboard:
        lines[f"tensorboard --logdir {shell_word(folder.tensorboard)}"] = "the charts"
    if ended_early(read_info(folder)):
        lines[f"lorasmith train --resume {run} --train.stop end"] = "go on to the end all the same"
    word = own_word(folder, settings)
    width = max(map(len, lines))
    yield "next:"
    for command, what in lines.items():
        yield f"  {command:<{width}}  {what}"
    if word and word not in settings.embedding.names:
        yield f"  its word is {word} wherever files' names are words, as in A1111 and ComfyUI"
