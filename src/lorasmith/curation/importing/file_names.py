"""Names of image files: none twice, and tags that stand in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from lorasmith.core.errors import UserError
from lorasmith.core.file_names import folded, safe_stem
from lorasmith.core.text import did_you_mean
from lorasmith.curation.sidecars.tags import CATEGORIES, Tag, category_of, clean_tag, merge_tags

# Grabber's tokens that are kinds of tags, and those that are other things, each a few signs.
_TAG_TOKENS = {**{name: name for name in CATEGORIES}, "all": "general", "tags": "general"}
_OTHER_TOKENS = frozenset(
    {"md5", "id", "ext", "filename", "website", "websitename", "date", "score", "width", "height"}
    | {"search", "count", "num", "author", "any", "rating"}
)
_TOKEN = re.compile(r"%(\w+)(?::[^%]*)?%")
_BETWEEN_TAGS = re.compile(r"[ +,]+")


class FreeNames:
    """Names in a folder, so that no image takes another's, nor its caption's or mask's.

    Args:
        names: of the files that are there.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {folded(Path(name).stem) for name in names}
        self._next: dict[str, int] = {}

    def take(self, stem: str) -> str:
        """``stem`` made safe, or that with the first number from 2 that is free; taken now."""
        stem = safe_stem(stem)
        name, key = stem, folded(stem)
        while folded(name) in self._names:
            self._next[key] = self._next.get(key, 1) + 1
            name = f"{stem}_{self._next[key]}"
        self._names.add(folded(name))
        return name


class NamePattern:
    """Tags in the names of files and folders, as Grabber writes them with a pattern:
    ``%artist%/%copyright%/%character%/%md5%.%ext%``.

    A token of a kind of tags may stand for several, with spaces between them. Any other token
    stands for a few signs that are passed over. The pattern is compared with the end of a path.

    Raises:
        UserError: a token is not known, or none is a kind of tags.
    """

    def __init__(self, pattern: str) -> None:
        self._kinds: list[str | None] = []
        tokens = _TOKEN.findall(pattern)
        all_tokens = {*_TAG_TOKENS, *_OTHER_TOKENS}
        unknown = [token for token in tokens if token not in all_tokens]
        if unknown:
            hint = did_you_mean(
                unknown[0], all_tokens, f"there are {', '.join(sorted(all_tokens))}"
            )
            raise UserError.of("name_tags", f"%{unknown[0]}% is no token of a name", hint)
        if not set(tokens) & set(_TAG_TOKENS):
            hint = "write it as Grabber does, like %artist%/%character%/%md5%.%ext%"
            raise UserError.of("name_tags", f'no tag stands in "{pattern}"', hint)
        self._has_ending = pattern.endswith("%ext%") or "." in pattern.rpartition("%")[2]
        expression, position = "", 0
        for match in _TOKEN.finditer(pattern):
            expression += re.escape(pattern[position : match.start()].replace("\\", "/"))
            self._kinds.append(_TAG_TOKENS.get(match[1]))
            expression += r"([^/]*?)"
            position = match.end()
        expression += re.escape(pattern[position:])
        self._expression = re.compile(rf"(?:.*/)?{expression}", re.DOTALL)

    def tags(self, path: Path) -> tuple[Tag, ...]:
        """Of one file; none where its name is of another form."""
        text = (path if self._has_ending else path.with_suffix("")).as_posix()
        match = self._expression.fullmatch(text[-1000:])
        if match is None:
            return ()
        lists = []
        for kind, value in zip(self._kinds, match.groups(), strict=True):
            if kind is not None:
                category = None if kind == "general" else category_of(kind)
                tags = (clean_tag(name, category) for name in _BETWEEN_TAGS.split(value))
                lists.append([tag for tag in tags if tag is not None])
        return merge_tags(lists)
