"""What lies where in a diffusers folder: each part in a folder of its own name. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lorasmith.core.errors import CheckpointError
from lorasmith.core.files import parse_json
from lorasmith.models.families.table import PREDICTIONS, Overrides, pick_allowed

SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
# The folders that a model of any family may have, and the text encoders among them.
TEXT_FOLDERS = ("text_encoder", "text_encoder_2")
PART_FOLDERS = ("unet", "vae", *TEXT_FOLDERS)
FOLDER_CONFIGS = (
    "model_index.json",
    SCHEDULER_CONFIG,
    *(f"{part}/config.json" for part in PART_FOLDERS),
)
STEMS = {
    "unet": ("diffusion_pytorch_model",),
    "vae": ("diffusion_pytorch_model",),
    "text_encoder": ("model", "pytorch_model"),
    "text_encoder_2": ("model", "pytorch_model"),
}
WEIGHTS = re.compile(
    r"^(?P<stem>\w+?)(?P<variant>\.\w+)?(?P<shard>-\d{5}-of-\d{5})?(?P<variant2>\.\w+)?"
    r"\.(?P<kind>safetensors|bin)$"
)


def choose_weights(part: str, names: Iterable[str]) -> list[str]:
    """The file, or the shards of one, to read a part from: full precision before fp16 before
    other variants, safetensors before pickles."""
    choices: dict[tuple[int, int, str], list[str]] = {}
    for name in sorted(names):
        match = WEIGHTS.match(name)
        if match and match["stem"] in STEMS[part]:
            variant = match["variant"] or match["variant2"] or ""
            order = {"": 0, ".fp16": 1, ".bf16": 2}.get(variant, 3)
            key = (int(match["kind"] == "bin"), order, f"{variant}{bool(match['shard'])}")
            choices.setdefault(key, []).append(name)
    return choices[min(choices)] if choices else []


def weight_files(part: str, folder: Path) -> list[Path]:
    """The files in ``folder`` that hold ``part``; empty if there are none."""
    if not folder.is_dir():
        return []
    return [folder / name for name in choose_weights(part, (p.name for p in folder.iterdir()))]


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object, empty if the file is not there.

    Raises:
        CheckpointError: it is there and is not a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        hint = "download it again"
        raise CheckpointError.of(path, f"cannot be read as JSON: {error}", hint) from error
    if not isinstance(values, dict):
        raise CheckpointError.of(path, "is not a JSON object", "download it again")
    return values


def folder_overrides(folder: Path) -> Overrides:
    """What the folder's configurations say beyond the shapes of its weights.

    Raises:
        CheckpointError: one of them is damaged.
    """
    unet = read_config(folder / "unet" / "config.json")
    vae = read_config(folder / "vae" / "config.json")
    texts = {part: read_config(folder / part / "config.json") for part in TEXT_FOLDERS}
    scheduler = read_config(folder / SCHEDULER_CONFIG)
    # A version of transformers that wraps the text model's configuration puts it one level down.
    texts = {part: config.get("text_config", config) for part, config in texts.items()}
    sample, widths = unet.get("sample_size"), vae.get("block_out_channels")
    resolution = None
    if isinstance(sample, int) and isinstance(widths, list) and widths:
        resolution = sample * 2 ** (len(widths) - 1)
    return Overrides(
        unet=pick_allowed("unet", unet),
        vae=pick_allowed("vae", vae),
        texts={part: pick_allowed("text", config) for part, config in texts.items() if config},
        prediction=PREDICTIONS.get(str(scheduler.get("prediction_type"))),
        native_resolution=resolution,
        zero_terminal_snr=scheduler.get("rescale_betas_zero_snr") is True or None,
    )
