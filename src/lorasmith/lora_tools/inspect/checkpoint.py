"""What a checkpoint is, from its header alone."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorasmith.core.errors import CheckpointError, UserError
from lorasmith.core.files import DTYPE_BYTES
from lorasmith.formats.hashes import hash_file
from lorasmith.formats.run_paths import RUN_FILES, lora_name, loras_of
from lorasmith.formats.training_metadata import MODELS, RECIPE
from lorasmith.lora_tools.inspect.report import CheckpointReport
from lorasmith.lora_tools.inspect.thumbnail import read_preview
from lorasmith.lora_tools.outputs import read_object
from lorasmith.models.layout import WeightFile
from lorasmith.models.open import OpenedCheckpoint, locate, open_checkpoint, read_header
from lorasmith.models.weights import load_state

EMA = "model_ema."
# What the run's state has beside others.
_STATE = {"format", "step", "parameters", "optimizer"}


def inspect_checkpoint(path: Path) -> CheckpointReport:
    """
    Args:
        path: a file, or a diffusers folder.

    Raises:
        UserError: it is no checkpoint; says what it is.
    """
    _refuse_run_folder(path)
    _refuse_state(locate(path))
    opened = open_checkpoint(path)
    files = _files(opened)
    metadata = next((dict(file.metadata) for file in files if file.metadata), {})
    architecture = opened.architecture
    names = [name for file in files for name in file.shapes]
    try:
        hashes = hash_file(path) if path.is_file() else None
        size = sum(file.path.stat().st_size for file in files)
    except OSError as error:
        raise CheckpointError.of(path, f"cannot be read: {error.strerror}") from error
    return CheckpointReport(
        path=path,
        size=size,
        container="pickle" if any(file.pickle is not None for file in files) else "safetensors",
        family=architecture.family_name,
        summary=architecture.summary,
        prediction=architecture.prediction,
        zero_terminal_snr=architecture.zero_terminal_snr,
        native_resolution=architecture.native_resolution,
        precision=_precision(files),
        parameters=_parameters(opened),
        ema=sum(name.startswith(EMA) for name in names),
        baked=baked(metadata),
        notes=opened.notes,
        hashes=hashes,
        preview=read_preview(metadata) is not None,
        metadata=metadata,
    )


def baked(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """What was merged into a checkpoint, in words, the first first: ``bake``'s LoRAs with their
    strengths, and what the web UI's merger and modelspec say."""
    lines = [line for recipe in _recipes(metadata) for line in _in_words(recipe)]
    merged = metadata.get("modelspec.merged_from")
    return tuple(lines or ([merged] if merged else []))


def _recipes(metadata: Mapping[str, str]) -> list[dict[str, Any]]:
    """The last merge after those that its first model came from."""
    models = read_object(metadata.get(MODELS))
    recipes: list[dict[str, Any]] = []
    recipe: Any = read_object(metadata.get(RECIPE))
    seen = set[str]()
    while isinstance(recipe, dict) and recipe:
        recipes.insert(0, recipe)
        base = recipe.get("primary_model_hash")
        if not isinstance(base, str) or base in seen:
            break
        seen.add(base)
        model = models.get(base)
        recipe = model.get(RECIPE) if isinstance(model, dict) else None
    return recipes


def _in_words(recipe: dict[str, Any]) -> list[str]:
    loras = recipe.get("loras")
    lines = [
        f"{lora.get('name')} (unet {lora.get('unet')}, text encoder {lora.get('text_encoder')})"
        for lora in (loras if isinstance(loras, list) else [])
        if isinstance(lora, dict)
    ]
    return lines or [f"recipe {json.dumps(recipe, ensure_ascii=False)}"]


def _files(opened: OpenedCheckpoint) -> list[WeightFile]:
    files = {
        weight.file.path: weight.file
        for part in opened.weights.values()
        for weight in part.values()
    }
    return list(files.values())


def _precision(files: list[WeightFile]) -> dict[str, int]:
    """Bytes by dtype, of all tensors of the files."""
    counts = Counter[str]()
    for file in files:
        tensors = file.tensors if file.tensors is not None else file.pickle and file.pickle.tensors
        for tensor in (tensors or {}).values():
            counts[tensor.dtype] += math.prod(tensor.shape) * DTYPE_BYTES.get(tensor.dtype, 0)
    return dict(counts.most_common())


def _parameters(opened: OpenedCheckpoint) -> dict[str, int]:
    """Numbers by part; of OpenCLIP's joined q, k and v each third is a place of its own."""
    return {
        part: sum(
            math.prod(weight.file.shapes[weight.place.name])
            // (3 if weight.place.third is not None else 1)
            for weight in weights.values()
        )
        for part, weights in opened.weights.items()
    }


def _refuse_run_folder(path: Path) -> None:
    if path.is_dir() and any((path / name).is_file() for name in RUN_FILES):
        folder, name = loras_of(path.absolute())
        files = sorted(folder.glob("*.safetensors"))
        loras = [each for each in files if folder == path.absolute() or lora_name(each) == name]
        hint = f"name the LoRA in it: {loras[0]}" if loras else "it has no LoRA yet"
        raise UserError.of(path, "is the folder of a training run", hint)


def _refuse_state(path: Path) -> None:
    """
    Raises:
        UserError: it is a training state, which holds numbers by groups and no model.
    """
    if path.is_dir():
        return
    file = read_header(path)
    if file.pickle is not None and not file.shapes and load_state(file).keys() >= _STATE:
        hint = "the LoRA files lie in the folder above it"
        raise UserError.of(path, "is the training state of a run, from which it resumes", hint)
