"""What is told of a prompt while it is written: its tokens, and the wildcards that it may name.
No torch."""

from __future__ import annotations

import functools
import time
from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel

from lorasmith.core.errors import PromptError
from lorasmith.curation.token_counts import LIMITS, tokenize_prompt
from lorasmith.jobs.drawings.loras import lora_cards
from lorasmith.models.embedding_names import EmbeddingNames
from lorasmith.prompts.lora_tags import take_tags
from lorasmith.prompts.wildcards import Wildcards

LOOKS = 10.0
"""Seconds for which a folder of embeddings or LoRAs is taken to be as it was."""


class PromptTokens(BaseModel):
    """
    Args:
        tokens: of the longest text that AND parts or that the prompt becomes; ``None`` where it
            cannot be read.
        limits: 75, 150, 225: a prompt is read so many at a time.
        embeddings: vectors by name.
    """

    tokens: int | None
    limits: list[int] = list(LIMITS)
    embeddings: dict[str, int] = {}


def count_prompts(
    prompts: Collection[str], loras: Path, embeddings: Path | None, uses: Collection[str] = ()
) -> list[PromptTokens]:
    """The tokens of a drawing's prompts, as :func:`.tokenize_prompt` has them.

    Args:
        loras: the folder of LoRAs, and of embeddings where ``embeddings`` is ``None``.
        uses: names of LoRAs beside those of the prompts' tags; words that they carry count, too.
    """
    tick = int(time.monotonic() // LOOKS)
    names = _names(embeddings or loras, embeddings is not None, tick)
    wanted = {*uses, *(tag.name for prompt in prompts for tag in take_tags(prompt)[1])}
    if wanted:
        paths = _paths(loras, tick)
        names = names.carrying([paths[name] for name in sorted(wanted) if name in paths])
    return [_count(prompt, names) for prompt in prompts]


def _count(prompt: str, names: EmbeddingNames) -> PromptTokens:
    try:
        texts = tokenize_prompt(prompt, names)
    except PromptError:
        return PromptTokens(tokens=None)
    embeddings = {name: count for text in texts for name, count in text.embeddings.items()}
    return PromptTokens(tokens=max(text.tokens for text in texts), embeddings=embeddings)


@functools.lru_cache(4)
def _names(folder: Path, named: bool, tick: int) -> EmbeddingNames:
    return EmbeddingNames(folder, named=named)


@functools.lru_cache(4)
def _paths(folder: Path, tick: int) -> dict[str, Path]:
    return {card.name: Path(card.path) for card in lora_cards(folder).loras}


def wildcard_names(folder: Path, prefix: str, most: int = 20) -> list[str]:
    """Names of a folder's wildcards that have ``prefix`` in them, those that begin so first."""
    small = prefix.casefold()
    found = [name for name in Wildcards(folder).names if small in name.casefold()]
    return sorted(found, key=lambda name: (not name.casefold().startswith(small), name))[:most]
