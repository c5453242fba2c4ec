"""Names of image files: such as every system takes, and none twice; tags that stand in them."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from lorasmith.core.errors import UserError
from lorasmith.core.text import did_you_mean
from lorasmith.curation.sidecars.tags import CATEGORIES, Tag, category_of, clean_tag, merge_tags

# What Windows keeps for devices, whatever the ending.
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
_BAD_SIGNS = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]+')
# Bytes of a name without its ending; a mask's mark and an ending still fit into 255.
_LONGEST = 200

# Grabber's tokens that are kinds of tags, and those that are other things, each a few signs.
_TAG_TOKENS = {**{name: name for name in CATEGORIES}, "all": "general", "tags": "general"}
_OTHER_TOKENS = frozenset(
    {"md5", "id", "ext", "filename", "website", "websitename", "date", "score", "width", "height"}
    | {"search", "count", "num", "author", "any", "rating"}
)
_TOKEN = re.compile(r"%(\w+)(?::[^%]*)?%")
_BETWEEN_TAGS = re.compile(r"[ +,]+")


def safe_stem(stem: str) -> str:
    """A name without ending that can be written everywhere: no signs that a system refuses, no
    dash in front, not a device's, not too long."""
    stem = _BAD_SIGNS.sub("_", unicodedata.normalize("NFC", stem)).strip(" .")
    stem = os.fsencode(stem)[:_LONGEST].decode("utf-8", "ignore").strip(" .")
    if not stem or stem.startswith("-") or _RESERVED.fullmatch(stem):
        stem = f"_{stem}"
    return stem


class FreeNames:
    """Names in a folder, so that no image takes another's, nor its caption's or mask's.

    Args:
        names: of the files that are there.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {_folded(Path(name).stem) for name in names}
        self._next: dict[str, int] = {}

    def take(self, stem: str) -> str:
        """``stem`` made safe, or that with the first number from 2 that is free; taken now."""
        stem = safe_stem(stem)
        name, folded = stem, _folded(stem)
        while _folded(name) in self._names:
            self._next[folded] = self._next.get(folded, 1) + 1
            name = f"{stem}_{self._next[folded]}"
        self._names.add(_folded(name))
        return name


def _folded(name: str) -> str:
    """As file systems compare that do not tell capitals apart."""
    return unicodedata.normalize("NFC", name).casefold()


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
