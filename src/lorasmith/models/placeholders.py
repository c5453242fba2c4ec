"""Words of one's own in captions and prompts, which have ids and vectors of their own. Torch-free.

They are found by their tokens, as the web UI finds the names of embeddings: whatever stands around
them, in any case of letters, the longest name first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from lorasmith.models.tokenizer import EOS, token_ids

T = TypeVar("T")

FIRST_ID = EOS + 1
"""The id after the last of CLIP's vocabulary."""


class TokenNames(Generic[T]):
    """Things by the tokens of their names.

    Args:
        things: by name; a name without tokens is never found.
    """

    def __init__(self, things: Mapping[str, T]) -> None:
        self._by_first: dict[int, list[tuple[list[int], T]]] = {}
        for name, thing in things.items():
            if ids := token_ids(name):
                self._by_first.setdefault(ids[0], []).append((ids, thing))
        for candidates in self._by_first.values():
            candidates.sort(key=lambda candidate: -len(candidate[0]))

    def at(self, ids: Sequence[int], place: int) -> tuple[int, T] | None:
        """How many tokens at ``place`` are a name, and what it is the name of."""
        for name, thing in self._by_first.get(ids[place], ()):
            if list(ids[place : place + len(name)]) == name:
                return len(name), thing
        return None


class Placeholders:
    """Words with ids of their own, from :data:`FIRST_ID` on in their order.

    Args:
        counts: how many ids, each with a vector, stand for each word.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.counts = dict(counts)
        ids: dict[str, tuple[int, ...]] = {}
        begin = FIRST_ID
        for name, count in counts.items():
            ids[name] = tuple(range(begin, begin + count))
            begin += count
        self.ids = ids
        self._names = TokenNames(ids)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def at(self, ids: Sequence[int], place: int) -> tuple[int, tuple[int, ...]] | None:
        """How many tokens at ``place`` are one of the words, and the ids that stand for it."""
        return self._names.at(ids, place)

    def words(self, ids: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """The ids of a text, those of each of the words together and of anything else alone."""
        place = 0
        while place < len(ids):
            match = self.at(ids, place)
            length, own = match if match is not None else (1, (ids[place],))
            yield own
            place += length

    def token_ids(self, text: str) -> list[int]:
        """As :func:`lorasmith.models.tokenizer.token_ids`, with the words' own ids."""
        ids = token_ids(text)
        return [each for word in self.words(ids) for each in word] if self.counts else ids


NO_PLACEHOLDERS = Placeholders({})
