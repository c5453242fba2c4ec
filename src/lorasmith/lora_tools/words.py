"""The words (embeddings) that LoRA files carry, where several files become one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lorasmith.lora_tools.inputs import LoraSource
from lorasmith.lora_tools.lora_file import LoraModules


def merged_words(
    sources: Sequence[LoraSource], files: Sequence[LoraModules]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, tuple[str, ...]]]:
    """The embeddings of all files that have a weight; and those that cannot be kept, for files
    have them with other vectors, by the names of these files.

    Vectors are no sum: half of a word is no weaker word, so they are kept as they are.
    """
    found: dict[str, list[tuple[str, dict[str, Tensor]]]] = {}
    for source, file in zip(sources, files, strict=True):
        if source.unet or source.text_encoder:
            for name, tensors in file.words.items():
                found.setdefault(name, []).append((file.path.name, tensors))
    kept, dropped = {}, {}
    for name, each in found.items():
        first = each[0][1]
        if all(_are_same(first, tensors) for _, tensors in each[1:]):
            kept[name] = first
        else:
            dropped[name] = tuple(path for path, _ in each)
    return kept, dropped


def _are_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(tensor, other[name]) for name, tensor in one.items()
    )
