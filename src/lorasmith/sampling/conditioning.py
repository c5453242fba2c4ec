"""Parsed prompts to what the denoiser reads, as the web UI (A1111) does it.

A prompt of any length is cut into chunks of 75 tokens; each goes through the text encoder by
itself, its hidden states are multiplied by the tokens' weights, and all chunks stand side by side.

Shapes: B prompts, n chunks of 77 tokens each (begin, 75 of text, end), D text width, P pooled.
"""

from __future__ import annotations

import contextlib
import math
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.models.tokenizer import BOS, EOS, ROW, token_ids
from lorasmith.prompts.weights import Sections
from lorasmith.sampling.embeddings import Embedding, EmbeddingLibrary
from lorasmith.tensors.transfer import to_device

# How far back from a full chunk's end a comma may lie for the cut to be made there: the web UI's
# "prompt word wrap length limit", at its default.
COMMA_REACH = 20

# Means of hidden states below this share of their standard deviation are chance: CLIP's is 0.1,
# that of a text encoder whose final norm is untrained 0.00001, and a ratio of two such, anything.
MEANINGFUL_MEAN = 0.01

# Chunks kept encoded; one of SDXL takes 0.6 MB in float32.
KEPT = 256
# Chunks that the text encoder gets at once.
AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Chunk:
    """77 token ids (begin, 75 of text, end) and their weights; begin, end and filling weigh 1.

    Args:
        embeddings: with the place of each one's first vector; the ids there mean nothing.
    """

    ids: tuple[int, ...]
    weights: tuple[float, ...]
    embeddings: tuple[tuple[int, Embedding], ...] = ()

    @property
    def weighted(self) -> bool:
        return any(weight != 1.0 for weight in self.weights)

    @property
    def blank(self) -> bool:
        """Whether there is no text in it."""
        return self.ids[1] == EOS


@dataclass(frozen=True, slots=True)
class _Word:
    """What goes into a chunk as a whole: a token, or an embedding."""

    ids: tuple[int, ...]
    weight: float
    embedding: Embedding | None = None


Carriers = tuple[Path, ...]
"""LoRA files that may carry embeddings."""


class PromptEncoder:
    """Texts of a model's prompts to conditioning; each distinct chunk is encoded once.

    Args:
        embeddings: whose names in prompts become their vectors.
        comma_reach: see :data:`COMMA_REACH`; 0 always cuts after 75 tokens.
    """

    def __init__(
        self,
        model: DiffusionModel,
        embeddings: EmbeddingLibrary | None = None,
        *,
        comma_reach: int = COMMA_REACH,
    ) -> None:
        self.model = model
        self._embeddings = embeddings or EmbeddingLibrary()
        self._comma_reach = comma_reach
        self._carrying: dict[Carriers, EmbeddingLibrary] = {(): self._embeddings}
        self._chunks: dict[tuple[Sections, Carriers], tuple[Chunk, ...]] = {}
        self._states: OrderedDict[Hashable, tuple[Tensor, Tensor | None]] = OrderedDict()

    def chunks(self, sections: Sections, carriers: Carriers = ()) -> tuple[Chunk, ...]:
        """The chunks of a text, at least one. Each BREAK begins another.

        Args:
            carriers: LoRA files whose embeddings are known besides.

        Raises:
            PromptError: an embedding that it names is damaged.
        """
        if (sections, carriers) not in self._chunks:
            if carriers not in self._carrying:
                self._carrying[carriers] = self._embeddings.carrying(carriers)
            embeddings = self._carrying[carriers]
            # A BREAK with nothing behind it begins no chunk.
            chunk_sections = (sections[:-1] if not sections[-1] else sections) or ((),)
            self._chunks[sections, carriers] = tuple(
                _chunk(words)
                for section in chunk_sections
                for words in _cut(
                    [
                        word
                        for fragment in section
                        for word in self._words(fragment.text, fragment.weight, embeddings)
                    ],
                    self._comma_reach,
                )
            )
        return self._chunks[sections, carriers]

    def _words(self, text: str, weight: float, embeddings: EmbeddingLibrary) -> Iterator[_Word]:
        ids = token_ids(text)
        at = 0
        while at < len(ids):
            own = self.model.placeholders.at(ids, at)
            embedding = None if own else embeddings.at(ids, at, self.model)
            if own is not None:
                length, own_ids = own
                yield _Word(own_ids, weight)
                at += length
            elif embedding is None:
                yield _Word((ids[at],), weight)
                at += 1
            else:
                yield _Word((0,) * embedding.count, weight, embedding)
                at += embeddings.length(embedding)

    def encode(
        self, prompts: Sequence[Sequence[Chunk]], text_encoder: Hashable = None
    ) -> Conditioning:
        """Conditioning (B, 77 n, D) of B prompts, given as their chunks.

        ``n`` is the least common multiple of their numbers of chunks: a shorter prompt is repeated
        whole. Attention over a repeated sequence is attention over the sequence, so every image
        is exactly what it would be alone, whoever shares its batch. A pooled embedding is that of
        the first chunk.

        Args:
            text_encoder: what the text encoder's output depends on besides: its attached LoRAs.
        """
        state = (text_encoder, self.model.clip_skip)
        distinct = dict.fromkeys(chunk for chunks in prompts for chunk in chunks)
        missing = [chunk for chunk in distinct if (state, chunk) not in self._states]
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            for chunk, states in zip(some, encode_chunks(self.model, some), strict=True):
                self._states[state, chunk] = states
        encoded = {chunk: self._states[state, chunk] for chunk in distinct}
        for chunk in distinct:
            self._states.move_to_end((state, chunk))
        while len(self._states) > KEPT:
            self._states.popitem(last=False)
        n = chunk_count(prompts)
        prompt_embeds = torch.stack(
            [
                torch.cat([encoded[chunk][0] for chunk in chunks] * (n // len(chunks)))
                for chunks in prompts
            ]
        )
        pooled = [one for chunks in prompts if (one := encoded[chunks[0]][1]) is not None]
        return Conditioning(prompt_embeds, torch.stack(pooled) if pooled else None)


def _cut(words: list[_Word], comma_reach: int) -> Iterator[list[_Word]]:
    """Pieces of at most 75 tokens, cut behind a comma where one is near; embeddings stay whole."""
    (comma,) = token_ids(",")
    piece: list[_Word] = []
    size = 0
    since_comma = ROW  # Tokens behind the last comma of the piece; ROW where it has none.
    for word in words:
        if size + len(word.ids) > ROW:
            # The words behind a comma that is near go along, for a tag should not be torn.
            near = word.ids != (comma,) and size == ROW and since_comma < comma_reach
            carried_over: list[_Word] = []
            while near and piece[-1].ids != (comma,):
                carried_over.insert(0, piece.pop())
            yield piece
            piece, size, since_comma = (
                carried_over,
                sum(len(each.ids) for each in carried_over),
                ROW,
            )
        piece.append(word)
        size += len(word.ids)
        since_comma = 0 if word.ids == (comma,) else since_comma + len(word.ids)
    yield piece


def _chunk(words: Sequence[_Word]) -> Chunk:
    ids, weights, embeddings = [BOS], [1.0], []
    for word in words:
        if word.embedding is not None:
            embeddings.append((len(ids), word.embedding))
        ids += word.ids
        weights += [word.weight] * len(word.ids)
    filling = ROW + 2 - len(ids)
    return Chunk((*ids, *[EOS] * filling), (*weights, *[1.0] * filling), tuple(embeddings))


def encode_chunks(
    model: DiffusionModel, chunks: Sequence[Chunk]
) -> list[tuple[Tensor, Tensor | None]]:
    """Hidden states (77, D) with their weights, and pooled embedding (P), of each chunk."""
    widths = [text["hidden_size"] for text in model.architecture.texts]
    with _inserted(model, chunks):
        rows = model.encode_rows(torch.tensor([chunk.ids for chunk in chunks]))
    pooled = rows.pooled if rows.pooled is not None else [None] * len(chunks)
    return [
        (_weighed(states, chunk, widths) if chunk.weighted else states, pool)
        for chunk, states, pool in zip(chunks, rows.prompt_embeds, pooled, strict=True)
    ]


@contextlib.contextmanager
def _inserted(model: DiffusionModel, chunks: Sequence[Chunk]) -> Iterator[None]:
    """The chunks' embeddings in place of what the text encoders' tables say of their ids."""
    places = [
        (row, place, embedding)
        for row, chunk in enumerate(chunks)
        for place, embedding in chunk.embeddings
    ]
    with contextlib.ExitStack() as stack:
        for part, encoder in model.text_encoders.items() if places else ():

            def insert(table: object, ids: object, states: Tensor, part: str = part) -> Tensor:
                for row, place, embedding in places:
                    vectors = embedding.vectors[part].to(states)
                    states[row, place : place + len(vectors)] = vectors
                return states

            hook = encoder.get_input_embeddings().register_forward_hook(insert)
            stack.callback(hook.remove)
        yield


def _weighed(states: Tensor, chunk: Chunk, widths: Sequence[int]) -> Tensor:
    """(77, D) a chunk's states with its weights, those of each text encoder by themselves."""
    weights = to_device(torch.tensor(chunk.weights), states.device)
    return torch.cat([weigh(each, weights) for each in states.split(widths, -1)], dim=-1)


def chunk_count(prompts: Sequence[Sequence[Chunk]]) -> int:
    """How many chunks the prompts take together in one batch."""
    return math.lcm(*(len(chunks) for chunks in prompts))


def weigh(states: Tensor, weights: Tensor) -> Tensor:
    """(77, D) hidden states times their tokens' ``weights`` (77,), with their mean restored.

    The web UI's "Original" emphasis: restoring the mean keeps the prompt's overall strength. Where
    the states have no mean to speak of they are left as multiplied (its "No norm").
    """
    original = states.float()
    weighed = original * weights.to(original)[:, None]
    mean, new_mean = original.mean(), weighed.mean()
    restore = (mean.abs() > MEANINGFUL_MEAN * original.std()) & (new_mean != 0)
    ratio = torch.where(restore, mean / new_mean, torch.ones_like(mean))
    return (weighed * ratio).to(states.dtype)
