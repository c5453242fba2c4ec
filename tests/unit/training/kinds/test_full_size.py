"""A fine-tuned checkpoint of Stable Diffusion 1.5's size, as diffusers reads it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file
from tests.published import SD15, random_state
from tests.recipes.runs import run, small_dataset
from transformers import CLIPTextConfig, CLIPTextModel

from lorasmith.core.files import read_safetensors_header

SETTINGS = {
    "train.kind": "full", "train.steps": "1", "train.precision": "bf16", "data.resolution": "64",
    "full.weights": "bf16", "full.fused_backward": "true", "full.text_encoder": "true",
    "optimizer.name": "AdaFactor", "optimizer.lr": "1e-3",
    "optimizer.args": '["relative_step=False", "scale_parameter=False", "warmup_init=False"]',
    "sample.every_epochs": "0", "sample.at_start": "false", "log.tensorboard": "false",
    "watchdog.enabled": "false", "performance.threads": "1",
}  # fmt: skip


def configs(folder: Path) -> Path:
    """Those of the published model, without which diffusers would ask the hub."""
    for part, config in (("unet", SD15.denoiser), ("vae", SD15.vae)):
        kind = UNet2DConditionModel if part == "unet" else AutoencoderKL
        with torch.device("meta"):
            kind(**config).save_config(folder / part)
    CLIPTextConfig(**SD15.text).save_pretrained(folder / "text_encoder")
    (folder / "scheduler").mkdir()
    scheduler = {"_class_name": "DDIMScheduler", "steps_offset": 1, "clip_sample": False}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    index = {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.35.0",
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }  # fmt: skip
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.broad
def test_it_has_the_bases_keys_and_loads_in_diffusers(tmp_path: Path) -> None:
    base, result = tmp_path / "sd15.safetensors", tmp_path / "out" / "run" / "run.safetensors"
    save_file(random_state(SD15), base)
    data = small_dataset(tmp_path / "data", images=1)
    arguments = [sys.executable, "-m", "lorasmith", "train", "--model", str(base)]
    arguments += ["--data", str(data / "img"), "--output", str(tmp_path / "out"), "--name", "run"]
    run([*arguments, *(word for one in SETTINGS.items() for word in ("--set", "=".join(one)))])
    shutil.rmtree(tmp_path / "out" / "run" / "state")

    old, new = read_safetensors_header(base), read_safetensors_header(result)
    assert {n: (t.dtype, t.shape) for n, t in old.tensors.items()} == {
        n: (t.dtype, t.shape) for n, t in new.tensors.items()
    }
    with safe_open(base, "pt") as before, safe_open(result, "pt") as after:
        for name in old.tensors:
            same = torch.equal(before.get_tensor(name), after.get_tensor(name))
            assert same or not name.startswith("first_stage_model."), name
        changed = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
        assert not torch.equal(before.get_tensor(changed), after.get_tensor(changed))
        expected = after.get_tensor(changed)

    pipeline = StableDiffusionPipeline.from_single_file(
        str(result), config=str(configs(tmp_path / "configs")), tokenizer=None,
        safety_checker=None, feature_extractor=None, torch_dtype=torch.float16,
        local_files_only=True,
    )  # fmt: skip
    assert isinstance(pipeline.text_encoder, CLIPTextModel)
    found = dict(pipeline.unet.named_parameters())
    to_k = found["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"]
    assert torch.equal(to_k, expected)
