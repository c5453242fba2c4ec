"""What a caption becomes on its way into a batch.

The order is sd-scripts' (``library/train_util.py``, ``process_caption``)::

    prefix and suffix -> dropout -> wildcards, or the first line -> kept and free tags
    -> warm-up of tags -> shuffle -> tag dropout -> secondary separator

with four differences, each where sd-scripts loses something: of several lines the line is chosen
first, so that the suffix is on it; ``keep_tokens_separator`` never stays in the text; empty tags
(``a,,b``) are not shuffled about; tags are joined by the separator that they were split at, where
sd-scripts writes commas. Wildcards may be nested. "Tokens" in ``keep_tokens`` are tags between
separators, not CLIP tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from random import Random

from lorasmith.config.sections.data import CaptionSettings

_WILDCARD = re.compile(r"\{([^{}]+)\}")  # an innermost one
_ESCAPED = re.compile(r"\{\{([^{}]*)\}\}")
_OPEN, _CLOSE = "\ue000", "\ue001"  # private use: in no caption
# Combinations of a caption's wildcards that are looked at; of more, as many drawn from all.
_MOST_READINGS = 64
_MOST_WILDCARDS = 100
_UNUSED = Random(0)  # where nothing is left to chance


def augment_caption(
    caption: str, rules: CaptionSettings, *, rng: Random, step: int = 0, epoch: int = 1
) -> str:
    """The caption as training sees it in one use.

    Args:
        caption: as read from the file, perhaps of several lines.
        rng: fixed by seed, epoch and sample.
        step: optimizer steps done, for the warm-up of tags.
        epoch: counted from 1, for ``dropout_every_n_epochs``.
    """
    lines = caption.splitlines() or [""]
    caption = _framed(rng.choice(lines) if rules.wildcards and len(lines) > 1 else lines[0], rules)
    if rules.dropout > 0 and rng.random() < rules.dropout:
        return ""
    if rules.dropout_every_n_epochs and epoch % rules.dropout_every_n_epochs == 0:
        return ""
    if rules.wildcards:
        caption = resolve_wildcards(caption, rng)
    return _with_separators(caption, rules, rng, step)


def readings(caption: str, rules: CaptionSettings) -> list[str]:
    """What training may see of a caption before tags are shuffled or dropped, each text once.

    Its first line; with wildcards every line and every choice, or 64 of many.
    """
    lines = caption.splitlines() or [""]
    plain = rules
    if rules.shuffle or rules.tag_dropout or rules.tag_warmup_steps:
        none = {"shuffle": False, "tag_dropout": 0.0, "tag_warmup_steps": 0}
        plain = rules.model_copy(update=none)
    texts: dict[str, None] = {}
    for line in lines if rules.wildcards else lines[:1]:
        framed = _framed(line, rules)
        for text in _choices(_escape(framed)) if rules.wildcards else [framed]:
            texts[_with_separators(_unescape(text), plain, _UNUSED, 0)] = None
    return list(texts)


def tags_of(caption: str, rules: CaptionSettings) -> list[str]:
    """The tags that training may see of a caption, with those of prefix and suffix."""
    texts = readings(caption, rules)
    tags = [tag for text in texts for tag in split_tags(text, rules.separator)]
    return tags if len(texts) == 1 else list(dict.fromkeys(tags))


def free_tags(caption: str, rules: CaptionSettings) -> list[str]:
    """Those of the caption's first line that may be shuffled or dropped."""
    return _kept_and_free(_framed(caption.split("\n", 1)[0], rules), rules)[1]


def join_tags(tags: Iterable[str], separator: str = ",") -> str:
    """Tags as one text: a separator that does not end in a space gets one."""
    return (separator if separator[-1].isspace() else f"{separator} ").join(tags)


def _framed(line: str, rules: CaptionSettings) -> str:
    return " ".join(part for part in (rules.prefix, line, rules.suffix) if part)


def _with_separators(caption: str, rules: CaptionSettings, rng: Random, step: int) -> str:
    if (
        rules.shuffle
        or rules.tag_dropout > 0
        or rules.tag_warmup_steps > 0
        or (rules.keep_tokens_separator and rules.keep_tokens_separator in caption)
    ):
        caption = _vary_tags(caption, rules, rng, step)
    if rules.secondary_separator:
        caption = caption.replace(rules.secondary_separator, rules.separator)
    return caption


def resolve_wildcards(caption: str, rng: Random) -> str:
    """``{a|b|{c|d}}`` -> one of them, innermost first; ``{{text}}`` is ``{text}`` itself."""
    return _unescape(_resolved(_escape(caption), rng))


def _resolved(caption: str, rng: Random) -> str:
    """An escaped caption with one choice for each wildcard."""
    at = 0
    while match := _WILDCARD.search(caption, at):
        choice = rng.choice(match.group(1).split("|"))
        caption = caption[: match.start()] + choice + caption[match.end() :]
        # The next one is the one around it, or further on.
        at = max(0, caption.rfind("{", 0, match.start()))
    return caption


def _choices(caption: str) -> list[str]:
    """Texts that the wildcards of an escaped caption may give."""
    if caption.count("{") > _MOST_WILDCARDS:
        # Far more texts than are looked at: some of them, drawn whole.
        draws = (Random(number) for number in range(_MOST_READINGS))
        return list(dict.fromkeys(_resolved(caption, draw) for draw in draws))
    texts = [caption]
    while any(map(_WILDCARD.search, texts)):
        texts = list(dict.fromkeys(text for one in texts for text in _resolved_once(one)))
        if len(texts) > _MOST_READINGS:
            texts = Random(0).sample(texts, _MOST_READINGS)
    return texts


def _resolved_once(caption: str) -> list[str]:
    match = _WILDCARD.search(caption)
    if not match:
        return [caption]
    before, after = caption[: match.start()], caption[match.end() :]
    return [before + choice + after for choice in match.group(1).split("|")]


def _escape(caption: str) -> str:
    return _ESCAPED.sub(f"{_OPEN}\\1{_CLOSE}", caption)


def _unescape(caption: str) -> str:
    return caption.replace(_OPEN, "{").replace(_CLOSE, "}")


def split_tags(caption: str, separator: str = ",") -> list[str]:
    """The tags of a caption's first line, stripped, without empty ones."""
    line = caption.split("\n", 1)[0]
    return [tag.strip() for tag in line.split(separator) if tag.strip()]


def _vary_tags(caption: str, rules: CaptionSettings, rng: Random, step: int) -> str:
    first, free, last = _kept_and_free(caption, rules)
    if step < rules.tag_warmup_steps:
        more = step * (len(free) - rules.tag_warmup_min) // rules.tag_warmup_steps
        free = free[: max(0, more + rules.tag_warmup_min)]
    if rules.shuffle:
        rng.shuffle(free)
    if rules.tag_dropout > 0:
        free = [tag for tag in free if rng.random() >= rules.tag_dropout]
    return join_tags(first + free + last, rules.separator)


def _kept_and_free(caption: str, rules: CaptionSettings) -> tuple[list[str], list[str], list[str]]:
    """Tags kept at the front, free ones, tags kept at the end."""
    mark = rules.keep_tokens_separator
    if mark and mark in caption:
        parts = [split_tags(part, rules.separator) for part in caption.split(mark)]
        return parts[0], parts[1], [tag for part in parts[2:] for tag in part]
    tags = split_tags(caption, rules.separator)
    return tags[: rules.keep_tokens], tags[rules.keep_tokens :], []
