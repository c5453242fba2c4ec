"""Which tags are answers to one question, so that a picture shows one of them: colours of one
thing, hats, backgrounds. And which of them are worn or held, and so no part of a subject."""

from __future__ import annotations

from collections.abc import Iterable

from lorasmith.advice.audit_rules.balance_rules import WORN
from lorasmith.curation.edit.consolidate import read_families
from lorasmith.curation.edit.spelling import bare

_COLOURS = frozenset(
    (
        *("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "gray"),
        *("grey", "black", "blonde", "silver", "aqua", "golden", "violet", "teal", "platinum"),
    )
)
# What words that say nothing of it are about.
_ABOUT = {
    **dict.fromkeys(("smile", "grin", "frown", "smirk", "pout"), "mouth"),
    **dict.fromkeys(("field", "forest", "beach", "street", "room", "sky", "city"), "background"),
    **dict.fromkeys(("indoors", "outdoors"), "background"),
    **dict.fromkeys(("eye",), "eyes"),
}
OPTIONAL = WORN | {"weapon", "holding", "bag", "ornament"}
"""Groups of what a subject has on or in its hands, or has not."""


def question_of(tag: str) -> str:
    """What a tag is an answer to: "crown" and "no hat" are headwear, "red hair" is a colour of
    hair."""
    words = bare(tag).split()
    if not words:
        return ""
    families = read_families()
    if words[0] == "holding":
        return "holding"
    subject = words[-1]
    above = families.above.get(subject, frozenset())
    tops = sorted(word for word in above if word not in families.above)
    if tops:
        return tops[0]
    about = _ABOUT.get(subject, subject)
    is_colour = len(words) > 1 and bool(_COLOURS & set(words[:-1])) and about != "background"
    return f"colour of {about}" if is_colour else about


def is_negation(tag: str) -> bool:
    """ "no hat" """
    return bare(tag).startswith("no ")


def groups_of(tags: Iterable[str], most: int) -> dict[str, list[str]]:
    """The questions that tags answer, those with two answers or more.

    Args:
        tags: the most important first.
        most: tags in all groups together; those that come last are left out.
    """
    groups: dict[str, list[str]] = {}
    for tag in dict.fromkeys(map(bare, tags)):
        if question := question_of(tag):
            groups.setdefault(question, []).append(tag)
    groups = {name: answers for name, answers in groups.items() if len(answers) > 1}
    kept: dict[str, list[str]] = {}
    left = most
    for name, answers in groups.items():
        if left < 2:
            break
        kept[name] = answers[:left]
        left -= len(kept[name])
    return kept
