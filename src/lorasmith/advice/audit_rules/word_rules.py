"""Rules about the words of tags: forms of one word, errors of typing, words that no base knows."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import combinations

from lorasmith.advice.audit.captions import images_of
from lorasmith.advice.audit.finding import Finding, Rule
from lorasmith.advice.audit.inputs import AuditInputs
from lorasmith.advice.audit_rules.caption_edits import edit_command
from lorasmith.core.text import quantity, quoted, shortlist
from lorasmith.curation.edit.spelling import LISTS, read_list
from lorasmith.models.tokenizer import tokenized_words

# A tag is taken for another one misspelled, or in the singular, if it is so much rarer.
RARER = 0.25
_FEWEST = 4  # captions with the other
_SHORTEST = 5  # letters of a word that is taken for misspelled
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
    """A tag that is a frequent one but for a letter in one word, where that is no word."""
    counts = inputs.tags.counts
    frequent = [name for name, count in counts.items() if count >= _FEWEST]
    by_length: dict[int, list[str]] = defaultdict(list)
    for name in frequent:
        by_length[len(name)].append(name)
    for name, count in counts.items():
        near = [other for step in (-1, 0, 1) for other in by_length[len(name) + step]]
        for other in near:
            if count <= RARER * counts[other] and _is_misspelled(name, other):
                yield from _rarer(inputs, name, other, "differ by a letter")
                break


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


def _is_misspelled(name: str, other: str) -> bool:
    words, others = name.split(), other.split()
    if len(words) != len(others):
        return False
    pairs = [pair for pair in zip(words, others, strict=True) if pair[0] != pair[1]]
    if len(pairs) != 1:
        return False
    (word, right) = pairs[0]
    if min(len(word), len(right)) < _SHORTEST or not (word.isalpha() and right.isalpha()):
        return False
    # A word of CLIP's own is a word, and means another thing: "red coat" and "red boat".
    is_word = len(tokenized_words(word)[0].pieces) == 1
    is_plural = word in (f"{right}s", f"{right}es") or right in (f"{word}s", f"{word}es")
    return not is_word and not is_plural and _one_edit(word, right)


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
        unit="of the pictures of the right one, at most",
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
