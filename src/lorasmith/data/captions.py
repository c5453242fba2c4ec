"""What a caption becomes on its way into a batch.

The order is sd-scripts' (``library/train_util.py``, ``process_caption``)::

    prefix and suffix -> dropout -> wildcards, or the first line -> kept and free tags
    -> warm-up of tags -> shuffle -> tag dropout -> secondary separator

with three differences, each where sd-scripts loses something: of several lines the line is chosen
first, so that the suffix is on it; ``keep_tokens_separator`` never stays in the text; empty tags
(``a,,b``) are not shuffled about. Wildcards may be nested. "Tokens" in ``keep_tokens`` are tags
between separators, not CLIP tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

_WILDCARD = re.compile(r"\{([^{}]+)\}")  # an innermost one
_ESCAPED = re.compile(r"\{\{([^{}]*)\}\}")
_OPEN, _CLOSE = "\ue000", "\ue001"  # private use: in no caption


@dataclass(frozen=True, slots=True)
class CaptionRules:
    """How captions vary.

    Args:
        shuffle: the order of the free tags changes with every use.
        separator: between tags.
        keep_tokens: as many tags at the front stay in place and are never dropped.
        keep_tokens_separator: text that ends the kept tags instead ("|||"); a second one begins
            kept tags at the end.
        dropout: chance that the whole caption is empty, 0..1.
        dropout_every_n_epochs: all captions are empty in every n-th epoch; ``None`` or 0 = never.
        tag_dropout: chance for each free tag to be left out, 0..1.
        prefix: put before each caption, with a space.
        suffix: put after each caption, with a space.
        wildcards: ``{a|b}`` is one of them, and of several lines one is drawn.
        secondary_separator: replaced by ``separator`` at the end; its tags move as one.
        tag_warmup_steps: free tags come in one by one over so many steps; 0 = all at once.
        tag_warmup_min: free tags at step 0 of the warm-up.
    """

    shuffle: bool = False
    separator: str = ","
    keep_tokens: int = 0
    keep_tokens_separator: str = ""
    dropout: float = 0.0
    dropout_every_n_epochs: int | None = None
    tag_dropout: float = 0.0
    prefix: str = ""
    suffix: str = ""
    wildcards: bool = False
    secondary_separator: str = ""
    tag_warmup_steps: int = 0
    tag_warmup_min: int = 1

    @property
    def varies(self) -> bool:
        """Whether the same caption can come out differently (so it can't be encoded once)."""
        return bool(
            self.shuffle
            or self.dropout > 0
            or self.dropout_every_n_epochs
            or self.tag_dropout > 0
            or self.wildcards
            or self.tag_warmup_steps > 0
        )


def vary(caption: str, rules: CaptionRules, *, rng: Random, step: int = 0, epoch: int = 1) -> str:
    """The caption as training sees it in one use.

    Args:
        caption: as read from the file, perhaps of several lines.
        rng: fixed by seed, epoch and sample.
        step: optimizer steps done, for the warm-up of tags.
        epoch: counted from 1, for ``dropout_every_n_epochs``.
    """
    lines = caption.splitlines() or [""]
    caption = rng.choice(lines) if rules.wildcards and len(lines) > 1 else lines[0]
    caption = " ".join(part for part in (rules.prefix, caption, rules.suffix) if part)
    if rules.dropout > 0 and rng.random() < rules.dropout:
        return ""
    if rules.dropout_every_n_epochs and epoch % rules.dropout_every_n_epochs == 0:
        return ""
    if rules.wildcards:
        caption = resolve_wildcards(caption, rng)
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
    caption = _ESCAPED.sub(f"{_OPEN}\\1{_CLOSE}", caption)
    while found := _WILDCARD.search(caption):
        choice = rng.choice(found.group(1).split("|"))
        caption = caption[: found.start()] + choice + caption[found.end() :]
    return caption.replace(_OPEN, "{").replace(_CLOSE, "}")


def split_tags(caption: str, separator: str = ",") -> list[str]:
    """The tags of a caption's first line, stripped, without empty ones."""
    line = caption.split("\n", 1)[0]
    return [tag.strip() for tag in line.split(separator) if tag.strip()]


def _vary_tags(caption: str, rules: CaptionRules, rng: Random, step: int) -> str:
    first, free, last = _kept_and_free(caption, rules)
    if step < rules.tag_warmup_steps:
        more = step * (len(free) - rules.tag_warmup_min) // rules.tag_warmup_steps
        free = free[: max(0, more + rules.tag_warmup_min)]
    if rules.shuffle:
        rng.shuffle(free)
    if rules.tag_dropout > 0:
        free = [tag for tag in free if rng.random() >= rules.tag_dropout]
    return ", ".join(first + free + last)


def _kept_and_free(caption: str, rules: CaptionRules) -> tuple[list[str], list[str], list[str]]:
    """Tags kept at the front, free ones, tags kept at the end."""
    mark = rules.keep_tokens_separator
    if mark and mark in caption:
        parts = [split_tags(part, rules.separator) for part in caption.split(mark, 2)]
        return parts[0], parts[1], parts[2] if len(parts) > 2 else []
    tags = split_tags(caption, rules.separator)
    return tags[: rules.keep_tokens], tags[rules.keep_tokens :], []
