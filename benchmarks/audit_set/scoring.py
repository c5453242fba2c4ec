"""Which findings are right.

A fault is found if a finding of a kind that counts names one of its tags, or if such findings
name at least half its pictures; a fault of a whole folder if a finding of such a kind is there.
A finding is right if

* each picture or tag that it names has a fault whose ``kinds`` or ``also`` hold the finding's
  kind (of those that a fault needs to be seen against, as the picture that it is a copy of, too);
* or it can be counted over the captions as they now are, and is so: a tag seen once, captions
  that are equal, tags that are always together, a tag that is in every caption of a concept;
* or it is of a kind that is true of the set by how it is built (``TRUE_OF_THE_SET``).

Any other finding is a false alarm, also if part of what it names is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.audit_set.faults import Fault
from benchmarks.audit_set.kinds import KINDS, TRUE_OF_THE_SET


@dataclass(frozen=True)
class Found:
    id: str
    rule: str
    severity: str
    what: str
    images: frozenset[str]  # names
    tags: frozenset[str]
    command: str | None

    @property
    def kinds(self) -> set[str]:
        return {kind for kind, rules in KINDS.items() if self.rule in rules}


def parse(report: dict) -> list[Found]:
    """Findings of `dataset audit --json`."""
    return [
        Found(
            one["id"],
            one["rule"],
            one["severity"],
            one["what"],
            frozenset(Path(image).name for image in one["images"]),
            frozenset(one["tags"]),
            one["command"],
        )
        for one in report["findings"]
    ]


def captions_of(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Tags of each caption, by concept folder and the picture's stem."""
    captions: dict[str, dict[str, list[str]]] = {}
    for path in sorted(folder.rglob("*.txt")):
        text = path.read_bytes().decode("utf-8", "replace")
        tags = [tag.strip() for tag in text.split(",") if tag.strip()]
        captions.setdefault(path.parent.name, {})[path.stem] = tags
    return captions


def finders(fault: Fault, findings: Iterable[Found]) -> list[Found]:
    """The findings that find a fault; none where they name too few of its files."""
    right = [one for one in findings if one.kinds & fault.kinds]
    some = [one for one in right if fault.tags & one.tags or fault.files & one.images]
    if not fault.tags and not fault.files:
        return right
    named = set().union(*(fault.files & one.images for one in some))
    tagged = any(fault.tags & one.tags for one in some)
    return some if tagged or (fault.files and 2 * len(named) >= len(fault.files)) else []


@dataclass
class Truth:
    faults: list[Fault]
    captions: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def right(self, one: Found) -> bool:
        if one.kinds & set(TRUE_OF_THE_SET):
            return True
        fits = [f for f in self.faults if one.kinds & (f.kinds | f.also)]
        files = set().union(*(f.files for f in fits)) if fits else set()
        tags = set().union(*(f.tags for f in fits)) if fits else set()
        whole = any(not f.files and (not f.tags or f.tags & one.tags) for f in fits)
        if whole or (fits and one.tags and one.tags <= tags):
            return True
        if one.images and one.images <= files:
            return True
        return self.countable(one)

    def countable(self, one: Found) -> bool:
        """True by counting over the captions."""
        concepts = self.captions.values()
        every = [tags for concept in concepts for tags in concept.values()]
        if "seen once" in one.kinds and one.tags:
            counts = Counter(tag for tags in every for tag in set(tags))
            return all(
                counts[tag] == 1 or any(self._once(tag, concept.values()) for concept in concepts)
                for tag in one.tags
            )
        if "same caption" in one.kinds and len(one.images) > 1:
            stems = {Path(name).stem for name in one.images}
            texts = {
                tuple(sorted(tags))
                for concept in concepts
                for stem, tags in concept.items()
                if stem in stems
            }
            return len(texts) < len(stems)
        if "always together" in one.kinds and len(one.tags) > 1:
            sets = [[one.tags & set(t) for t in concept.values()] for concept in concepts]
            return any(
                any(len(some) == len(one.tags) for some in concept)
                and all(len(some) in (0, len(one.tags)) for some in concept)
                for concept in sets
            )
        if one.kinds & {"never varies", "never off"} and one.tags:
            return any(
                all(one.tags <= set(tags) for tags in concept.values()) for concept in concepts
            )
        return False

    @staticmethod
    def _once(tag: str, captions: Iterable[list[str]]) -> bool:
        return sum(tag in tags for tags in captions) == 1
