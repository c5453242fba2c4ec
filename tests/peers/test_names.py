"""Names of LoRA files against ComfyUI's own tables of them.

``LORASMITH_PEERS`` names the folder that holds a checkout, ``ComfyUI``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lorasmith.formats.key_styles import styled_name, unet_names
from lorasmith.formats.kohya_keys import kohya_names
from lorasmith.formats.ldm_keys import translate
from lorasmith.formats.unet_layers import family_layers
from tests.unit.lora_tools.made_files import empty_networks

COMFYUI = Path(os.environ.get("LORASMITH_PEERS", "")) / "ComfyUI"
pytestmark = pytest.mark.skipif(
    "LORASMITH_PEERS" not in os.environ or not COMFYUI.is_dir(),
    reason="LORASMITH_PEERS names no folder with ComfyUI in it",
)

UNETS: dict[str, dict[str, Any]] = {
    "sd1": {
        "num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4], "transformer_depth_middle": 1,
        "transformer_depth": [1] * 6 + [0] * 2, "transformer_depth_output": [1] * 9 + [0] * 3,
    },
    "sdxl": {
        "num_res_blocks": [2] * 3, "channel_mult": [1, 2, 4], "transformer_depth_middle": 10,
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    },
}  # fmt: skip
UNETS["sd2"] = UNETS["sd1"]
CLIPS = {"sd1": ("clip_l",), "sd2": ("clip_h",), "sdxl": ("clip_l", "clip_g")}
PUBLISHED = {"sd1": "sd15", "sd2": "sd21", "sdxl": "sdxl"}


@cache
def comfyui_names(family: str) -> dict[str, str]:
    """Name of a layer in LoRA files -> the weight in ComfyUI's model."""
    weights = []
    networks = empty_networks(PUBLISHED[family])
    for name, _ in networks["unet"].named_parameters():
        weights.append(f"diffusion_model.{translate(name, unet_names(family)[1])}")
    texts = [part for part in networks if part.startswith("text")]
    for part, clip in zip(texts, CLIPS[family], strict=True):
        for name, _ in networks[part].named_parameters():
            below = "" if name.startswith("text_projection") else "text_model."
            weights.append(f"{clip}.transformer.{below}{name}")
    program = subprocess.run(
        [sys.executable, Path(__file__).with_name("comfyui_names.py"), COMFYUI],
        input=json.dumps({"weights": weights, "unet": UNETS[family]}),
        capture_output=True,
        text=True,
        check=True,
    )
    names: dict[str, str] = json.loads(program.stdout.splitlines()[-1])
    return names


@pytest.mark.parametrize("family", list(UNETS))
@pytest.mark.parametrize("style", ["kohya", "kohya-diffusers", "comfy"])
def test_comfyui_knows_every_name_that_is_written(family: str, style: str) -> None:
    known = comfyui_names(family)
    for key in family_layers(family):
        name = styled_name(key, "lora_up.weight", style, family)
        assert name is not None
        assert name.removesuffix(".lora_up.weight") in known, key


@pytest.mark.parametrize("family", list(UNETS))
def test_every_name_of_a_layer_that_comfyui_knows_means_the_same_here(family: str) -> None:
    known = comfyui_names(family)
    layers = family_layers(family)
    weights = {known[key]: key for key in layers}
    checked = 0
    # All of a file's names together tell its family, so each is read among the family's own.
    own = [f"{key}.alpha" for key in layers]
    names = [f"{name}.lora_up.weight" for name, weight in known.items() if weight in weights]
    read = kohya_names([*own, *names])
    for name in names:
        weight = known[name.removesuffix(".lora_up.weight")]
        assert read[name] == (weights[weight], "lora_up.weight"), name
        checked += 1
    assert checked > 4 * len(layers)
