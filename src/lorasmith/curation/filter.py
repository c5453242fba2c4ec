"""Which images of a collection a filter takes.

The language is in :mod:`lorasmith.curation.filter_language.grammar`. A filter is compiled to
functions of one image; what it does not ask for is not looked at: captions are read only for terms
about captions, headers for sizes, and images are decoded for what only their pixels say.
"""

from __future__ import annotations

import operator
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from lorasmith.core.errors import DatasetError
from lorasmith.core.events import Controls, Notice, Observer, ignore
from lorasmith.curation.collection import Collection, CollectionImage
from lorasmith.curation.facts import ImageFacts
from lorasmith.curation.filter_language.grammar import (
    And,
    FlagTerm,
    Node,
    Not,
    NumberTerm,
    Or,
    RegexTerm,
    SizeTerm,
    TextTerm,
    parse,
)
from lorasmith.curation.filter_language.words import FLAGS, KEYS, Need, Value, unescaped
from lorasmith.curation.sorting.duplicates import (
    exact_duplicates,
    near_duplicates,
)
from lorasmith.data.images import read_header

_EVERY = 200  # images between two looks at whether to stop


@dataclass(frozen=True, slots=True)
class Filter:
    """
    Args:
        text: as it was written.
        node: what it says.
    """

    text: str
    node: Node

    @property
    def needs(self) -> frozenset[Need]:
        """What is looked at to decide: "captions" are read, "tokens" counted, "headers" read,
        "pixels" decoded; nothing for a filter of names."""
        return frozenset(need for need in map(_need, _terms(self.node)) if need is not None)

    def over(
        self,
        collection: Collection,
        images: Sequence[CollectionImage] | None = None,
        observer: Observer = ignore,
        controls: Controls | None = None,
    ) -> Callable[[CollectionImage], bool]:
        """A function that says whether the filter takes an image of the collection.

        Args:
            images: those that it will be asked of, where these are not all.
            observer: told of progress where images are decoded.

        Raises:
            Stopped: by ``controls``.
        """
        knowledge = _Knowledge(collection, images, observer, controls)
        test = _compiled(self.node, knowledge)
        return lambda image: test(_Subject(image))

    def matches(self, collection: Collection, image: CollectionImage) -> bool:
        """For many images of one collection :meth:`over` is faster."""
        return self.over(collection, [image])(image)

    def select(
        self,
        collection: Collection,
        observer: Observer = ignore,
        controls: Controls | None = None,
    ) -> list[CollectionImage]:
        """The images of the collection that the filter takes, in their order.

        Raises:
            DatasetError: a caption cannot be read, or a pattern (``re:``) takes too long.
            Stopped: by ``controls``.
        """
        images = collection.images
        if not images:
            where = ", ".join(str(folder) for folder in collection.folders)
            observer(Notice("warning", f"there is no picture in {where}"))
        if self.node == And(()) or not images:
            return list(images)
        if isinstance(self.node, And) and "pixels" in self.needs:
            # Only what the rest of the filter takes is decoded.
            rest = tuple(node for node in self.node.nodes if _cost(node) < _COST["pixels"])
            images = Filter(self.text, And(rest)).select(collection, observer, controls)
            if not images:
                return []
        takes = self.over(collection, images, observer, controls)
        taken = []
        for number, image in enumerate(images):
            if controls is not None and number % _EVERY == 0:
                controls.check("stopped; nothing was changed")
            if takes(image):
                taken.append(image)
        if not taken:
            observer(Notice("warning", f"no picture is taken by the filter: {self.text}"))
        return taken


def parse_filter(text: str, where: str = "where") -> Filter:
    """
    Args:
        where: what a problem names: the option or field that the text was given to.

    Raises:
        FilterError: it cannot be read; shows the place.
    """
    return Filter(text, parse(text, where))


def folded(text: str) -> str:
    """A text as filters compare it: whatever the case and the way that accents are written, and
    ``\\(`` as prompts escape brackets is the bracket."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return text.replace("\\(", "(").replace("\\)", ")").casefold()


# The same few thousand tags stand in all captions.
_folded_tag = lru_cache(maxsize=50_000)(folded)


# What is known of the collection


class _Subject:
    """An image while it is looked at; each thing is worked out once, and only when it is needed."""

    __slots__ = ("_caption", "_tags", "image")

    def __init__(self, image: CollectionImage) -> None:
        self.image = image
        self._caption: str | None = None
        self._tags: frozenset[str] | None = None

    @property
    def caption(self) -> str:
        if self._caption is None:
            self._caption = folded(self.image.caption)
        return self._caption

    @property
    def tags(self) -> frozenset[str]:
        if self._tags is None:
            self._tags = frozenset(map(_folded_tag, self.image.tags))
        return self._tags

    @property
    def place(self) -> str:
        """The path from the collection's folder on."""
        image = self.image
        return folded(f"{image.folder}/{image.path.name}" if image.folder else image.path.name)


class _Knowledge:
    """What terms look up, each thing made when the first term asks for it."""

    def __init__(
        self,
        collection: Collection,
        images: Sequence[CollectionImage] | None,
        observer: Observer,
        controls: Controls | None,
    ) -> None:
        self._collection, self._images = collection, images
        self._observer, self._controls = observer, controls
        self.masks = collection.masks

    @cached_property
    def sizes(self) -> Mapping[Path, tuple[int, int]]:
        return self._collection.sizes()

    @cached_property
    def facts(self) -> Mapping[Path, ImageFacts]:
        return self._collection.measure(self._images, self._observer, self._controls)

    @cached_property
    def exact(self) -> frozenset[Path]:
        paths = [image.path for image in self._collection.images]
        return frozenset(path for group in exact_duplicates(paths) for path in group)

    @cached_property
    def near(self) -> frozenset[Path]:
        """Near or exact: a file that nobody can decode may have its double, too."""
        groups = near_duplicates(self._collection.measure(None, self._observer, self._controls))
        return self.exact | {path for group in groups for path in group}


Test = Callable[[_Subject], bool]


# Terms

_COST: dict[Need | None, int] = {None: 0, "captions": 1, "headers": 2, "tokens": 3, "pixels": 4}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
# Seconds that one caption may take; a pattern that doubts much may else take hours.
_PATTERN_SECONDS = 1.0


def _terms(node: Node) -> Iterator[Node]:
    if isinstance(node, Not):
        yield from _terms(node.node)
    elif isinstance(node, And | Or):
        for part in node.nodes:
            yield from _terms(part)
    else:
        yield node


def _need(term: Node) -> Need | None:
    if isinstance(term, FlagTerm):
        return "headers" if term.choice == "exact" else FLAGS[term.name].needs
    if isinstance(term, NumberTerm):
        return KEYS[term.key].needs
    if isinstance(term, SizeTerm):
        return "headers"
    if isinstance(term, TextTerm) and term.key:
        return KEYS[term.key].needs
    return "captions"


def _compiled(node: Node, known: _Knowledge) -> Test:
    if isinstance(node, Not):
        inner = _compiled(node.node, known)
        return lambda subject: not inner(subject)
    if isinstance(node, And | Or):
        # What is cheap to know comes first: what is dear is then asked of few images.
        nodes = sorted(node.nodes, key=_cost)
        tests = [_compiled(part, known) for part in nodes]
        if isinstance(node, And):
            return lambda subject: all(test(subject) for test in tests)
        return lambda subject: any(test(subject) for test in tests)
    if isinstance(node, TextTerm):
        return _text_test(node, known)
    if isinstance(node, RegexTerm):
        return _pattern_test(node.pattern)
    if isinstance(node, FlagTerm):
        return _flag_test(node, known)
    if isinstance(node, SizeTerm):
        size, equal = (node.width, node.height), node.comparison == "="
        return lambda subject: (known.sizes.get(subject.image.path) == size) == equal
    return _number_test(node, known)


def _cost(node: Node) -> int:
    return max((_COST[_need(term)] for term in _terms(node)), default=0)


def _text_test(term: TextTerm, known: _Knowledge) -> Test:
    if term.key == "tag":
        return _tag_test(term.value)
    if term.key == "folder":
        return _folder_test(term.value)
    contains = _contains(term.value)
    if term.key == "caption":
        return lambda subject: contains(subject.caption)
    if term.key == "name":
        return lambda subject: contains(folded(subject.image.path.name))
    if term.key == "path":
        return lambda subject: contains(subject.place)
    return lambda subject: contains(subject.caption) or contains(subject.place)


def tag_test(text: str) -> Callable[[str], bool]:
    """Whether a tag, :func:`folded`, is what ``tag:TEXT`` takes; * and ? are other characters."""
    return _pattern(unescaped(text), whole=True)


def fits_tag(value: Value) -> Callable[[str], bool]:
    """Whether a tag, :func:`folded`, is what a term of this value takes."""
    if value.wild:
        return _pattern(value, whole=True)
    return folded(value.text).__eq__


def _tag_test(value: Value) -> Test:
    if not value.wild:
        tag = folded(value.text)
        return lambda subject: tag in subject.tags
    fits = lru_cache(maxsize=None)(fits_tag(value))
    return lambda subject: any(fits(tag) for tag in subject.tags)


def _folder_test(value: Value) -> Test:
    """Some of the folders that an image lies in, one within the other, have these names."""
    if not value.text.strip("/"):
        return lambda subject: not subject.image.folder
    source = _source(value, "[^/]").strip("/")
    pattern = re.compile(rf"(?:^|/){source}(?:/|$)")

    @cache
    def fits(root: str, folder: str) -> bool:
        return pattern.search(folded(f"{root}/{folder}")) is not None

    return lambda subject: fits(subject.image.root.name, subject.image.folder)


def _contains(value: Value) -> Callable[[str], bool]:
    if value.wild:
        return _pattern(value, whole=False)
    text = folded(value.text)
    return lambda other: text in other


def _pattern(value: Value, *, whole: bool) -> Callable[[str], bool]:
    pattern = re.compile(_source(value, "."), re.DOTALL)
    find = pattern.fullmatch if whole else pattern.search
    return lambda other: find(other) is not None


def _source(value: Value, any_character: str) -> str:
    """A regular expression for a text with wildcards; several in a row are one, since they would
    take long where they do not fit."""
    parts: list[str] = []
    begin = 0
    for at in [*sorted(value.wild), len(value.text)]:
        parts.append(re.escape(folded(value.text[begin:at])))
        if at < len(value.text):
            star = value.text[at] == "*"
            if not (star and parts[-1] == "" and len(parts) > 1 and parts[-2].endswith("*")):
                parts.append(f"{any_character}*" if star else any_character)
        begin = at + 1
    return "".join(parts)


def _pattern_test(pattern: Any) -> Test:
    def test(subject: _Subject) -> bool:
        try:
            return pattern.search(subject.image.caption, timeout=_PATTERN_SECONDS) is not None
        except TimeoutError:
            what = f"takes too long on the caption of {subject.image.path.name}"
            hint = "write it so that no part of it can fit in many ways, as in (a*)*"
            raise DatasetError.of(f"re:{pattern.pattern}", what, hint) from None

    return test


def _flag_test(term: FlagTerm, known: _Knowledge) -> Test:
    if term.name == "captioned":
        return lambda subject: bool(subject.image.caption)
    if term.name == "untagged":
        return lambda subject: not subject.image.caption
    if term.name == "mask":
        return lambda subject: subject.image.path in known.masks
    if term.name == "animated":
        return lambda subject: _is_animated(subject.image.path)
    if term.name == "transparent":
        return lambda subject: _is(known.facts.get(subject.image.path), "transparent")
    if term.name == "broken":
        return lambda subject: _is(known.facts.get(subject.image.path), "problem")
    if term.choice == "exact":
        return lambda subject: subject.image.path in known.exact
    if term.choice == "near":
        return lambda subject: subject.image.path in known.near - known.exact
    return lambda subject: subject.image.path in known.near


def _is(facts: ImageFacts | None, name: str) -> bool:
    return facts is not None and bool(getattr(facts, name))


def _number_test(term: NumberTerm, known: _Knowledge) -> Test:
    measure = _measure(term.key, known)
    scale, decimals = term.scale, term.decimals
    if term.comparison in ("=", "!="):
        number, equal = round(term.number, decimals), term.comparison == "="

        def is_equal(subject: _Subject) -> bool:
            value = measure(subject)
            return value is not None and (round(value / scale, decimals) == number) == equal

        return is_equal
    # As it is written: 2.01 times 1000 is a little less than 2010 in binary.
    compare, limit = _COMPARE[term.comparison], float(Decimal(repr(term.number)) * Decimal(scale))

    def is_on_that_side(subject: _Subject) -> bool:
        value = measure(subject)
        return value is not None and compare(value, limit)

    return is_on_that_side


def _measure(key: str, known: _Knowledge) -> Callable[[_Subject], float | None]:
    """The number that a key names; ``None`` of an image that it cannot be told of, which no
    comparison takes."""
    if key == "tags":
        return lambda subject: len(subject.image.tags)
    if key == "chars":
        return lambda subject: len(subject.image.caption)
    if key == "tokens":
        from lorasmith.models.tokenizer import count_tokens

        count = lru_cache(maxsize=None)(count_tokens)
        return lambda subject: count(subject.image.caption)
    if key == "bytes":
        return lambda subject: _file_size(subject.image.path)
    if key in _OF_SIZE:
        of_size = _OF_SIZE[key]

        def measured(subject: _Subject) -> float | None:
            size = known.sizes.get(subject.image.path)
            return of_size(*size) if size is not None else None

        return measured

    def of_pixels(subject: _Subject) -> float | None:
        facts = known.facts.get(subject.image.path)
        return getattr(facts, key) if facts is not None and not facts.problem else None

    return of_pixels


_OF_SIZE: dict[str, Callable[[int, int], float]] = {
    "width": lambda width, height: width,
    "height": lambda width, height: height,
    "size": lambda width, height: width * height,
    "aspect": lambda width, height: width / height,
}


def _file_size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _is_animated(path: Path) -> bool:
    try:
        return read_header(path).frames > 1
    except DatasetError:
        return False
