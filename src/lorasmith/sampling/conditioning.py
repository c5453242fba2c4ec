"""Parsed prompts to what the denoiser reads, as the web UI (A1111) does it.

A prompt of any length is cut into chunks of 75 tokens; each goes through the text encoder by
itself, its hidden states are multiplied by the tokens' weights, and all chunks stand side by side.

Shapes: B prompts, n chunks of 77 tokens each (begin, 75 of text, end), D text width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorasmith.models.sd import Conditioning, DiffusionModel
from lorasmith.models.tokenizer import BOS, EOS, ROW, token_ids
from lorasmith.sampling.prompt import Fragment, Prompt

# How far back from a full chunk's end a comma may lie for the cut to be made there.
COMMA_REACH = 20

# Means of hidden states below this share of their standard deviation are chance: CLIP's is 0.1,
# that of a text encoder whose final norm is untrained 0.00001, and a ratio of two such, anything.
MEANINGFUL_MEAN = 0.01

_Token = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Chunk:
    """77 token ids (begin, 75 of text, end) and their weights; begin, end and filling weigh 1."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]

    @property
    def weighted(self) -> bool:
        return any(weight != 1.0 for weight in self.weights)


def chunks_of(prompt: Prompt) -> list[Chunk]:
    """The prompt's chunks, at least one. Each BREAK begins another."""
    # A BREAK with nothing behind it begins no chunk.
    sections = prompt.sections[:-1] if not prompt.sections[-1] else prompt.sections
    return [_chunk(tokens) for section in sections or ((),) for tokens in _cut(_tokens(section))]


def _tokens(section: Sequence[Fragment]) -> list[_Token]:
    return [(i, fragment.weight) for fragment in section for i in token_ids(fragment.text)]


def _cut(tokens: list[_Token]) -> Iterator[list[_Token]]:
    """Pieces of at most 75 tokens, cut behind a comma where one is near."""
    (comma,) = token_ids(",")
    while len(tokens) > ROW:
        end = ROW
        if tokens[ROW][0] != comma:
            near = (i for i in range(ROW - 1, ROW - COMMA_REACH - 1, -1) if tokens[i][0] == comma)
            end = next(near, ROW - 1) + 1
        yield tokens[:end]
        tokens = tokens[end:]
    yield tokens


def _chunk(tokens: Sequence[_Token]) -> Chunk:
    filling = ROW - len(tokens) + 1
    return Chunk(
        ids=(BOS, *(i for i, _ in tokens), *[EOS] * filling),
        weights=(1.0, *(weight for _, weight in tokens), *[1.0] * filling),
    )


def encode_prompts(model: DiffusionModel, prompts: Sequence[Sequence[Chunk]]) -> Conditioning:
    """Conditioning (B, 77 n, D) of B prompts, given as their chunks.

    ``n`` is the least common multiple of their numbers of chunks: a shorter prompt is repeated
    whole. Attention over a repeated sequence is attention over the sequence, so every picture is
    exactly what it would be alone, whoever shares its batch. A pooled embedding is that of the
    first chunk.
    """
    distinct = list(dict.fromkeys(chunk for chunks in prompts for chunk in chunks))
    widths = [text["hidden_size"] for text in model.architecture.texts]
    rows = model.encode_rows(torch.tensor([chunk.ids for chunk in distinct]))
    states = {
        chunk: _weighed(row, chunk, widths) if chunk.weighted else row
        for chunk, row in zip(distinct, rows.hidden, strict=True)
    }
    n = chunk_count(prompts)
    hidden = torch.stack(
        [torch.cat([states[chunk] for chunk in chunks] * (n // len(chunks))) for chunks in prompts]
    )
    if rows.pooled is None:
        return Conditioning(hidden)
    place = {chunk: index for index, chunk in enumerate(distinct)}
    return Conditioning(hidden, rows.pooled[[place[chunks[0]] for chunks in prompts]])


def _weighed(states: Tensor, chunk: Chunk, widths: Sequence[int]) -> Tensor:
    """(77, D) a chunk's states with its weights, those of each text encoder by themselves."""
    weights = torch.tensor(chunk.weights)
    return torch.cat([weigh(each, weights) for each in states.split(widths, -1)], dim=-1)


def chunk_count(prompts: Sequence[Sequence[Chunk]]) -> int:
    """How many chunks the prompts take together in one batch."""
    return math.lcm(*(len(chunks) for chunks in prompts))


def weigh(hidden: Tensor, weights: Tensor) -> Tensor:
    """(77, D) hidden states times their tokens' ``weights`` (77,), with their mean restored.

    The web UI's "Original" emphasis: restoring the mean keeps the prompt's overall strength. Where
    the states have no mean to speak of they are left as multiplied (its "No norm").
    """
    original = hidden.float()
    weighed = original * weights.to(original)[:, None]
    mean, new_mean = original.mean(), weighed.mean()
    restore = (mean.abs() > MEANINGFUL_MEAN * original.std()) & (new_mean != 0)
    ratio = torch.where(restore, mean / new_mean, torch.ones_like(mean))
    return (weighed * ratio).to(hidden.dtype)
