"""What the measures say by themselves, beside the causes: a few sentences for each question."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lorasmith.advice.diagnose.evidence import SAVES, constant_answers
from lorasmith.advice.diagnose.subject import Subject
from lorasmith.advice.diagnose.tag_groups import question_of
from lorasmith.core.text import shortlist, word_list
from lorasmith.curation.edit.spelling import bare
from lorasmith.data.captions import split_tags
from lorasmith.formats.block_weights import BASE, FORMS, SIDE, format_number
from lorasmith.measures.answers import Answers
from lorasmith.measures.base_kept import BaseKept
from lorasmith.measures.block_effects import BlockEffects
from lorasmith.measures.records import DIVERGED
from lorasmith.measures.strength_grid import StrengthGrid, mean_and_error
from lorasmith.measures.tag_effects import TagEffect, TagEffects
from lorasmith.measures.told import TagReadings
from lorasmith.measures.verdict import LEAK

# A part's best strength is told as a factor on its rate from this far off 1.
_OFF = 0.15
# Of the base's loss: a LoRA that changes less has learned nothing.
_NOTHING = 0.02
STUCK, OBEYED, COMMON = 0.75, 0.25, 0.6
"""A tag comes unasked from this share of the drawings on, unless this share of the captions has it;
it cannot be had at or below the middle one, where the base alone can draw it."""
ANSWERS = 1.5
"""A word is answered to from so many times the usual move on."""
_SHOWN = 6
_SDXL_SIDE = 9


@dataclass(frozen=True, slots=True)
class Section:
    """
    Args:
        id: of the JSON.
        title: a heading.
        lines: sentences.
    """

    id: str
    title: str
    lines: tuple[str, ...]


def sections_of(subject: Subject, results: Mapping[str, Any]) -> tuple[Section, ...]:
    """Those that there is something to say in."""
    found = [
        Section("parts", "Strengths of its parts", parts(results.get("strengths"))),
        Section("tags", "Its tags", tags(subject, results.get("tags"), results.get("shown"))),
        Section("base", "Other things", base(results.get("kept"))),
        Section("answers", "What it answers to", answers(subject, results.get("answers"))),
        Section("blocks", "Its blocks", blocks(subject, results.get("blocks"))),
    ]
    return tuple(section for section in found if section.lines)


def parts(grid: StrengthGrid | None) -> tuple[str, ...]:
    """The guides' test of both strengths."""
    if grid is None:
        return ()
    best = grid.optimum()
    if abs(grid.at(1.0, 1.0)[0]) < _NOTHING and best.gain > -_NOTHING:
        return ("It changes next to nothing at any strength.",)
    if best.gain > -SAVES:
        return ("Both parts are best at full strength.",)
    lines = [f"B{best_at(grid)[1:]}: the loss is {-best.gain:.0%} of the base's lower there."]
    by_part = {
        "UNet": (best.unet, "unet_lr"),
        "text encoder": (best.text_encoder, "text_encoder_lr"),
    }
    for part, (strength, setting) in by_part.items():
        if strength < 1 - _OFF:
            factor = f"{max(strength, 0.1):.2g}"
            change = (
                f"multiply its rate (optimizer.{setting}) by {factor}, or train as much shorter"
            )
            lines.append(f"The {part}'s part is too strong: {change}.")
        elif strength > 1 + _OFF:
            lines.append(f"The {part}'s part could take {strength:.2g} times its rate.")
    return tuple(lines)


def best_at(grid: StrengthGrid) -> str:
    """ "best at UNet 0.50 ± 0.02 and text encoder 1.00 ± 0.00" """
    best = grid.optimum()
    text = f"best at UNet {with_error(best.unet, best.unet_error)}"
    if len(grid.text_encoder) > 1:
        text += f" and text encoder {with_error(best.text_encoder, best.text_encoder_error)}"
    return text


def with_error(value: float, error: float, form: str = ".2f") -> str:
    """Without the error where a single value leaves it unknown."""
    return f"{value:{form}}" + (f" ± {error:{form}}" if math.isfinite(error) else "")


def tags(
    subject: Subject, effects: TagEffects | None, shown: TagReadings | None
) -> tuple[str, ...]:
    if effects is None:
        return ()
    lines = []
    for one in stuck_tags(subject, effects):
        taught = images_that_teach(one, subject, shown)
        text = f"{one.tag!r} comes unasked in {one.unasked:.0%} of {effects.count} drawings"
        teach = "teaches" if len(taught) == 1 else "teach"
        lines.append(text + (f"; {shortlist(taught)} {teach} it." if taught else "."))
    for one in effects.effects:
        if one.asked <= OBEYED and one.base >= STUCK:
            text = (
                f"{one.tag!r} was asked for and is in {one.asked:.0%} of {effects.count} drawings"
            )
            lines.append(f"{text}; the base alone draws it in {one.base:.0%}.")
    obedient = [one.tag for one in effects.effects if one.asked >= STUCK > one.unasked]
    if obedient:
        lines.append(f"They come when asked and not else: {word_list(obedient[:_SHOWN])}.")
    return tuple(lines)


def stuck_tags(subject: Subject, effects: TagEffects) -> list[TagEffect]:
    """Tags that come unasked though most captions are without them."""
    captions = _captions(subject)
    stuck = []
    for one in effects.effects:
        share = fmean(one.tag in caption for caption in captions) if captions else 0.0
        if one.answers > 2 and one.unasked >= STUCK and share < COMMON:
            stuck.append(one)
    return stuck


def images_that_teach(effect: TagEffect, subject: Subject, shown: TagReadings | None) -> list[str]:
    """Images that show a tag, by the base's eyes, while their caption does not say it; else those
    that say it."""
    if shown is None or effect.question not in shown.groups:
        return []
    place = shown.groups[effect.question].index(effect.tag)
    rows = zip(shown.images, shown.tags, shown.errors[effect.question], strict=True)
    seen = [(image, own) for image, own, row in rows if min(row) == row[place]]
    silent = [image for image, own in seen if effect.question not in map(question_of, own)]
    return silent or [image for image, _ in seen]


def _captions(subject: Subject) -> list[set[str]]:
    """Bare tags of each."""
    items = subject.eval_set.references.items if subject.eval_set else ()
    separator = subject.settings.captions.separator
    return [set(map(bare, split_tags(item.caption, separator))) for item in items]


def base(kept: BaseKept | None) -> tuple[str, ...]:
    if kept is None:
        return ()
    if max([*kept.moved, *kept.called], default=0.0) >= DIVERGED:
        return ("Predictions of other things are no numbers any more: it has diverged.",)
    lines = []
    if leaks := kept.leaks():
        mean, error = mean_and_error(leaks)
        far = f"{with_error(mean, error)} times as far as with the trigger"
        judged = "the word makes little difference" if mean >= LEAK else "they are kept"
        lines.append(f"Prompts of other things move {far}: {judged}.")
    if kept.drawings:
        mean, error = mean_and_error(kept.drawings)
        text = f"{with_error(mean, error, '.0%')} of the distance between two of the base's"
        lines.append(f"Their drawings are away from the base's of the same seed by {text}.")
        worst = max(range(len(kept.drawings)), key=kept.drawings.__getitem__)
        if kept.drawings[worst] > 2 * mean:
            lines.append(f"Farthest: {kept.prompts[worst]!r} ({kept.drawings[worst]:.0%}).")
    return tuple(lines)


def proposed_trigger(found: Answers) -> tuple[str, float] | None:
    """The word that moves predictions most, if it stands out."""
    ranked = found.ranked()
    return ranked[0] if ranked and ranked[0][1] >= ANSWERS else None


def answers(subject: Subject, found: Answers | None) -> tuple[str, ...]:
    if found is None:
        return ()
    if max([found.usual_shift, *found.shifts], default=0.0) >= DIVERGED:
        return ("Its text encoder's part gives no numbers any more: it has diverged.",)
    lines = []
    proposal = proposed_trigger(found)
    if not found.words:
        why = "its file names none, and it has no text encoder's part"
        lines.append(f"There is no word to try: {why}.")
    elif proposal is None:
        lines.append("No word that was tried moves its predictions more than others do.")
    else:
        word, factor = proposal
        text = f"{word!r} moves its predictions {factor:.1f} times as far as words do in the median"
        named = word in subject.triggers
        lines.append(f"{text}: {'its trigger' if named else 'a trigger to try'}.")
        others = [f"{name} {move:.1f}" for name, move in found.ranked()[1:_SHOWN]]
        lines.append(f"Next: {', '.join(others)}.")
    if found.tokens:
        tokens = zip(found.tokens[:_SHOWN], found.shifts, strict=False)
        moved = ", ".join(f"{token} {shift:.2f}" for token, shift in tokens)
        usual = f"{found.usual_shift:.2f} is usual"
        lines.append(f"Its text encoder's part moves these tokens most: {moved}; {usual}.")
    return tuple(lines)


def blocks(subject: Subject, found: BlockEffects | None) -> tuple[str, ...]:
    if found is None or fmean(found.whole) > -_NOTHING:
        return ()
    shares = found.contributions()
    ranked = sorted(shares, key=lambda block: -shares[block][0])[:4]
    most = [f"{block} {shares[block][0]:.0%} ± {shares[block][1]:.0%}" for block in ranked]
    lines = [f"Lost of what it gained without a block: {', '.join(most)}."]
    idle = found.idle()
    if idle:
        places = subject.base.architecture.blocks
        names, preset = places.ranges(idle) or BASE, block_preset(found, places.inputs)
        lines.append(f"Of no use: {names}. Draw without: lbw={preset}")
        if idle != [BASE]:
            lines.append(f'Train without: adapter.blocks = "{training_blocks(found)}"')
    return tuple(lines)


def block_preset(found: BlockEffects, sides: int = SIDE) -> str:
    """In the shorter of the extension's two forms for the family that names all blocks of the LoRA.

    Args:
        sides: IN blocks of the model; SDXL has 9.
    """
    idle = found.idle()
    short, full = (12, 20) if sides == _SDXL_SIDE else (17, 26)
    form = FORMS[short] if set(found.blocks) <= set(FORMS[short]) else FORMS[full]
    return ",".join(
        format_number(float(block in found.blocks and block not in idle)) for block in form
    )


def training_blocks(found: BlockEffects) -> str:
    """As ``adapter.blocks`` takes it; the text encoder has a rate of its own."""
    unused = [block for block in found.idle() if block != BASE]
    return " ".join(["rest=1", *(f"{block}=0" for block in unused)])


def to_json(subject: Subject, results: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers behind the sentences."""
    tags, kept, found = results.get("tags"), results.get("kept"), results.get("answers")
    effects = results.get("blocks")
    return {
        "tags": None
        if tags is None
        else [
            {
                "tag": one.tag,
                "asked": one.asked,
                "unasked": one.unasked,
                "base": one.base,
                "images": images_that_teach(one, subject, results.get("shown")),
            }
            for one in tags.effects
        ],
        "always_shown": None
        if results.get("shown") is None
        else [one.tag for one in constant_answers(results["shown"])],
        "base_kept": None
        if kept is None
        else {"prompts": kept.prompts, "leaks": kept.leaks(), "drawings": kept.drawings},
        "answers": None
        if found is None
        else {
            "trigger": (proposed_trigger(found) or (None,))[0],
            "words": dict(found.ranked()),
            "tokens": dict(zip(found.tokens, found.shifts, strict=True)),
        },
        "blocks": None
        if effects is None
        else {
            "contributions": {
                block: {"share": share, "error": error}
                for block, (share, error) in effects.contributions().items()
            },
            "idle": effects.idle(),
            "lbw": block_preset(effects, subject.base.architecture.blocks.inputs),
            "adapter.blocks": training_blocks(effects),
        },
    }
