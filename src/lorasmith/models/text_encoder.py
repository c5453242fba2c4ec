"""Captions to what the UNet reads: rows of tokens, hidden states, rows joined to one sequence.

Shapes: B captions, n rows of 77 tokens each (begin, 75 of text, end), R = B n, D text width, P
width of the pooled embedding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import CLIPTextModel
from transformers.utils import logging

from lorasmith.models.families.base import EOS, TextEncoderSpec
from lorasmith.models.placeholders import NO_PLACEHOLDERS, Placeholders
from lorasmith.models.tokenizer import token_rows


@dataclass(frozen=True, slots=True)
class TextStates:
    """What text encoders say of rows of tokens.

    Args:
        prompt_embeds: (R, 77, D), the encoders' states side by side.
        pooled: (R, P), where the family has a pooled embedding.
    """

    prompt_embeds: Tensor
    pooled: Tensor | None = None


def tokenize(
    captions: Sequence[str], max_tokens: int = 75, placeholders: Placeholders = NO_PLACEHOLDERS
) -> Tensor:
    """Token ids (B, n, 77) of captions, n = max_tokens / 75, as sd-scripts cuts them for SD 1.

    Every caption has all n rows; what does not fit is lost (``tokenizer.lost_tokens``).

    Args:
        placeholders: words that have ids of their own.
    """
    return torch.tensor([token_rows(one, max_tokens, placeholders.token_ids) for one in captions])


def encode_rows(
    text_encoder: CLIPTextModel, ids: Tensor, spec: TextEncoderSpec, clip_skip: int = 1
) -> TextStates:
    """States of token rows (R, 77) that are filled with end marks, as :func:`tokenize` makes them.

    Where the family leaves the layer to CLIP skip, ``clip_skip`` k takes the k-th last layer's
    output, and the final layer norm follows in any case, so 1 is the text encoder's own output.
    """
    output = text_encoder(
        input_ids=filled_with(ids, spec.pad),
        output_hidden_states=spec.layer is not None or clip_skip > 1,
    )
    if spec.layer is not None:
        hidden: Tensor = output.hidden_states[spec.layer]
    elif clip_skip > 1:
        hidden = text_encoder.final_layer_norm(output.hidden_states[-clip_skip])
    else:
        hidden = output.last_hidden_state
    if not spec.projected:
        return TextStates(hidden)
    ends = (ids == EOS).int().argmax(dim=1)
    last = output.last_hidden_state[torch.arange(len(ids), device=ids.device), ends]
    return TextStates(hidden, text_encoder.text_projection(last))


def filled_with(ids: Tensor, pad: int) -> Tensor:
    """Rows (R, 77) with ``pad`` behind the first end mark.

    A row of a long caption that is full of text ends with its own end mark; one that the text does
    not reach is begin, end, pads. So sd-scripts makes them for SD 2 and for SDXL's second encoder.
    """
    if pad == EOS:
        return ids
    marks = (ids == EOS).int().cumsum(dim=1)
    return ids.masked_fill((ids == EOS) & (marks > 1), pad)


def join_rows(hidden: Tensor) -> Tensor:
    """(B, n, 77, D) to (B, 75 n + 2, D): the first row's begin, every row's text, the last end."""
    first, text, last = hidden[:, 0, :1], hidden[:, :, 1:-1].flatten(1, 2), hidden[:, -1, -1:]
    return torch.cat([first, text, last], dim=1)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without transformers' bars and advice to developers."""
    level, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bar:
            logging.enable_progress_bar()
