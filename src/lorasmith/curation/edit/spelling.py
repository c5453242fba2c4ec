"""How one tag may be spelled: spaces or underscores, brackets escaped or not, weights, capitals.

Lists of tags (``assets/tag_lists``) and their files have a tag a line; ``*`` stands for any
letters, ``?`` for one, and a line that begins with ``#`` is a remark.
"""

from __future__ import annotations

import functools
import os
import re
import unicodedata
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from lorasmith.core.errors import DatasetError, Problem, collect_problems
from lorasmith.core.files import ASSETS
from lorasmith.core.text import did_you_mean
from lorasmith.data.caption_files import decode

LISTS = ASSETS / "tag_lists"

# Faces that taggers and boorus write with underscores, which are no spaces.
_FACES = (
    "0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||"
    " t_t q_q d_d n_n v_v -_- ;_; '_' *_* $_$ !_! ?_? ^o^ \\m/ :p :d :o :q :t :x :3 ;d ;p ;q ;o xd"
    " d: o3o uwu owo"
)
KAOMOJI = frozenset(_FACES.split())
_WEIGHTED = re.compile(r"(\(++)(.+?)(:\s*+[+-]?(?:\d++(?:\.\d*+)?|\.\d++)\s*+)?(\)+)", re.DOTALL)
_BARE_BRACKET = re.compile(r"(?<!\\)([()\[\]])")
_ESCAPED_BRACKET = re.compile(r"\\([()\[\]])")


def is_kaomoji(tag: str) -> bool:
    """Whether a tag is a face: one of the known ones, brackets escaped or not."""
    return unescaped(tag).lower() in KAOMOJI


def with_underscores(tag: str) -> str:
    return tag if is_kaomoji(tag) else "_".join(tag.split())


def with_spaces(tag: str) -> str:
    """Underscores to spaces; what would leave nothing stays."""
    return tag if is_kaomoji(tag) else " ".join(tag.replace("_", " ").split()) or tag


def escaped(tag: str) -> str:
    r"""``fate (series)`` to ``fate \(series\)``, as prompts write brackets that are no weights.

    What is weighted itself, ``(hat:1.2)``, stays, and so does what is escaped.
    """
    return tag if split_weight(tag)[1] else _BARE_BRACKET.sub(r"\\\1", tag)


def unescaped(tag: str) -> str:
    return _ESCAPED_BRACKET.sub(r"\1", tag)


def split_weight(tag: str) -> tuple[str, str, str]:
    """``(hat:1.2)`` to ``hat``, ``(``, ``:1.2)``; two empty texts where there is no weight.

    ``((hat))`` has one too; ``(o)_(o)`` has none, and neither has ``(hat`` of a tag with a comma.
    """
    match = _WEIGHTED.fullmatch(tag)
    if match is None or len(match[1]) != len(match[4]) or match[4].startswith("\\"):
        return tag, "", ""
    inner = match[2].strip()
    if not inner or inner.endswith("\\") or not _is_balanced(inner) or is_kaomoji(tag):
        return tag, "", ""
    return inner, match[1], f"{match[3] or ''}{match[4]}"


def _is_balanced(text: str) -> bool:
    """Whether every unescaped round bracket has its partner."""
    depth = 0
    for bracket in _BARE_BRACKET.findall(text):
        depth += {"(": 1, ")": -1}.get(bracket, 0)
        if depth < 0:
            return False
    return depth == 0


@functools.lru_cache(maxsize=100_000)
def bare(tag: str) -> str:
    """What all spellings of a tag have in common: no weight or backslash, spaces, small letters."""
    if not tag.isascii():  # accents are written in more than one way
        tag = unicodedata.normalize("NFC", tag)
    return with_spaces(unescaped(split_weight(tag)[0])).casefold()


def like(tag: str, model: str) -> str:
    """``tag`` spelled as ``model`` is: with its weight, underscores, escapes."""
    inner, before, after = split_weight(model)
    if "_" in inner and " " not in inner and not is_kaomoji(inner):
        tag = with_underscores(tag)
    if _ESCAPED_BRACKET.search(inner):
        tag = escaped(tag)
    return f"{before}{tag}{after}"


def wildcard_pattern(text: str) -> re.Pattern[str] | None:
    r"""What ``*`` and ``?`` of a text stand for, or ``None`` without any; ``\*`` is the star.

    Each star but the last takes as little as it can, and nothing is tried twice: a text of many
    stars takes no longer than others.
    """
    if "*" not in text and "?" not in text:
        return None
    parts = [""]
    is_wild = False
    for piece in re.findall(r"\\[*?]|.", text, re.DOTALL):
        is_wild = is_wild or piece in ("*", "?")
        if piece == "*":
            parts.append("")
        elif piece == "?":
            parts[-1] += "."
        else:
            parts[-1] += re.escape(piece[-1])
    if not is_wild:
        return None
    first, *between = parts
    last = f".*{between.pop()}" if between else ""
    middle = "".join(f"(?>.*?{part})" for part in between if part)
    return re.compile(f"{first}{middle}{last}", re.DOTALL)


class TagList:
    """Tags and patterns of tags, in any spelling."""

    def __init__(self, entries: Iterable[str]) -> None:
        self.entries = list(entries)
        patterns = []
        self._tags: set[str] = set()
        for entry in self.entries:
            pattern = wildcard_pattern(bare(entry))
            if pattern is None or is_kaomoji(entry):
                self._tags.add(bare(entry))
            else:
                patterns.append(f"(?:{pattern.pattern})")
        self._pattern = re.compile("|".join(patterns), re.DOTALL) if patterns else None
        self._answers: dict[str, bool] = {}

    def __contains__(self, tag: str) -> bool:
        answer = self._answers.get(tag)
        if answer is None:
            name = bare(tag)
            matches = self._pattern is not None and self._pattern.fullmatch(name) is not None
            answer = self._answers[tag] = name in self._tags or matches
        return answer


def find_lists(names: str, among: Iterable[str]) -> TagList:
    """Lists by name or by file, several between commas, as one.

    Args:
        among: the names of shipped lists that may be said; others are files.

    Raises:
        DatasetError: a list is not known, or its file cannot be read.
    """
    known = list(dict.fromkeys(among))
    entries: list[str] = []
    problems: list[Problem] = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        path = LISTS / f"{name}.txt"
        path = path if name in known and path.is_file() else Path(name).expanduser()
        if name in known or path.suffix or "/" in name or os.path.isfile(path):
            entries += collect_problems(problems, partial(read_list, path)) or []
        else:
            hint = did_you_mean(name, known, f"there are {', '.join(known)}, or name a file")
            problems.append(Problem(name, "there is no list of this name", hint))
    if problems:
        raise DatasetError(problems)
    return TagList(entries)


def read_list(path: Path) -> list[str]:
    """The tags of a text file, one a line, in order.

    Raises:
        DatasetError: it cannot be read.
    """
    try:
        text, _ = decode(path.read_bytes())
    except OSError as error:
        what = f"the list cannot be read: {error.strerror}"
        raise DatasetError.of(path, what, "correct the path") from error
    lines = (line.strip().rstrip(",").strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]
