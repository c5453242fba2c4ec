"""What textual-inversion files call their vectors, and LoRA files that carry some with them.

A file for one text encoder has ``emb_params``, one for SDXL's two ``clip_l`` and ``clip_g``. A LoRA
file carries an embedding under ``bundle_emb.NAME.``, as the web UI reads it (its
``extensions-builtin/Lora/networks.py``): there the one tensor is ``string_to_param.*``, and a NAME
ends at its first dot.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

SINGLE = "emb_params"
ENCODERS = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
"""What SDXL's embeddings call the vectors of its two text encoders."""

BUNDLE = "bundle_emb."
_BUNDLED_SINGLE = "string_to_param.*"

WORD = "lorasmith.word"
"""Metadata of a file of one embedding: the word that captions had for it. Its name is the file's to
all other programs, whatever it was trained as."""


def by_file_name(trigger: str, words: Collection[str], name: str) -> str:
    """A trigger as prompts have it for a file of one embedding, which goes by its own name.

    Args:
        trigger: tags, those of captions or of an earlier card.
        words: those of them that mean the embedding; where there are none, its name comes first.
        name: the file's, without ending.
    """
    tags = [tag.strip() for tag in trigger.split(",") if tag.strip()]
    tags = [name if tag in words else tag for tag in tags]
    return ", ".join(tags if name in tags else [name, *tags])


def part_keys(parts: Sequence[str]) -> dict[str, str]:
    """The name of the vectors of each text encoder, by its part, in a file of one embedding."""
    if len(parts) == 1:
        return {parts[0]: SINGLE}
    return {part: key for key, part in ENCODERS.items() if part in parts}


def bundled(name: str, key: str) -> str:
    """What a LoRA file calls the tensor ``key`` of the embedding ``name``."""
    return f"{BUNDLE}{name}.{_BUNDLED_SINGLE if key == SINGLE else key}"


def words_in(tensors: Mapping[str, T]) -> dict[str, dict[str, T]]:
    """The tensors of each embedding that a LoRA file carries, as they are called there."""
    words: dict[str, dict[str, T]] = {}
    for key, tensor in tensors.items():
        if key.startswith(BUNDLE):
            name = key.removeprefix(BUNDLE).partition(".")[0]
            words.setdefault(name, {})[key] = tensor
    return words


def split_bundle(tensors: Mapping[str, T]) -> tuple[dict[str, T], dict[str, dict[str, T]]]:
    """The LoRA's own tensors, and those of each embedding that its file carries, under the names
    that they would have in a file of their own."""
    own: dict[str, T] = {}
    embeddings: dict[str, dict[str, T]] = {}
    for key, tensor in tensors.items():
        if not key.startswith(BUNDLE):
            own[key] = tensor
            continue
        name, _, rest = key.removeprefix(BUNDLE).partition(".")
        rest = SINGLE if rest.startswith("string_to_param") else rest
        embeddings.setdefault(name, {})[rest] = tensor
    return own, embeddings
