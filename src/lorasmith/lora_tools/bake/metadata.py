"""What a checkpoint with LoRAs in it says of itself, in the web UI's keys for merged models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lorasmith.formats.hashes import autov1, hash_file
from lorasmith.lora_tools.bake.apply import AppliedLora
from lorasmith.lora_tools.outputs import carried_metadata, read_object

RECIPE, MODELS = "sd_merge_recipe", "sd_merge_models"


def baked_metadata(
    base: Path,
    metadata: Mapping[str, str],
    loras: Sequence[AppliedLora],
    digest: str | None,
) -> dict[str, str]:
    """The base file's own metadata, without hashes that no longer hold, and what was baked.

    ``sd_merge_recipe`` and ``sd_merge_models`` are JSON as AUTOMATIC1111's checkpoint merger
    writes them: what was done, and every model that is in it by its hash, those that were merged
    before included.

    Args:
        base: the file.
        metadata: its own.
        digest: its SHA-256, or ``None`` to name it by the old hash.
    """
    old = autov1(base)
    kept = carried_metadata(metadata)
    models = read_object(kept.get(MODELS))
    hashes = [_lora_hash(lora) for lora in loras]
    models[digest or old] = {
        "name": base.name,
        "legacy_hash": old,
        RECIPE: read_object(kept.get(RECIPE)) or None,
    }
    for lora, own in zip(loras, hashes, strict=True):
        models[own] = {"name": lora.source.path.name, "legacy_hash": own[:8], RECIPE: None}
    recipe = {
        "type": "lorasmith bake",
        "primary_model_hash": digest or old,
        "loras": [_said(lora, own) for lora, own in zip(loras, hashes, strict=True)],
    }
    made = {"format": "pt", **kept, RECIPE: json.dumps(recipe), MODELS: json.dumps(models)}
    if any(key.startswith("modelspec.") for key in kept):
        names = [base.stem, *(lora.source.path.stem for lora in loras)]
        made["modelspec.merged_from"] = ", ".join(names)
    return made


def _lora_hash(lora: AppliedLora) -> str:
    """Of the tensors, as web UIs know LoRAs; of the whole file for a pickle."""
    stored = lora.metadata.get("sshs_model_hash")
    if stored:
        return stored
    found = hash_file(lora.source.path)
    return found.autov3 or found.autov2


def _said(lora: AppliedLora, own: str) -> dict[str, Any]:
    source = lora.source
    said = {
        "name": source.path.name,
        "hash": own,
        "unet": source.unet,
        "text_encoder": source.text_encoder,
    }
    if source.blocks is not None:
        said["blocks"] = {block: weight for block, weight in source.blocks.items() if weight != 1}
    return said
