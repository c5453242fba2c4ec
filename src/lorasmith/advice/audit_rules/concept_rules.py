"""Rules about concepts: how they are balanced, and what regularisation images are for."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

from lorasmith.advice.audit.captions import Concept, WrittenCaption, images_of
from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit_rules.balance_rules import is_worn
from lorasmith.advice.audit_rules.caption_edits import edit_plan
from lorasmith.core.text import quantity, quoted, shortlist, word_list
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import open_collection
from lorasmith.curation.edit.spelling import bare
from lorasmith.data.companions import stem_of
from lorasmith.data.layout import folder_name

UNBALANCED = 3.0
FEWEST_REG = 1.0
# A tag that is on so many images of one folder, and so few of another, tells them apart.
_TELLS, _TELLS_NOT = 0.9, 0.1
# Share of regularisation images that are named after a training image, where names are to match.
NAMED_ALIKE = 0.5
# Share of a concept's captions that say the same subject, or the same clothes.
SAME = 0.9
_FEWEST = 8

_DREAMBOOTH = 'The Other LoRA Training Rentry, "Regularization images"'
_ELEMENTS = 'The Other LoRA Training Rentry, "Consistency of individual elements"'
_SUBJECTS = re.compile(r"\d\+?(?:girls?|boys?|others?)|multiple (?:girls|boys)|no humans")


def unbalanced(inputs: AuditInputs) -> Iterator[Finding]:
    if len(inputs.concepts) < 2:
        return
    concept, largest = (function(inputs.concepts, key=_uses) for function in (min, max))
    few, many, least, most = concept.name, largest.name, _uses(concept), _uses(largest)
    if most > UNBALANCED * least:
        folder = concept.captions[0].folder
        repeats = max(1, round(folder.repeats * most / least))
        name = folder_name(folder)
        target = folder.path.with_name(f"{repeats}_{name}") if name else None
        yield Finding(
            f"{quoted(many)} has {most} uses in an epoch, {quoted(few)} {least}: pictures times "
            "repeats",
            images_of(concept.captions),
            (few, many),
            value=round(most / least, 2),
            command=shlex.join(["mv", str(folder.path), str(target)]) if target else "",
        )


def _uses(concept: Concept) -> int:
    return sum(caption.folder.repeats for caption in concept.captions)


def shared_trigger(inputs: AuditInputs) -> Iterator[Finding]:
    for concept in inputs.concepts:
        folders = _by_folder_name(concept.captions)
        for (one, some), (other, others) in combinations(folders.items(), 2):
            if not concept.trigger or _are_of_one_kind(one, other, concept.trigger):
                continue
            if not _is_told_apart(some, others):
                yield Finding(
                    f"the folders {quoted(one)} and {quoted(other)} have one trigger, "
                    f"{quoted(concept.trigger)}, and no tag of their own",
                    images_of([*some, *others]),
                    (concept.trigger,),
                    value=2,
                )


def _are_of_one_kind(one: str, other: str, trigger: str) -> bool:
    """Whether folders' names say no two things: "zorp" and "zorp close", "zorp red hat" and "zorp
    blue hat"."""
    words = [_words(name) - _words(trigger) for name in (one, other)]
    return not (words[0] and words[1]) or bool(words[0] & words[1])


def _by_folder_name(captions: Iterable[WrittenCaption]) -> dict[str, list[WrittenCaption]]:
    by_folder: dict[Path, list[WrittenCaption]] = defaultdict(list)
    for caption in captions:
        by_folder[caption.folder.path].append(caption)
    by_name: dict[str, list[WrittenCaption]] = defaultdict(list)
    for some in by_folder.values():
        by_name[folder_name(some[0].folder)] += some
    return by_name


def _words(name: str) -> set[str]:
    return set(re.findall(r"\w{3,}", bare(name)))


def _is_told_apart(some: Sequence[WrittenCaption], others: Sequence[WrittenCaption]) -> bool:
    def share(captions: Sequence[WrittenCaption], name: str) -> float:
        return sum(name in one.names for one in captions) / len(captions)

    names = {name for caption in (*some, *others) for name in caption.names}
    return any(
        min(shares) <= _TELLS_NOT and max(shares) >= _TELLS
        for shares in ((share(some, name), share(others, name)) for name in names)
    )


def few_reg(inputs: AuditInputs) -> Iterator[Finding]:
    images, reg = len(inputs.captions), len(inputs.reg_captions)
    if reg and reg < FEWEST_REG * images:
        uses = sum(caption.folder.repeats for caption in inputs.captions)
        yield Finding(
            f"{quantity(reg, 'regularisation picture')} for "
            f"{quantity(images, 'training picture')}: each is used {uses / reg:.0f} times an epoch",
            images_of(inputs.reg_captions),
            value=round(reg / images, 2),
            command=inputs.command("regularize"),
        )


def unused_reg(inputs: AuditInputs) -> Iterator[Finding]:
    unused = [item for item in inputs.dataset.items if item.reg and not item.repeats]
    if unused:
        reg = sum(item.reg for item in inputs.dataset.items)
        yield Finding(
            f"{quantity(len(unused), 'regularisation picture', 'is')} not used, of {reg}: the "
            "others are as many as training pictures times repeats",
            tuple(item.image.path for item in unused),
            value=len(unused),
        )


def reg_trigger(inputs: AuditInputs) -> Iterator[Finding]:
    for concept in inputs.concepts:
        captions = [
            caption
            for caption in inputs.reg_captions
            if concept.trigger and caption.mentions(concept.trigger)
        ]
        if captions:
            count = quantity(len(captions), "regularisation caption", "has")
            yield Finding(
                f"{count} {quoted(concept.trigger)}, the trigger, in it",
                images_of(captions),
                (concept.trigger,),
                value=len(captions),
            )


def reg_names(inputs: AuditInputs) -> Iterator[Finding]:
    """Where most are named after a training image, each is to be; numbers alone are no names."""
    training = {stem_of(caption.image) for caption in inputs.captions}
    reg = [one for one in inputs.reg_captions if re.search(r"[^\W\d_]", stem_of(one.image))]
    others = [caption for caption in reg if stem_of(caption.image) not in training]
    if others and len(reg) - len(others) >= NAMED_ALIKE * len(reg):
        yield Finding(
            f"{quantity(len(others), 'regularisation picture', 'is')} named after no training "
            f"picture, and the others of {len(reg)} are",
            images_of(others),
            value=len(others),
        )


def reg_class(inputs: AuditInputs) -> Iterator[Finding]:
    """Where folders are named "TRIGGER CLASS", regularisation is to be of one of these classes."""
    classes: set[str] = set()
    for concept in inputs.concepts:
        trigger = _words(concept.trigger)
        for name in _by_folder_name(concept.captions):
            if trigger and trigger <= _words(name):
                classes |= _words(name) - trigger
    for name, captions in _by_folder_name(inputs.reg_captions).items():
        if classes and name and not _words(name) & classes:
            yield Finding(
                f"the regularisation folder {quoted(name)} is of none of what is trained: "
                f"{shortlist(sorted(classes))}",
                images_of(captions),
                value=len(captions),
            )


def one_subject(inputs: AuditInputs) -> Iterator[Finding]:
    for concept in _of_kind(inputs, "style"):
        subjects = {
            name: count for name, count in concept.tags.counts.items() if _SUBJECTS.fullmatch(name)
        }
        yield from _same(concept, subjects, "show")


def one_outfit(inputs: AuditInputs) -> Iterator[Finding]:
    for concept in _of_kind(inputs, "character"):
        worn = {name: count for name, count in concept.tags.counts.items() if is_worn(name)}
        yield from _same(concept, worn, "have")


def _of_kind(inputs: AuditInputs, kind: str) -> list[Concept]:
    concepts = inputs.concepts if inputs.kind == kind else []
    return [concept for concept in concepts if len(concept.tags.tagged) >= _FEWEST]


def _same(concept: Concept, counts: dict[str, int], verb: str) -> Iterator[Finding]:
    total = len(concept.tags.tagged)
    names = [name for name, count in counts.items() if count >= SAME * total]
    if names:
        spelled = tuple(map(concept.tags.spelled, names))
        least = min(counts[name] for name in names)
        yield Finding(
            f"{least} of {total} pictures of {quoted(concept.name)} {verb} {word_list(spelled)}",
            images_of(concept.tags.captions_with[names[0]]),
            spelled,
            value=round(least / total, 3),
        )


def _needs_kind(kind: str) -> Callable[[AuditInputs], str]:
    def missing(inputs: AuditInputs) -> str:
        return "" if inputs.kind else f"needs to know what it is: --kind {kind}"

    return missing


def _without_trigger(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    folders = dict.fromkeys(path.parent for finding in findings for path in finding.images)
    return edit_plan(
        inputs,
        findings,
        lambda finding: [f"remove={tag}" for tag in finding.tags],
        open_collection(list(folders), observer=inputs.observer),
    )


CONCEPT_RULES: tuple[Rule, ...] = (
    Rule(
        "unbalanced",
        "Concepts out of balance",
        "warning",
        unbalanced,
        "One is learned by heart while the other is not yet learned; repeats even that out.",
        source='LoRA Training Guide (hdg), "How to set up the image directory"',
        threshold=UNBALANCED,
        unit="times as many uses in an epoch",
    ),
    Rule(
        "shared-trigger",
        "Two concepts, one trigger",
        "warning",
        shared_trigger,
        "A prompt cannot say which of the two is meant, and gets something between them.",
        threshold=2,
        unit="folders without a tag that tells them apart",
    ),
    Rule(
        "few-regularisation",
        "Few regularisation pictures",
        "note",
        few_reg,
        "They are repeated to match the training pictures, and then learned themselves.",
        source=_DREAMBOOTH,
        threshold=FEWEST_REG,
        unit="times as many as training pictures, at least",
    ),
    Rule(
        "unused-regularisation",
        "Regularisation pictures that are not used",
        "note",
        unused_reg,
        "As many are used as there are training pictures times repeats.",
        source=_DREAMBOOTH,
    ),
    Rule(
        "regularisation-trigger",
        "The trigger among regularisation captions",
        "warning",
        reg_trigger,
        "They teach the trigger what it is not to mean.",
        source=_DREAMBOOTH,
        fix=_without_trigger,
    ),
    Rule(
        "regularisation-names",
        "Regularisation pictures of other names",
        "note",
        reg_names,
        "Where each is drawn for one training picture, its name says for which.",
        source=_DREAMBOOTH,
        threshold=NAMED_ALIKE,
        unit="of them named after a training picture, at least",
    ),
    Rule(
        "regularisation-class",
        "Regularisation of something else",
        "note",
        reg_class,
        "It keeps what its own words call up; the class that is trained shifts all the same.",
        source=_DREAMBOOTH,
    ),
    Rule(
        "one-subject",
        "A style with one subject only",
        "note",
        one_subject,
        "The style then comes with the subject, whatever is asked for.",
        source=_ELEMENTS,
        threshold=SAME,
        unit="of the pictures, at least",
        missing=_needs_kind("style"),
    ),
    Rule(
        "one-outfit",
        "A character with one outfit only",
        "note",
        one_outfit,
        "Its clothes are then learned as part of it, and are drawn over what is asked for.",
        source=_ELEMENTS,
        threshold=SAME,
        unit="of the pictures, at least",
        missing=_needs_kind("character"),
    ),
)
