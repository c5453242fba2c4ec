"""Rules about single tags: what is none, what stands there twice or in another form."""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from lorasmith.advice.audit.captions import TagTable, WrittenCaption, images_of
from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit_rules.caption_edits import edit_command, edit_plan, remove_tags
from lorasmith.advice.audit_rules.contradictions import contradictions
from lorasmith.core.text import quantity, quoted, shortlist, word_list
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.check.checks import has_underscores, is_sentence
from lorasmith.curation.edit.consolidate import consolidation, read_families
from lorasmith.curation.edit.spelling import (
    LISTS,
    TagList,
    bare,
    read_list,
    split_weight,
    unescaped,
)
from lorasmith.curation.filter_language.words import written
from lorasmith.curation.sidecars.kinds import remembered_kinds

_SHOWN = 6
# As boorus, Hydrus and prompts name them: "artist:x", "x (artist)", "by x".
_ARTIST = re.compile(r"(?:artist|creator)\s*:.+|.+\((?:artist|style)\)|(?:art |drawn )?by \w.*")
_LORA = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>")

_PRUNING = 'LoRA Training Guide (hdg), "Pruning Captions"'
_CONSOLIDATING = 'The Other LoRA Training Rentry, "Consolidating tags"'
_FALSE_POSITIVES = 'The Other LoRA Training Rentry, "False positives/autotagging"'


def meta(inputs: AuditInputs) -> Iterator[Finding]:
    tags = TagList(read_list(LISTS / "meta.txt"))
    yield from _listed(inputs, lambda name: name in tags, "about the file, not the picture", "meta")


def quality(inputs: AuditInputs) -> Iterator[Finding]:
    tags = TagList(read_list(LISTS / "quality.txt"))
    known_as_meta = TagList(read_list(LISTS / "meta.txt"))
    yield from _listed(
        inputs, lambda name: name in tags and name not in known_as_meta, "of quality", "quality"
    )


def artists_and_series(inputs: AuditInputs) -> Iterator[Finding]:
    """By what an import told, and of artists by how the tag is written."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for root in inputs.collection.roots:
        for kind, names in remembered_kinds(root).items():
            kinds[kind] |= set(map(bare, names))
    kinds["artist"] |= {name for name in inputs.tags.counts if _ARTIST.fullmatch(name)}
    for kind, option in (("artist", "artist"), ("copyright", "series")):
        for finding in _listed(inputs, kinds[kind].__contains__, f"that name the {option}", option):
            removals = [f"remove={tag}" for tag in finding.tags]
            yield replace(finding, command=edit_command(inputs, *removals))


def _listed(
    inputs: AuditInputs, is_listed: Callable[[str], bool], what: str, prune: str
) -> Iterator[Finding]:
    names = [name for name in inputs.tags.counts if is_listed(name)]
    if names:
        captions = _with_any(inputs.tags, names)
        spelled = [inputs.tags.spelled(name) for name in names]
        count = quantity(len(captions), "caption", "has")
        yield Finding(
            f"{count} tags {what}: {shortlist(spelled, _SHOWN)}",
            images_of(captions),
            tuple(spelled),
            value=len(captions),
            command=edit_command(inputs, f"prune={prune}"),
        )


def repeated(inputs: AuditInputs) -> Iterator[Finding]:
    captions = [one for one in inputs.tags.tagged if len(set(one.names)) < len(one.names)]
    if captions:
        names = dict.fromkeys(
            name for one in captions for name in one.names if one.names.count(name) > 1
        )
        spelled = [inputs.tags.spelled(name) for name in names]
        count = quantity(len(captions), "caption", "has")
        yield Finding(
            f"{count} a tag more than once: {shortlist(spelled, _SHOWN)}",
            images_of(captions),
            tuple(spelled),
            value=len(captions),
        )


def implied(inputs: AuditInputs) -> Iterator[Finding]:
    families = read_families()
    captions: dict[str, list[WrittenCaption]] = defaultdict(list)
    by: dict[str, str] = {}
    for one in inputs.tags.tagged:
        for index in consolidation(one.names, families):
            name = one.names[index]
            captions[name].append(one)
            others = (other for other in one.names if families.says(other, name) and other != name)
            by.setdefault(name, next(others, ""))
    if captions:
        pairs = [
            f"{inputs.tags.spelled(name)} by {inputs.tags.spelled(other)}"
            for name, other in by.items()
        ]
        every = [one for some in captions.values() for one in some]
        count = quantity(len(images_of(every)), "caption", "has")
        yield Finding(
            f"{count} tags that a more specific one says: {shortlist(pairs, _SHOWN)}",
            images_of(every),
            tuple(map(inputs.tags.spelled, captions)),
            value=len(images_of(every)),
            command=edit_command(inputs, "consolidate"),
        )


def spellings(inputs: AuditInputs) -> Iterator[Finding]:
    for every in inputs.tags.spellings.values():
        # Weights and backslashes are told of by another rule.
        counts = Counter({tag: count for tag, count in every.items() if _plain(tag) == tag})
        if not _is_spelled_twice(counts):
            continue
        (usual, most), *others = counts.most_common()
        variants = {tag for tag, _ in others}
        captions = [one for one in inputs.tags.tagged if variants & set(one.tags)]
        rest = word_list(f"{quoted(tag)} ({count})" for tag, count in others)
        replacements = [f"replace={escaped_name(tag)}={usual}" for tag, _ in others]
        yield Finding(
            f"{quoted(usual)} ({most}) is also spelled {rest}",
            images_of(captions),
            (usual, *sorted(variants)),
            value=len(captions),
            command=edit_command(inputs, *replacements),
        )


def _is_spelled_twice(tags: Iterable[str]) -> bool:
    """In capitals a tag is the same to CLIP."""
    return len({tag.casefold() for tag in tags}) > 1


def prompt_syntax(inputs: AuditInputs) -> Iterator[Finding]:
    captions, tags = [], dict[str, None]()
    for one in inputs.captions:
        some = [tag for tag in one.tags if _plain(tag) != tag]
        if some:
            captions.append(one)
            tags |= dict.fromkeys(some)
    if captions:
        count = quantity(len(captions), "caption", "has")
        yield Finding(
            f"{count} what only prompts read: {shortlist(list(tags), _SHOWN)}",
            images_of(captions),
            tuple(tags),
            value=len(captions),
        )


@functools.lru_cache(maxsize=100_000)
def _plain(tag: str) -> str:
    """A tag without weights, backslashes and LoRAs."""
    if is_sentence(tag):
        return tag
    return unescaped(split_weight(_LORA.sub("", tag).strip())[0])


def underscores(inputs: AuditInputs) -> Iterator[Finding]:
    captions, tags = [], dict[str, None]()
    spelled = inputs.tags.spellings
    for one in inputs.tags.tagged:
        some = [
            tag
            for tag in one.tags
            if has_underscores(tag)
            and bare(tag) in one.names
            and not _is_spelled_twice(spelled[bare(tag)])
        ]
        if some:
            captions.append(one)
            tags |= dict.fromkeys(some)
    if captions:
        count = quantity(len(captions), "caption", "has")
        yield Finding(
            f"{count} tags with underscores: {shortlist(list(tags), _SHOWN)}",
            images_of(captions),
            tuple(tags),
            value=len(captions),
        )


def contradictory(inputs: AuditInputs) -> Iterator[Finding]:
    captions_of_pair: dict[frozenset[str], list[WrittenCaption]] = defaultdict(list)
    for one in inputs.tags.tagged:
        for pair in contradictions(one.names):
            captions_of_pair[frozenset(pair)].append(one)
    for both, some in captions_of_pair.items():
        names = sorted(both, key=lambda name: (-inputs.tags.counts[name], name))
        usual, rare = map(inputs.tags.spelled, names)
        where = " ".join(f"tag:{written(name)}" for name in (usual, rare))
        yield Finding(
            f"{quantity(len(some), 'caption', 'has')} both {quoted(usual)} and {quoted(rare)}",
            images_of(some),
            (usual, rare),
            value=len(some),
            command=edit_command(inputs, f"remove={rare}", where=where),
        )


def _with_any(table: TagTable, names: Iterable[str]) -> list[WrittenCaption]:
    wanted = set(names)
    return [one for one in table.tagged if not wanted.isdisjoint(one.names)]


def _edits(*operations: str) -> Callable[[AuditInputs, Sequence[Finding]], Plan]:
    """A fix by operations that are the same for every finding."""
    return lambda inputs, findings: edit_plan(inputs, findings, lambda finding: operations)


def _without_syntax(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    def operations(finding: Finding) -> list[str]:
        return [f"replace={escaped_name(tag)}={_plain(tag)}" for tag in finding.tags]

    return edit_plan(inputs, findings, operations)


def _usual_spelling(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    def operations(finding: Finding) -> list[str]:
        usual, *variants = finding.tags
        return [f"replace={escaped_name(tag)}={usual}" for tag in variants]

    return edit_plan(inputs, findings, operations)


def escaped_name(tag: str) -> str:
    """A tag as the first of ``A=B``."""
    return tag.replace("=", "\\=")


TAG_RULES: tuple[Rule, ...] = (
    Rule(
        "meta-tags",
        "Tags about the file",
        "warning",
        meta,
        "They are learned with the rest, and say nothing of the picture.",
        source=_PRUNING,
        fix=_edits("prune=meta"),
        safe=True,
    ),
    Rule(
        "quality-tags",
        "Tags of quality",
        "note",
        quality,
        "Prompts with such words then call up the training pictures, and others lack something.",
        source=_PRUNING,
        fix=_edits("prune=quality"),
    ),
    Rule(
        "names-of-artists",
        "Names of artists and series",
        "note",
        artists_and_series,
        "What is to be learned then hangs on a name that the base model may know otherwise.",
        source=_PRUNING,
        fix=remove_tags,
    ),
    Rule(
        "tag-twice",
        "A tag twice",
        "warning",
        repeated,
        "It takes tokens and says nothing new.",
        threshold=2,
        unit="times in a caption",
        fix=_edits("dedupe"),
        safe=True,
    ),
    Rule(
        "implied-tags",
        "Tags that others say",
        "note",
        implied,
        'The most specific of them is all that is needed: red boots, without "boots".',
        source=_CONSOLIDATING,
        fix=_edits("consolidate"),
    ),
    Rule(
        "spelled-twice",
        "A tag in two spellings",
        "warning",
        spellings,
        "They are other tokens, so each is learned from a part of the pictures.",
        source=_CONSOLIDATING,
        threshold=2,
        unit="spellings",
        fix=_usual_spelling,
        safe=True,
    ),
    Rule(
        "prompt-syntax",
        "Weights and backslashes",
        "warning",
        prompt_syntax,
        "Captions are read to the letter: brackets, weights and backslashes become tokens of "
        "their own, which prompts never have.",
        fix=_without_syntax,
        safe=True,
    ),
    Rule(
        "underscores",
        "Underscores",
        "note",
        underscores,
        "An underscore is a token of its own; prompts have spaces, unless the base model was "
        "trained with underscores.",
        fix=_edits("spaces"),
    ),
    Rule(
        "contradiction",
        "Tags that exclude each other",
        "warning",
        contradictory,
        "One of them is wrong, and a wrong tag teaches the wrong thing.",
        source=_FALSE_POSITIVES,
    ),
)
