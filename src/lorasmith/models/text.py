"""Captions to what the UNet reads: rows of tokens, CLIP skip, rows joined to one sequence.

Shapes: B captions, n rows of 77 tokens each (begin, 75 of text, end), R = B n, D text width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import CLIPTextModel

from lorasmith.models.tokenizer import token_rows


def tokenize(captions: Sequence[str], max_tokens: int = 75) -> Tensor:
    """Token ids (B, n, 77) of captions, n = max_tokens / 75, as sd-scripts cuts them for SD 1.

    Every caption has all n rows; what does not fit is lost (``tokenizer.lost_tokens``).
    """
    return torch.tensor([token_rows(caption, max_tokens) for caption in captions])


def encode_rows(text_encoder: CLIPTextModel, ids: Tensor, clip_skip: int = 1) -> Tensor:
    """Hidden states (R, 77, D) of token rows (R, 77).

    ``clip_skip`` k takes the k-th last layer's output; the final layer norm follows in any case,
    so 1 is the text encoder's own output.
    """
    if clip_skip == 1:
        last: Tensor = text_encoder(input_ids=ids).last_hidden_state
        return last
    states = text_encoder(input_ids=ids, output_hidden_states=True).hidden_states
    normed: Tensor = text_encoder.final_layer_norm(states[-clip_skip])
    return normed


def join_rows(hidden: Tensor) -> Tensor:
    """(B, n, 77, D) to (B, 75 n + 2, D): the first row's begin, every row's text, the last end."""
    first, text, last = hidden[:, 0, :1], hidden[:, :, 1:-1].flatten(1, 2), hidden[:, -1, -1:]
    return torch.cat([first, text, last], dim=1)
