"""Rules about triggers: that the word stands where it must, and means nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from lorasmith.advice.audit.captions import Concept, WrittenCaption, images_of
from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit_rules.caption_edits import edit_plan, train_command
from lorasmith.core.text import quantity, quoted
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.edit.spelling import bare
from lorasmith.data.captions import split_tags
from lorasmith.models.tokenizer import clip_tokenizer, tokenized_words

# CLIP's vocabulary has the most frequent words first. Those behind this are met so seldom that
# people take them for triggers (sks, ohwx).
KNOWN_WORDS = 40_000
# Pieces that are words by themselves, and frequent ones.
COMMON_WORDS = 12_000
# A word of three letters may be in an invented one by chance (zen-net).
_LETTERS = 4
# Share of captions in which a tag that is kept in front stands elsewhere in others.
KEPT_ELSEWHERE = 0.2

_SOURCE = 'The Other LoRA Training Rentry, "When to tag characters/styles"'


def missing(inputs: AuditInputs) -> Iterator[Finding]:
    for concept in _with_triggers(inputs):
        captions = [one for one in _captioned(concept) if not _has(one)]
        if captions:
            count = quantity(len(captions), "caption", "has")
            name = quoted(concept.trigger)
            in_front = captions[0].rules.trigger_in_front
            then = "; it is put in front of them in memory" if in_front else ""
            yield Finding(
                f"{count} no {name}, the trigger, of {len(_captioned(concept))}{then}",
                images_of(captions),
                (concept.trigger,),
                value=len(captions),
                # What a run puts there itself costs it nothing.
                severity="note" if in_front else "warning",
            )


def not_first(inputs: AuditInputs) -> Iterator[Finding]:
    for concept in _with_triggers(inputs):
        tagged = [one for one in _captioned(concept) if not one.is_prose and _has(one)]
        begins = bare(concept.trigger)  # perhaps without a comma behind it
        captions = [
            one
            for one in tagged
            if one.tags
            and bare(one.tags[0]) not in one.trigger_tags
            and not bare(one.text).startswith(begins)
        ]
        if captions:
            count = quantity(len(captions), "caption", "has")
            yield Finding(
                f"{count} {quoted(concept.trigger)}, the trigger, behind other tags",
                images_of(captions),
                (concept.trigger,),
                value=len(captions),
            )


def twice(inputs: AuditInputs) -> Iterator[Finding]:
    for concept in _with_triggers(inputs):
        captions = [one for one in _captioned(concept) if _most_often(one) > 1]
        if captions:
            count = quantity(len(captions), "caption", "has")
            yield Finding(
                f"{count} {quoted(concept.trigger)}, the trigger, more than once",
                images_of(captions),
                (concept.trigger,),
                value=max(map(_most_often, captions)),
            )


def known(inputs: AuditInputs) -> Iterator[Finding]:
    vocabulary = clip_tokenizer()
    for concept in _with_triggers(inputs):
        places = []
        for word in tokenized_words(concept.trigger):
            if not word.text.isalpha():
                continue
            number = vocabulary.token_to_id(f"{word.text}</w>")
            places.append(KNOWN_WORDS if number is None else number)
        if places and max(places) < KNOWN_WORDS:
            one = "a word" if len(places) == 1 else "words"
            yield Finding(
                f"{quoted(concept.trigger)}, the trigger, is {one} that CLIP knows "
                f"({max(places):,} of 49,408 by how often it was met)",
                tags=(concept.trigger,),
                value=max(places),
            )


def common_pieces(inputs: AuditInputs) -> Iterator[Finding]:
    vocabulary = clip_tokenizer()
    for concept in _with_triggers(inputs):
        words = tokenized_words(concept.trigger)
        for word in words:
            numbers = [vocabulary.token_to_id(f"{piece}</w>") for piece in word.pieces]
            common = [
                number is not None and number < COMMON_WORDS and len(piece) > 1
                for number, piece in zip(numbers, word.pieces, strict=True)
            ]
            long = any(len(piece) >= _LETTERS for piece in word.pieces)
            if len(word.pieces) > 1 and all(common) and long:
                yield Finding(
                    f"{quoted(concept.trigger)}, the trigger, is read as "
                    f"{' + '.join(word.pieces)}, which are words of their own",
                    tags=(concept.trigger,),
                    value=max(number for number in numbers if number is not None),
                )


def keep_tokens(inputs: AuditInputs) -> Iterator[Finding]:
    """Too few are kept, so that the trigger wanders; or more than is the same in front."""
    for concept in inputs.concepts:
        tagged = [one for one in _captioned(concept) if not one.is_prose]
        if not tagged or not (tagged[0].rules.shuffle or tagged[0].rules.tag_dropout):
            continue
        rules = tagged[0].rules
        if rules.keep_tokens_separator:
            continue
        needed = len(split_tags(concept.trigger, rules.separator))
        if rules.keep_tokens < needed:
            setting = f"captions.keep_tokens={needed}"
            yield Finding(
                f"captions.keep_tokens is {rules.keep_tokens}: {quoted(concept.trigger)}, the "
                "trigger, is moved or dropped with the other tags",
                tags=(concept.trigger,),
                value=rules.keep_tokens,
                threshold=needed,
                command=train_command(inputs, setting),
            )
            continue
        kept = [set(map(bare, one.tags[needed : rules.keep_tokens])) for one in tagged]
        free = Counter(bare(tag) for one in tagged for tag in set(one.tags[rules.keep_tokens :]))
        elsewhere = [
            one for one, tags in zip(tagged, kept, strict=True) if any(free[tag] for tag in tags)
        ]
        if len(elsewhere) > KEPT_ELSEWHERE * len(tagged):
            yield Finding(
                f"captions.keep_tokens is {rules.keep_tokens}: in {len(elsewhere)} of "
                f"{quantity(len(tagged), 'caption')} it keeps tags in front that stand further "
                f"back in others; the trigger is {quantity(needed, 'tag')}",
                images_of(elsewhere),
                value=round(len(elsewhere) / len(tagged), 3),
                command=train_command(inputs, f"captions.keep_tokens={needed}"),
            )


def _with_triggers(inputs: AuditInputs) -> list[Concept]:
    return [concept for concept in inputs.concepts if concept.trigger]


def _captioned(concept: Concept) -> list[WrittenCaption]:
    return [caption for caption in concept.captions if caption.text]


def _has(caption: WrittenCaption) -> bool:
    prefix_and_suffix = bare(f"{caption.rules.prefix} {caption.rules.suffix}")
    return all(caption.mentions(tag) or tag in prefix_and_suffix for tag in caption.trigger_tags)


def _most_often(caption: WrittenCaption) -> int:
    """How often a tag of the trigger stands in a caption."""
    counts = Counter(map(bare, caption.tags))
    return max((counts[tag] for tag in caption.trigger_tags), default=0)


def _put_first(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    return edit_plan(inputs, findings, lambda finding: [f"trigger={finding.tags[0]}"])


def _once(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    return edit_plan(inputs, findings, lambda finding: ["dedupe"])


TRIGGER_RULES: tuple[Rule, ...] = (
    Rule(
        "trigger-missing",
        "Trigger missing",
        "warning",
        missing,
        "The trigger has to be in every caption, or what the pictures share is learned under other "
        "words too.",
        source=_SOURCE,
        fix=_put_first,
        safe=True,
        otherwise="note where a run puts it in front by itself (captions.trigger_in_front)",
    ),
    Rule(
        "trigger-not-first",
        "Trigger not in front",
        "note",
        not_first,
        "First is where trainers keep it when tags are shuffled, and where it is never cut off.",
        source=_SOURCE,
        fix=_put_first,
        safe=True,
    ),
    Rule(
        "trigger-twice",
        "Trigger twice",
        "warning",
        twice,
        "It is learned as a pair of words, and answers less when a prompt has it once.",
        threshold=2,
        unit="times in a caption",
        fix=_once,
        safe=True,
    ),
    Rule(
        "trigger-known",
        "The trigger means something already",
        "note",
        known,
        "What the base model draws for it comes with it, which helps where that is what is shown, "
        "and is in the way everywhere else; what it draws is not looked at here.",
        source=_SOURCE,
        threshold=KNOWN_WORDS,
        unit="rank in CLIP's vocabulary",
    ),
    Rule(
        "trigger-pieces",
        "The trigger is read as other words",
        "note",
        common_pieces,
        "The tokenizer has no token for it and reads it in pieces, whose meanings come along.",
        threshold=COMMON_WORDS,
        unit="rank of each piece in CLIP's vocabulary",
    ),
    Rule(
        "keep-tokens",
        "Tags kept in front",
        "warning",
        keep_tokens,
        "What captions.keep_tokens counts are tags between commas: the trigger's, and no more.",
        threshold=KEPT_ELSEWHERE,
        unit="share of captions",
    ),
)
