"""Rules about whole captions: that there is one, how long it is, what it is written in."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from lorasmith.advice.audit.captions import TagTable, WrittenCaption, images_of
from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit_rules.caption_edits import edit_plan, train_command
from lorasmith.core.text import quantity, quoted
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.check.checks import is_list_without_commas
from lorasmith.curation.token_counts import LIMITS, tokenize
from lorasmith.data.captions import readings
from lorasmith.data.layout import folder_caption

# Captions of so many tags, the trigger's left out, are equal by more than chance.
EQUAL_TAGS = 6
# Shorter ones are equal by so little chance, if tags are as frequent as they are.
EQUAL_CHANCE = 1e-4
# So much of what is cut off is shown.
_SHOWN = 60


def missing(inputs: AuditInputs) -> Iterator[Finding]:
    by_folder: dict[Path, list[WrittenCaption]] = defaultdict(list)
    for caption in inputs.captions:
        by_folder[caption.folder.path].append(caption)
    empty_files = set(map(os.path.abspath, _with_empty_files(inputs)))
    for captions in by_folder.values():
        without = [
            caption
            for caption in captions
            if caption.file is None and os.path.abspath(caption.image) not in empty_files
        ]
        if not without:
            continue
        name = folder_caption(without[0].folder)
        instead = f"{quoted(name)}, the folder's name, is used" if name else "nothing is used"
        every = len(without) == len(captions)
        count = quantity(len(without), "picture", "has")
        what = f"{count} no caption, of {len(captions)}; {instead}"
        if every:
            what = f"none of {quantity(len(captions), 'picture')} has a caption; {instead}"
        yield Finding(
            what,
            images_of(without),
            value=len(without),
            # One name may be all that a set needs.
            severity="note" if every and name else "warning",
            command=inputs.command("tag", "--where", "untagged"),
        )


def empty(inputs: AuditInputs) -> Iterator[Finding]:
    paths = _with_empty_files(inputs)
    if paths:
        yield Finding(
            f"{quantity(len(paths), 'caption', 'is')} empty",
            tuple(paths),
            value=len(paths),
            command=inputs.command("tag", "--where", "untagged"),
        )


def _with_empty_files(inputs: AuditInputs) -> list[Path]:
    texts = inputs.files.texts
    empty = {path for path, caption in texts.items() if caption.is_text and not caption.text}
    return [image.path for image in inputs.images if image.caption_path in empty]


def too_long(inputs: AuditInputs) -> Iterator[Finding]:
    """A finding for each length that would do: 150, 225, and what no setting holds."""
    limit = inputs.settings.model.max_tokens
    lengths: dict[Path, tuple[int, str]] = {}
    for item in inputs.items:
        for text in readings(item.caption, inputs.dataset.rules_of(item)):
            # A token is a byte at least, so what is short need not be counted.
            length = inputs.count_tokens(text) if len(text.encode()) > limit else 0
            if length > max(limit, lengths.get(item.image.path, (0, ""))[0]):
                lengths[item.image.path] = length, text
    for low, high in zip((limit, *LIMITS[1:]), (*LIMITS[1:], 10**9), strict=True):
        paths = [path for path, (length, _) in lengths.items() if low < length <= high]
        if not paths or low < limit:
            continue
        paths.sort(key=lambda path: -lengths[path][0])
        length, text = lengths[paths[0]]
        cut = tokenize(text).part(limit, length)
        cut = cut if len(cut) <= _SHOWN else f"{cut[:_SHOWN]}…"
        count = quantity(len(paths), "caption", "has")
        which = f"{length} tokens, {limit} of which are read"
        if len(paths) > 1:
            which = f"more than {limit} tokens, the longest {length}"
        fits = high in LIMITS
        yield Finding(
            f"{count} {which}: {quoted(cut)} is cut off",
            tuple(paths),
            value=length,
            threshold=limit,
            command=(
                train_command(inputs, f"model.max_tokens={high}")
                if fits
                else inputs.command("edit", "--consolidate", "--where", f"tokens:>{limit}")
            ),
        )


def several_lines(inputs: AuditInputs) -> Iterator[Finding]:
    captions = [
        caption
        for caption in inputs.captions
        if len(caption.text.splitlines()) > 1 and not caption.rules.wildcards
    ]
    if captions:
        count = quantity(len(captions), "caption", "has")
        yield Finding(
            f"{count} several lines, of which only the first is used",
            images_of(captions),
            value=len(captions),
        )


def no_commas(inputs: AuditInputs) -> Iterator[Finding]:
    captions = [
        caption for caption in inputs.captions if any(map(is_list_without_commas, caption.tags))
    ]
    if captions:
        count = quantity(len(captions), "caption", "has")
        yield Finding(
            f"{count} many words and no comma between them, so a single tag",
            images_of(captions),
            value=len(captions),
        )


def two_forms(inputs: AuditInputs) -> Iterator[Finding]:
    for concept in inputs.concepts:
        prose = [caption for caption in concept.captions if caption.is_prose]
        # A single tag may be a sentence's beginning as well.
        tags = [one for one in concept.captions if not one.is_prose and len(one.tags) > 2]
        if not (prose and tags):
            continue
        fewer, form = min((prose, "sentences"), (tags, "tags"), key=lambda pair: len(pair[0]))
        others = "tags" if form == "sentences" else "sentences"
        yield Finding(
            f"{quantity(len(fewer), 'caption', 'is')} in {form}, where {len(prose) + len(tags)} "
            f"of {quoted(concept.name)} are in {others} for the most part",
            images_of(fewer),
            value=len(fewer),
        )


def equal(inputs: AuditInputs) -> Iterator[Finding]:
    groups: dict[tuple[Path, str], list[WrittenCaption]] = defaultdict(list)
    for caption in inputs.captions:
        if caption.text:
            groups[caption.folder.path, caption.text].append(caption)
    tables = {one.image: concept.tags for concept in inputs.concepts for one in concept.captions}
    for captions in groups.values():
        first = captions[0]
        if len(captions) > 1 and (
            len(first.names) >= EQUAL_TAGS
            or first.is_prose
            or _chance(first, len(captions), tables[first.image]) < EQUAL_CHANCE
        ):
            text = first.text.split("\n", 1)[0]
            yield Finding(
                f"{len(captions)} pictures have one caption: {quoted(text)}",
                images_of(captions),
                value=len(captions),
            )


def _chance(caption: WrittenCaption, count: int, table: TagTable) -> float:
    """That so many captions are equal if tags were drawn by themselves, each as often as it is:
    Poisson's distribution."""
    total = len(table.tagged)
    if len(set(caption.names)) < 2 or not total:
        return 1.0
    expected = total * math.prod(table.counts[name] / total for name in set(caption.names))
    # By logarithms, as powers and factorials of a large set are beyond all floats.
    terms = (n * math.log(expected) - expected - math.lgamma(n + 1) for n in range(count - 1))
    below = sum(map(math.exp, terms))
    return max(0.0, 1 - below)


def shuffled_sentences(inputs: AuditInputs) -> Iterator[Finding]:
    captions = [
        caption
        for caption in inputs.captions
        if caption.is_prose and len(caption.tags) > 1 and _moves(caption)
    ]
    if captions:
        setting = "shuffle" if captions[0].rules.shuffle else "tag_dropout"
        off = "false" if setting == "shuffle" else "0"
        does = "moves" if setting == "shuffle" else "drops"
        yield Finding(
            f"captions.{setting} {does} parts of the sentences of "
            f"{quantity(len(captions), 'caption')}",
            images_of(captions),
            value=len(captions),
            command=train_command(inputs, f"captions.{setting}={off}"),
        )


def _moves(caption: WrittenCaption) -> bool:
    return caption.rules.shuffle or caption.rules.tag_dropout > 0


def _joining(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    return edit_plan(inputs, findings, lambda finding: ["join-lines"])


CAPTION_RULES: tuple[Rule, ...] = (
    Rule(
        "no-caption",
        "No caption",
        "warning",
        missing,
        "A picture without words teaches everything in it to whatever its folder is called, or to "
        "no words at all.",
        source='LoRA Training Guide (hdg), "How to set up the image directory"',
        otherwise="note where no picture has one, and the folder has a name",
    ),
    Rule(
        "empty-caption",
        "Empty caption",
        "warning",
        empty,
        "An empty caption file counts as none; what was to be in it was probably lost.",
    ),
    Rule(
        "long-caption",
        "Too long a caption",
        "warning",
        too_long,
        "What stands behind the limit is not read, so what it names is learned under other words.",
        threshold=75,
        unit="CLIP tokens (model.max_tokens)",
    ),
    Rule(
        "several-lines",
        "Several lines",
        "warning",
        several_lines,
        "A caption is its first line, unless captions.wildcards draws one of them.",
        fix=_joining,
    ),
    Rule(
        "no-commas",
        "Tags without commas",
        "warning",
        no_commas,
        "Tags are told apart by commas: without them none is shuffled, kept in front or counted.",
    ),
    Rule(
        "two-forms",
        "Sentences among tags",
        "note",
        two_forms,
        "Prompts are written in one of the two forms, and what the other has taught answers less.",
    ),
    Rule(
        "equal-captions",
        "One caption for several pictures",
        "note",
        equal,
        "A long caption is seldom the same by chance: it was copied, and tells nothing of what "
        "differs.",
        threshold=EQUAL_TAGS,
        unit="tags without the trigger, or a sentence; of fewer tags, where chance is below "
        f"{EQUAL_CHANCE}",
    ),
    Rule(
        "shuffled-sentence",
        "Sentences that are shuffled",
        "warning",
        shuffled_sentences,
        "Between commas a sentence has parts that make no sense in another order.",
    ),
)
