"""Rules about how tags are spread over a concept's images: what varies can be called up and left
out, what never does is part of what the trigger means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import comb

from lorasmith.advice.audit.captions import Concept, images_of
from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit_rules.caption_edits import edit_command, remove_tags
from lorasmith.core.text import quantity, quoted, shortlist, word_list
from lorasmith.curation.edit.consolidate import read_families
from lorasmith.curation.edit.spelling import LISTS, TagList, read_list
from lorasmith.curation.edit.tag_edits import TRAITS
from lorasmith.data.triggers import GENERIC_TAGS
from lorasmith.models.tokenizer import tokenized_words

# Fewer captions all have a tag by chance.
FEWEST = 6
# Of fewer captions a tag is in one or two only, or lacking in them, by chance.
MANY = 20
# A tag on all but so many images was forgotten there, or can hardly be left out.
SELDOM_OFF = 2
# Tags that are always together would be so in so many sets of the same counts by chance.
CHANCE = 0.01
# What goes together in fewer images is seldom what a concept is about: "beach" and "ocean".
TOGETHER = 0.3
_SHOWN = 12
WORN = frozenset(
    (
        *("footwear", "legwear", "headwear", "handwear", "neckwear", "eyewear", "jewelry"),
        *("dress", "shirt", "sweater", "jacket", "coat", "skirt", "pants", "shorts", "swimsuit"),
        *("underwear", "uniform", "serafuku", "kimono", "yukata", "armor", "armour", "suit"),
        *("leotard", "bodysuit", "cape", "cloak", "robe", "apron", "vest", "outfit", "costume"),
        *("neckerchief", "collar", "sleeves", "belt", "sash", "obi", "bow", "ribbon", "buttons"),
        *("midriff", "clothes", "cuffs", "pocket", "zipper", "hood", "shawl", "poncho", "top"),
    )
)
"""Of the families of tags (see consolidate), and words that no family has, those that are worn."""

_ON_AND_OFF = 'The Other LoRA Training Rentry, "Tags and details"'
_PRUNING = 'LoRA Training Guide (hdg), "Pruning Captions"'


def constant_traits(inputs: AuditInputs) -> Iterator[Finding]:
    traits = _traits()
    for concept, names in _constant(inputs):
        of_trait = [name for name in names if name in traits]
        if of_trait:
            yield _always(concept, of_trait, "they say what the trigger is to mean")


def never_off(inputs: AuditInputs) -> Iterator[Finding]:
    traits = _traits()
    for concept, names in _constant(inputs):
        others = [name for name in names if name not in traits]
        if others:
            yield _always(concept, others, "no picture is without")


def _constant(inputs: AuditInputs) -> Iterator[tuple[Concept, list[str]]]:
    """Tags that all captions of a concept have, without those that most captions begin with."""
    for concept in inputs.concepts:
        count = len(concept.tags.tagged)
        names = [
            name
            for name, captions in concept.tags.counts.items()
            if captions == count and name not in GENERIC_TAGS
        ]
        if count >= FEWEST and names:
            yield concept, names


def _always(concept: Concept, names: Sequence[str], then: str) -> Finding:
    spelled = tuple(map(concept.tags.spelled, names))
    count = len(concept.tags.tagged)
    tags = quantity(len(names), "tag", "is")
    return Finding(
        f"{tags} in all {count} captions of {quoted(concept.name)}, so {then}: "
        f"{shortlist(spelled, _SHOWN)}",
        images_of(concept.tags.tagged),
        spelled,
        value=count,
    )


def is_worn(name: str) -> bool:
    """Whether a bare tag is about clothes."""
    return not WORN.isdisjoint(read_families()[name].subjects)


def _traits() -> TagList:
    return TagList(tag for name in TRAITS for tag in read_list(LISTS / f"{name}.txt"))


def seldom_off(inputs: AuditInputs) -> Iterator[Finding]:
    for concept in inputs.concepts:
        tagged = concept.tags.tagged
        if len(tagged) < MANY:
            continue
        for name, on in concept.tags.counts.items():
            off = len(tagged) - on
            if 0 < off <= SELDOM_OFF and name not in GENERIC_TAGS:
                without = [one for one in tagged if name not in one.names]
                tag = concept.tags.spelled(name)
                yield Finding(
                    f"{quoted(tag)} is in {on} of {len(tagged)} captions of "
                    f"{quoted(concept.name)}, and lacking in {off}",
                    images_of(without),
                    (tag,),
                    value=off,
                    command=edit_command(inputs, f"add={tag}"),
                )


def always_together(inputs: AuditInputs) -> Iterator[Finding]:
    for concept in inputs.concepts:
        total = len(concept.tags.tagged)
        groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
        by_count: dict[int, int] = defaultdict(int)
        numbers = {id(one): number for number, one in enumerate(concept.tags.tagged)}
        for name, captions in concept.tags.captions_with.items():
            if name in GENERIC_TAGS:
                continue
            by_count[len(captions)] += 1
            groups[tuple(numbers[id(one)] for one in captions)].append(name)
        for places, names in groups.items():
            count = len(places)
            if len(names) < 2 or not max(FEWEST, TOGETHER * total) <= count < total:
                continue
            by_chance = comb(by_count[count], 2) / comb(total, count)
            # What makes up an outfit is best named whole, the same way each time.
            if by_chance > CHANCE or all(map(is_worn, names)):
                continue
            spelled = tuple(map(concept.tags.spelled, names))
            yield Finding(
                f"{word_list(spelled)} are together in {count} of {total} captions, and none is "
                "in another",
                images_of(concept.tags.captions_with[names[0]]),
                spelled,
                value=count,
            )


def seen_once(inputs: AuditInputs) -> Iterator[Finding]:
    """Of words that CLIP has no token for; what others mean is known without these images."""
    table = inputs.tags
    if len(table.tagged) < MANY:
        return
    once = [name for name, count in table.counts.items() if count == 1]
    names = [
        name
        for name in once
        if any(len(word.pieces) > 1 and word.text.isalpha() for word in tokenized_words(name))
    ]
    if names:
        spelled = tuple(map(table.spelled, names))
        captions = [table.captions_with[name][0] for name in names]
        yield Finding(
            f"{quantity(len(names), 'tag', 'has')} words that CLIP reads in pieces, and "
            f"{'is' if len(names) == 1 else 'are'} in one caption only, of {len(table.tagged)}: "
            f"{shortlist(spelled, _SHOWN)}",
            images_of(captions),
            spelled,
            value=len(names),
        )


BALANCE_RULES: tuple[Rule, ...] = (
    Rule(
        "constant-traits",
        "What the trigger says already",
        "note",
        constant_traits,
        "A trait that is always there is best left to the trigger: tagged, it has to be in every "
        "prompt as well.",
        source=_PRUNING,
        threshold=FEWEST,
        unit="captions of a concept, at least, and all of them",
        fix=remove_tags,
    ),
    Rule(
        "never-off",
        'Never shown "off"',
        "note",
        never_off,
        "What is on every picture cannot be left out in prompts: it is learned as part of the "
        "trigger, unless some pictures show the subject without it.",
        source=_ON_AND_OFF,
        threshold=FEWEST,
        unit="captions of a concept, at least, and all of them",
    ),
    Rule(
        "seldom-off",
        "Lacking in one or two captions",
        "note",
        seldom_off,
        "Either it was forgotten there, or there is next to nothing that shows the subject without "
        "it.",
        source=_ON_AND_OFF,
        threshold=SELDOM_OFF,
        unit=f"captions without it, of {MANY} or more",
    ),
    Rule(
        "always-together",
        "Tags that are always together",
        "note",
        always_together,
        "Which of them means what cannot be told apart: leave one out, or add pictures with one of "
        "them alone.",
        source=_ON_AND_OFF,
        threshold=TOGETHER,
        unit=f"of a concept's captions, at least {FEWEST}; chance is left out",
    ),
    Rule(
        "seen-once",
        "Tags in one caption only",
        "note",
        seen_once,
        "The base model does not know such a word, and one picture does not teach it; it may be a "
        "mistake.",
        source=_ON_AND_OFF,
        threshold=MANY,
        unit="captions, at least",
    ),
)
