"""The tags of all captions of a dataset, and the images that have each."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from lorasmith.curation.filter import fits_tag, folded
from lorasmith.curation.filter_language.grammar import And, Node, Not, Or, TextTerm


@dataclass(frozen=True)
class TagTable:
    """
    Args:
        names: those on most images first.
        counts: images that have each.
        rows: for each image its tags in their order, as places in ``names``; a tag that stands
            twice in a caption is there twice.
    """

    names: list[str]
    counts: list[int]
    rows: list[list[int]]

    @classmethod
    def of(cls, tags: Sequence[Sequence[str]]) -> TagTable:
        counts = Counter(chain.from_iterable(map(dict.fromkeys, tags)))
        names = sorted(counts, key=lambda tag: (-counts[tag], tag))
        places = {tag: place for place, tag in enumerate(names)}
        rows = [[places[tag] for tag in some] for some in tags]
        return cls(names, [counts[tag] for tag in names], rows)

    @cached_property
    def folded_names(self) -> list[str]:
        """As filters compare them."""
        return list(map(folded, self.names))

    @cached_property
    def distinct_rows(self) -> list[list[int]]:
        """As ``rows``, each tag of an image once."""
        return [row if len(set(row)) == len(row) else list(dict.fromkeys(row)) for row in self.rows]

    @cached_property
    def images(self) -> list[array[int]]:
        """The places of the images that have each tag."""
        images = [array("I") for _ in self.names]
        for place, row in enumerate(self.distinct_rows):
            for tag in row:
                images[tag].append(place)
        return images

    def counts_in(self, images: Sequence[int]) -> list[int]:
        """How many of some images, by their places, have each tag."""
        if len(images) == len(self.rows):
            return self.counts
        counts = Counter(chain.from_iterable(map(self.distinct_rows.__getitem__, images)))
        return [counts[place] for place in range(len(self.names))]

    def taken(self, node: Node) -> list[int] | None:
        """The places of the images that a filter takes; ``None`` of one that asks for anything
        but tags. Captions must all have been read without an error, of which filters tell."""
        found = self._taken(node)
        return sorted(found) if found is not None else None

    def _taken(self, node: Node) -> set[int] | None:
        if isinstance(node, TextTerm) and node.key == "tag":
            fits = fits_tag(node.value)
            tags = [tag for tag, name in enumerate(self.folded_names) if fits(name)]
            return set(chain.from_iterable(map(self.images.__getitem__, tags)))
        if isinstance(node, Not):
            inner = self._taken(node.node)
            return set(range(len(self.rows))) - inner if inner is not None else None
        if isinstance(node, And | Or):
            found = set(range(len(self.rows))) if isinstance(node, And) else set[int]()
            for part in node.nodes:
                some = self._taken(part)
                if some is None:
                    return None
                found = found & some if isinstance(node, And) else found | some
            return found
        return None
