"""The metadata of a LoRA merged from others: what holds for all of them, and where it is from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from lorasmith.core.files import parse_json
from lorasmith.lora_tools.inputs import LoraSource
from lorasmith.lora_tools.inspect.training_summary import regularisation_folders
from lorasmith.lora_tools.lora_file import LoraModules
from lorasmith.lora_tools.outputs import carried_metadata, network_metadata

MERGED_FROM = "lorasmith.merged_from"

_TAGS = "ss_tag_frequency"
# What readers need to know of the base model, and what the site of a model shows of it. Settings
# of the trainings are left out even where they agree: the result was not trained with them.
_KEPT = (
    "ss_base_model_version", "ss_v2", "ss_sd_model_name", "ss_sd_model_hash",
    "ss_new_sd_model_hash", "ss_vae_name", "ss_vae_hash", "ss_new_vae_hash", "ss_clip_skip",
    "ss_resolution", "ss_zero_terminal_snr", "modelspec.sai_model_spec", "modelspec.architecture",
    "modelspec.implementation", "modelspec.prediction_type", "modelspec.resolution",
    "modelspec.encoder_layer", "modelspec.license",
)  # fmt: skip


def merged_metadata(
    sources: Sequence[LoraSource],
    files: Sequence[LoraModules],
    sizes: Iterable[tuple[int, float, bool]],
    *,
    method: str,
    name: str,
) -> dict[str, str]:
    """Kept is what all files say alike; the tags' counts are added up.

    ``modelspec.merged_from`` lists the files, as sd-scripts' merging does, and
    ``lorasmith.merged_from`` says as JSON how much of each, and which hash web UIs know it by.

    Args:
        sizes: see :func:`lora_tools.outputs.network_metadata`.
        name: the new file's, without its suffix.
    """
    texts = [carried_metadata(file.metadata) for file in files]
    common = {
        key: texts[0][key]
        for key in _KEPT
        if key in texts[0] and all(text.get(key) == texts[0][key] for text in texts)
    }
    if tags := _tags(files):
        common[_TAGS] = json.dumps(tags)
    if "modelspec.sai_model_spec" in common:
        common["modelspec.title"] = name
        common["modelspec.merged_from"] = ", ".join(source.path.stem for source in sources)
    common["ss_output_name"] = name
    common[MERGED_FROM] = json.dumps(
        {
            "method": method,
            "files": [_part(source, file) for source, file in zip(sources, files, strict=True)],
        }
    )
    said = ", ".join(source.text for source in sources)
    return network_metadata(
        common, sizes, comment=f"merged by {method} of {said} by lorasmith", was_lora=False
    )


def _part(source: LoraSource, file: LoraModules) -> dict[str, object]:
    part: dict[str, object] = {
        "name": source.path.name,
        "unet": source.unet,
        "text_encoder": source.text_encoder,
    }
    if source.blocks is not None:
        part["blocks"] = {block: weight for block, weight in source.blocks.items() if weight != 1}
    if "sshs_model_hash" in file.metadata:
        part["sshs_model_hash"] = file.metadata["sshs_model_hash"]
    return part


def _tags(files: Sequence[LoraModules]) -> dict[str, dict[str, int]]:
    """``ss_tag_frequency`` of all files, folders of one name together.

    Without regularisation folders: the merged file does not say which they are.
    """
    summed: dict[str, Counter[str]] = {}
    for file in files:
        reg = regularisation_folders(file.metadata)
        for folder, counts in _counts(file.metadata.get(_TAGS)).items():
            if folder not in reg:
                summed.setdefault(folder, Counter()).update(counts)
    return {folder: dict(counts) for folder, counts in summed.items()}


def _counts(text: str | None) -> dict[str, dict[str, int]]:
    """Empty where it is not what sd-scripts writes: tags are no reason to refuse a file."""
    try:
        value = parse_json(text or "{}")
        return {
            str(folder): {str(tag): int(count) for tag, count in counts.items()}
            for folder, counts in value.items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}
