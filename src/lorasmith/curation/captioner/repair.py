"""What a captioning model wrote, made fit for training: one line, no loops, no forbidden words.

Pure functions from text to text. Each is idempotent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from lorasmith.data.captions import join_tags, split_tags

Style = Literal["descriptive", "tags"]

_GREATEST = 6000  # characters of an answer that are looked at
# <|im_end|>, </s>, [PAD]: marks of models that their tokenizers do not know as such.
_MARKS = re.compile(r"<\|[^<>|]*\|>|</?(?:s|pad|unk|image)>|\[(?:PAD|CLS|SEP|UNK)\]", re.IGNORECASE)
# What models that reason write before they answer.
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.IGNORECASE | re.DOTALL)
# "Sure! Here is a caption for the image:", "**Caption:**"
_PREAMBLE = re.compile(
    r"\A(?:(?:sure|certainly|of course|okay)[,.!]?\s+)?"
    r"(?:here(?:'s|’s| is| are)\s[^:\n.]{0,80}:|(?:caption|description|tags?|answer)\s*:)\s*",
    re.IGNORECASE,
)
# Bullets, numbers and headings of Markdown at the beginning of a line, and its emphasis.
_BULLET = re.compile(r"^\s*(?:[-*•]\s+|\d{1,3}[.)]\s+|#{1,6}\s+)", re.MULTILINE)
_EMPHASIS = re.compile(r"\*\*|__(?=\w)|(?<=\w)__")
_QUOTES = {'"': '"', "“": "”", "'": "'", "`": "`", "«": "»"}

# From so many times in a row on, a group of words is a loop; by the group's length in words.
_LONE, _FEW, _MANY = 4, 3, 2
_LONG_GROUP = 6
_LONGEST_GROUP = 60
# The same without spaces between: some letters many times, or a longer piece thrice.
_LETTERS = re.compile(r"([^\s\d]{1,40}?)\1{5,}|(\S{4,60}?)\2{2,}")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+|(?<=[。！？])(?=\S)")
_CLOSED = re.compile(r"[.!?。！？][\"”')\]]?$")


def one_line(text: str, style: Style = "descriptive") -> str:
    """The caption in a model's answer: without thoughts, preamble, Markdown, marks and quotes.

    Training reads a caption's first line, so lines become sentences, or tags, of one.
    """
    text, previous = text[:_GREATEST], None
    while text != previous:
        previous = text
        text = _MARKS.sub(" ", _THOUGHT.sub(" ", text))
        text = _PREAMBLE.sub("", _EMPHASIS.sub("", _BULLET.sub("", text)).strip())
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        text = " ".join((", " if style == "tags" else " ").join(lines).split())
        if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text.count(text[0]) <= 2:
            text = text[1:-1].strip()
        if style == "tags":
            text = join_tags(_unique(tag.rstrip(".").strip() for tag in split_tags(text)))
    return text


def cut_loops(text: str, style: Style = "descriptive") -> str:
    """The text with each loop once: what a model writes that found no end.

    "a cat on a mat on a mat on a mat on a" becomes "a cat on a mat". A single word may stand
    three times in a row ("very, very, very"), a few words twice, a sentence once in all.
    """
    previous = None
    while text != previous:
        previous = text
        text = _without_runs(_LETTERS.sub(lambda match: match[1] or match[2], text))
        if style == "descriptive":
            text = " ".join(_unique(_SENTENCE_END.split(text)))
    return join_tags(_unique(split_tags(text))) if style == "tags" else text


def _without_runs(text: str) -> str:
    words = text.split(" ")
    plain = [word.strip(_STOPS).casefold() for word in words]
    at = 0
    while at < len(words):
        longest = min(_LONGEST_GROUP, (len(words) - at) // 2)
        lengths = [n for n in range(1, longest + 1) if plain[at + n] == plain[at]]
        run = next(filter(None, (_run(plain, at, length) for length in lengths)), None)
        if run is None:
            at += 1
            continue
        length, end = run
        del words[at + length : end], plain[at + length : end]
        if at + length == len(words):
            words[-1] = words[-1].rstrip(",;:")
    return " ".join(words)


def _run(words: Sequence[str], at: int, length: int) -> tuple[int, int] | None:
    """Length of a group and end of its repetitions, where these are enough for a loop."""
    end = _run_end(words, at, length)
    least = _LONE if length == 1 else _FEW if length < _LONG_GROUP else _MANY
    return (length, end) if end - at >= least * length else None


def _run_end(words: Sequence[str], at: int, length: int) -> int:
    """Where the repetitions of the group at ``at`` end; the last may be cut by the text's end."""
    group = words[at : at + length]
    end = at + length
    while words[end : end + 1] == group[:1] and words[end : end + length] == group:
        end += length
    rest = words[end:]
    if end > at + length and rest and len(rest) <= length:
        *whole, last = rest
        if whole == group[: len(whole)] and group[len(whole)].startswith(last):
            return len(words)
    return end


def _unique(items: Iterable[str]) -> list[str]:
    """Each once, in their order; case does not tell them apart."""
    by_key: dict[str, str] = {}
    for item in items:
        if item:
            by_key.setdefault(item.casefold(), item)
    return list(by_key.values())


def without_unfinished(text: str, style: Style = "descriptive") -> str:
    """A text that was cut at its greatest length, less the sentence or tag that it breaks off in,
    where there is another before it."""
    if style == "tags":
        tags = split_tags(text)
        return join_tags(tags[:-1] or tags)
    sentences = [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]
    if len(sentences) > 1 and not _CLOSED.search(sentences[-1]):
        sentences.pop()
    return " ".join(sentences)


_STOPS = ",.;:!?"
_ARTICLES = {*("a", "an", "the", "her", "his", "their", "its", "some")}
_JOINTS = {*("and", "or", "&", "plus")}
_CONNECTORS = _JOINTS | {
    *("with", "in", "of", "on", "has", "have", "having", "wearing", "featuring", "including"),
    *("from", "by", "to", "for", "at"),
}
_BRACKETS = {"(": ")", "[": "]", '"': '"', "“": "”"}
# Scripts without spaces between words.
_UNSPACED = re.compile("[\u3041-\u30ff\u3400-\u9fff]")


def without_words(text: str, words: Sequence[str], style: Style = "descriptive") -> str:
    """The text without some words or phrases, whatever their case.

    Of tags of which something is left, the rest stays ("long black hair" less "black hair" is
    "long"); in a sentence what led to the words goes with them ("a girl with black hair and blue
    eyes" becomes "a girl with blue eyes").
    """
    phrases = sorted({_phrase(word) for word in words if word.strip()}, key=len, reverse=True)
    if not phrases:
        return text
    pattern = re.compile("|".join(phrases), re.IGNORECASE)
    if style == "tags":
        while pattern.search(text):
            rests = (pattern.sub(" ", tag) for tag in split_tags(text))
            text = join_tags(_unique(re.sub(r"\s+", " ", rest).strip(" _-") for rest in rests))
        return text
    while match := pattern.search(text):
        text = _closed(text[: match.start()], text[match.end() :], match[0])
    return text


def _phrase(word: str) -> str:
    """The pattern of a word or phrase that stands by itself; "black hair" is "black_hair" too."""
    parts = [part for part in re.split(r"[\s_]+", word.strip()) if part] or [word.strip()]
    phrase = r"[\s_]+".join(map(re.escape, parts))
    before = "" if _UNSPACED.match(parts[0][0]) else r"(?<![^\W_])(?<![^\W_]-)"
    after = "" if _UNSPACED.match(parts[-1][-1]) else r"(?![^\W_])(?!-[^\W_])"
    return f"{before}{phrase}{after}"


def _closed(left: str, right: str, gone: str) -> str:
    """The two sides of what was taken out, as a sentence."""
    if _UNSPACED.match(gone):
        return (left + right).strip()
    left, right = left.rstrip(), right.lstrip()
    while left and right and _BRACKETS.get(left[-1]) == right[0]:
        left, right = left[:-1].rstrip(), right[1:].lstrip()
    before, after = left.split(), right.split()
    following = after[0].casefold() if after else ""
    ends = not following or following[0] in _STOPS
    if not ends and following in _JOINTS and (not before or _hangs(before[-1])):
        after.pop(0)  # "with [black hair] and blue eyes"
    elif ends or following in _CONNECTORS:
        while before and before[-1].casefold() in _CONNECTORS | _ARTICLES:
            before.pop()
        if before and ends:
            before[-1] = before[-1].rstrip(",;:") or before.pop()
    starts = not before or before[-1][-1] in ".!?"
    rest = " ".join(after)
    if starts:
        rest = rest.lstrip(_STOPS + " ")
        rest = rest[:1].upper() + rest[1:] if gone[:1].isupper() or before else rest
    text = " ".join([*before, rest])
    return re.sub(r"\s+([,.;:!?])", r"\1", text).strip()


def _hangs(word: str) -> bool:
    return word[-1] in _STOPS or word.casefold() in _CONNECTORS | _ARTICLES


def framed(text: str, prefix: str, suffix: str, style: Style = "descriptive") -> str:
    """The text between prefix and suffix, neither of them twice."""
    prefix, suffix = prefix.strip(), suffix.strip()
    if style == "tags":
        first, last = split_tags(prefix), split_tags(suffix)
        others = {tag.casefold() for tag in last}
        body = [tag for tag in split_tags(text) if tag.casefold() not in others]
        return join_tags(_unique([*first, *body, *last]))
    if prefix and not text.casefold().startswith(prefix.casefold()):
        text = f"{prefix} {text}"
    if suffix and not text.casefold().endswith(suffix.casefold()):
        text = f"{text}{'' if suffix[0] in _STOPS else ' '}{suffix}"
    return text.strip()
