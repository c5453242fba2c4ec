"""What a LoRA's metadata says of its training, in plain words. Torch-free.

Metadata comes from anywhere: values that are not what they should be are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lorasmith.core.files import parse_json
from lorasmith.formats.training_metadata import ENTRIES
from lorasmith.lora_tools.inspect.report import MOST_TRIGGERS, Folder, TriggerWords

_REPEATS = re.compile(r"(\d+)_(.+)")
# kohya's spelling of nothing.
_NOTHING = ("", "None", "null", "False", "0", "0.0", "{}", "[]")


def training_words(metadata: Mapping[str, str]) -> dict[str, str]:
    """Name of a setting -> its value, of those that say something."""
    words = {}
    for key, entry in ENTRIES.items():
        value = metadata.get(key, "").strip()
        if entry.label and value not in _NOTHING and (text := entry.shown(value)):
            words[entry.label] = text
    for name in ("epochs", "steps"):
        if words.get(f"{name} planned") == words.get(name):
            words.pop(f"{name} planned", None)
    return words


def trigger_words(metadata: Mapping[str, str]) -> TriggerWords:
    """Trigger words and tags."""
    folders = tuple(_folders(metadata))
    phrase = metadata.get("modelspec.trigger_phrase", "").strip()
    if phrase:
        return TriggerWords((phrase,), True, folders)
    common = dict.fromkeys(tag for folder in folders for tag in folder.triggers)
    return TriggerWords(tuple(common)[:MOST_TRIGGERS], False, folders)


def regularisation_folders(metadata: Mapping[str, str]) -> set[str]:
    """Those folders in ``ss_tag_frequency`` that hold regularisation images and nothing else."""
    reg = set(_table(metadata.get("ss_reg_dataset_dirs")))
    trained = set(_table(metadata.get("ss_dataset_dirs")))
    for dataset in _datasets(metadata):
        subsets = dataset.get("subsets")
        for subset in subsets if isinstance(subsets, list) else []:
            name = _mapping(subset).get("image_dir")
            if isinstance(name, str):
                (reg if _mapping(subset).get("is_reg") is True else trained).add(name)
    if trained:
        named = _table(metadata.get("ss_tag_frequency"))
        reg |= {str(name) for name in named if name not in trained}
    return reg - trained


def _datasets(metadata: Mapping[str, str]) -> list[dict[Any, Any]]:
    """With a dataset configuration, sd-scripts says everything of each dataset by itself."""
    datasets = _json(metadata.get("ss_datasets"))
    return [one for one in datasets if isinstance(one, dict)] if isinstance(datasets, list) else []


def _folders(metadata: Mapping[str, str]) -> list[Folder]:
    frequencies = _table(metadata.get("ss_tag_frequency"))
    folders = _table(metadata.get("ss_dataset_dirs"))
    for dataset in _datasets(metadata):
        frequencies |= _mapping(dataset.get("tag_frequency"))
        folders |= _mapping(dataset.get("dataset_dirs"))
    reg = regularisation_folders(metadata)
    folders = _table(metadata.get("ss_reg_dataset_dirs")) | folders
    result = []
    for name, counts in frequencies.items():
        tags = {str(tag): n for tag, n in _mapping(counts).items() if isinstance(n, int) and n > 0}
        tags = dict(sorted(tags.items(), key=lambda item: (-item[1], item[0])))
        facts = _mapping(folders.get(name))
        match = _REPEATS.fullmatch(str(name))
        repeats = facts.get("n_repeats", int(match[1]) if match and len(match[1]) < 9 else None)
        images = facts.get("img_count")
        result.append(Folder(str(name), tags, _whole(images), _whole(repeats), str(name) in reg))
    return result


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _table(text: str | None) -> dict[Any, Any]:
    return _mapping(_json(text))


def _json(text: str | None) -> Any:
    try:
        return parse_json(text or "null")
    except (ValueError, RecursionError):
        return None
