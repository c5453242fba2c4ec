"""Rules about the words of tags: forms of one word, errors of typing, words that no base knows."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations

from lorasmith.advice.audit.captions import images_of
from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit_rules.caption_edits import edit_command, edit_plan
from lorasmith.core.text import quantity, quoted, shortlist
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.edit.spelling import LISTS, bare, like, read_list
from lorasmith.models.tokenizer import tokenized_words

# A tag is taken for another one misspelled, or in the singular, if it is so much rarer.
RARER = 0.25
_FEWEST = 4  # captions with the other
_SHORTEST = 5  # letters of a word that is taken for misspelled
_ENDINGS = ("ing", "ed", "er", "s", "es")
# A word that CLIP reads in pieces of so few letters each is none that it has met.
SHORT_PIECES = 2.75
_SHORTEST_PIECES = 2.0  # of two: "frown" is f + rown
# So many images teach a new word.
TAUGHT = 10
# Boorus have many of these, and who was trained on boorus knows them: serafuku, hakama.
_JAPANESE = re.compile(r"(?:(?:[kgsztdnhbpmrwjfy]|[kgnhbpmr]y|sh|ch|ts)?[aiueo]n?)+")
_SHOWN = 6

_CONSOLIDATING = 'The Other LoRA Training Rentry, "Consolidating tags"'


def plurals(inputs: AuditInputs) -> Iterator[Finding]:
    counts = inputs.tags.counts
    for name in counts:
        for plural in (f"{name}s", f"{name}es"):
            if plural in counts:
                yield from _rarer(inputs, name, plural, "are told apart: one is the plural")


def other_forms(inputs: AuditInputs) -> Iterator[Finding]:
    """The same words in another order, or with -ing: "closed eyes", "eyes closed"."""
    table = inputs.tags
    groups: dict[frozenset[str], list[str]] = defaultdict(list)
    for name in table.counts:
        groups[frozenset(_stem(word) for word in name.split())].append(name)
    for names in groups.values():
        for one, other in combinations(names, 2):
            if _differ_in_plural(one, other):  # by a rule of its own
                continue
            rare, usual = sorted((one, other), key=lambda name: table.counts[name])
            captions = table.captions_with[rare]
            spelled = table.spelled(rare), table.spelled(usual)
            yield Finding(
                f"{quoted(spelled[0])} ({len(captions)}) and {quoted(spelled[1])} "
                f"({table.counts[usual]}) are one thing in other words",
                images_of(captions),
                spelled,
                value=len(captions),
                command=edit_command(inputs, f"rename-tag={spelled[0]}={spelled[1]}"),
            )


@cache
def _stem(word: str) -> str:
    """Without -ing: smiling, smile -> smil; grinning, grin -> grin."""
    if word.endswith("ing") and len(word) > _SHORTEST:
        word = word[:-3]
        return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] != "s" else word
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def _differ_in_plural(one: str, other: str) -> bool:
    return one in (f"{other}s", f"{other}es") or other in (f"{one}s", f"{one}es")


def rare_words(inputs: AuditInputs) -> Iterator[Finding]:
    """Of tags in more than one caption, and in too few to teach a word."""
    table = inputs.tags
    names = [
        name
        for name, count in table.counts.items()
        if 1 < count < TAUGHT and any(_is_unknown(word.text) for word in tokenized_words(name))
    ]
    if names:
        spelled = tuple(map(table.spelled, names))
        captions = [one for name in names for one in table.captions_with[name]]
        yield Finding(
            f"{quantity(len(names), 'tag', 'has')} words that CLIP reads in pieces of a few "
            f"letters, and {'is' if len(names) == 1 else 'are'} in few captions: "
            f"{shortlist(spelled, _SHOWN)}",
            images_of(captions),
            spelled,
            value=len(names),
        )


@cache
def _is_unknown(text: str) -> bool:
    if not text.isalpha() or text in _listed_words() or _JAPANESE.fullmatch(text):
        return False
    pieces = tokenized_words(text)[0].pieces
    return len(pieces) > 1 and len(text) <= len(pieces) * (
        SHORT_PIECES if len(pieces) > 2 else _SHORTEST_PIECES
    )


@cache
def _listed_words() -> frozenset[str]:
    """Words of the tags that are shipped."""
    tags = (tag for path in LISTS.glob("*.txt") for tag in read_list(path))
    return frozenset(word for tag in tags for word in tag.replace(",", " ").split())


def misspelled(inputs: AuditInputs) -> Iterator[Finding]:
    """A tag that is another one but for a letter in one word, where that is no word: one that is
    frequent here, or that a list of tags has."""
    table = inputs.tags
    known = _known_tags(inputs)
    frequent = {name for name, count in table.counts.items() if count >= _FEWEST}
    here, listed = _by_length(frequent), _by_length(known)
    for name, count in table.counts.items():
        if not _odd_words(name):
            continue
        near = [right for right in _near(name, here) if count <= RARER * table.counts[right]]
        found = [one for right in near for one in _rarer(inputs, name, right, "differ by a letter")]
        if found:
            yield found[0]
        elif name not in known and (right := next(_near_listed(name, listed), None)) is not None:
            captions = table.captions_with[name]
            tags = table.spelled(name), like(right, table.spelled(name))
            yield Finding(
                f"{quoted(tags[0])} ({count}) is {quoted(tags[1])} but for a letter, which lists "
                "of tags have",
                images_of(captions),
                tags,
                value=count,
                severity="note",
            )


def _known_tags(inputs: AuditInputs) -> frozenset[str]:
    """Bare tags that are shipped, and the base's vocabulary."""
    labels = inputs.labels
    return _listed_tags().union(map(bare, labels.names if labels is not None else ()))


@cache
def _listed_tags() -> frozenset[str]:
    return frozenset(
        bare(tag)
        for path in LISTS.glob("*.txt")
        for tag in read_list(path)
        if not set(tag) & set("*?:")
    )


def _by_length(names: Iterable[str]) -> dict[int, list[str]]:
    by_length: dict[int, list[str]] = defaultdict(list)
    for name in sorted(names):
        by_length[len(name)].append(name)
    return by_length


def _near(name: str, by_length: Mapping[int, Sequence[str]]) -> Iterator[str]:
    """Tags that ``name`` may be meant for."""
    for length in (len(name) - 1, len(name), len(name) + 1):
        for right in by_length.get(length, ()):
            if right != name and _is_misspelled(name, right):
                yield right


def _near_listed(name: str, by_length: Mapping[int, Sequence[str]]) -> Iterator[str]:
    """The same of tags that nobody uses here, which takes more: a first letter is seldom wrong,
    and short words are near to many."""
    long = " " in name or len(name) > _SHORTEST
    return (right for right in _near(name, by_length) if long and right[0] == name[0])


@cache
def _odd_words(name: str) -> frozenset[str]:
    """Words of a tag that are none."""
    return frozenset(word for word in name.split() if word.isalpha() and not _is_word(word))


@cache
def _is_word(text: str) -> bool:
    """One of CLIP's own or of the tags that are shipped, or such a word with an ending."""
    if text in _listed_words() or _is_one_piece(text):
        return True
    stems = [text.removesuffix(ending) for ending in _ENDINGS if text.endswith(ending)]
    stems += [stem[:-1] for stem in stems if stem[-1:] == stem[-2:-1]] + [f"{s}e" for s in stems]
    return any(len(stem) > 2 and _is_one_piece(stem) for stem in stems)


def _is_one_piece(text: str) -> bool:
    return len(tokenized_words(text)[0].pieces) == 1


def _rarer(inputs: AuditInputs, one: str, other: str, what: str) -> Iterator[Finding]:
    """A finding about the rarer of two tags, which should be the other."""
    table = inputs.tags
    rare, usual = sorted((one, other), key=lambda name: table.counts[name])
    captions = table.captions_with[rare]
    together = set(images_of(captions)) & set(images_of(table.captions_with[usual]))
    enough = table.counts[usual] >= _FEWEST
    if enough and len(captions) <= RARER * table.counts[usual] and not together:
        names = table.spelled(rare), table.spelled(usual)
        yield Finding(
            f"{quoted(names[0])} ({len(captions)}) and {quoted(names[1])} "
            f"({table.counts[usual]}) {what}",
            images_of(captions),
            names,
            value=round(len(captions) / table.counts[usual], 3),
            command=edit_command(inputs, f"rename-tag={names[0]}={names[1]}"),
        )


def rename(inputs: AuditInputs, findings: Sequence[Finding]) -> Plan:
    """The first tag of each finding to its second."""
    return edit_plan(inputs, findings, lambda one: [f"rename-tag={one.tags[0]}={one.tags[1]}"])


def _is_misspelled(name: str, right: str) -> bool:
    words, others = name.split(), right.split()
    if len(words) != len(others):
        return False
    pairs = [pair for pair in zip(words, others, strict=True) if pair[0] != pair[1]]
    if len(pairs) != 1:
        return False
    (word, other) = pairs[0]
    # A short word is near to many, unless the others of its tag agree: "purple boddy".
    shortest = _SHORTEST - 1 if len(words) > 1 else _SHORTEST
    if min(len(word), len(other)) < shortest or not other.isalpha():
        return False
    # A word is a word, and means another thing: "red coat" and "red boat".
    is_plural = word in (f"{other}s", f"{other}es") or other in (f"{word}s", f"{word}es")
    return word in _odd_words(name) and not is_plural and _one_edit(word, other)


def _one_edit(one: str, other: str) -> bool:
    """Whether a letter is another, missing, too many, or changed places with its neighbour."""
    if len(one) > len(other):
        one, other = other, one
    if len(other) - len(one) > 1:
        return False
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    if len(one) < len(other):
        return one[at:] == other[at + 1 :]
    swapped = one[at : at + 2] == other[at : at + 2][::-1] and one[at + 2 :] == other[at + 2 :]
    return one[at + 1 :] == other[at + 1 :] or swapped


WORD_RULES: tuple[Rule, ...] = (
    Rule(
        "singular-plural",
        "Singular and plural",
        "note",
        plurals,
        "If both are one thing, each is learned from a part of the pictures.",
        source=_CONSOLIDATING,
        threshold=RARER,
        unit="of the pictures of the more frequent, at most",
    ),
    Rule(
        "misspelled-tag",
        "Misspelled",
        "warning",
        misspelled,
        "A misspelled word is another one to the model, and its picture lacks the right one.",
        threshold=RARER,
        unit="of the pictures of the right one, at most, by a letter in a word that is none; "
        "or a tag that no list has, where one has the right one",
        otherwise="note by lists of tags alone",
        fix=rename,
    ),
    Rule(
        "other-forms",
        "One thing in other words",
        "note",
        other_forms,
        "Each is learned from a part of the pictures.",
        source=_CONSOLIDATING,
    ),
    Rule(
        "rare-words",
        "Words that CLIP does not know",
        "note",
        rare_words,
        "The base model learned them from captions like these, or not at all; a few pictures do "
        "not teach a word.",
        threshold=SHORT_PIECES,
        unit=f"letters to a piece, on the average, in fewer than {TAUGHT} captions",
    ),
)
