"""A full-size Stable Diffusion 1.5 of random weights, against diffusers' own converter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from safetensors.torch import load_file, save_file
from tests.published import PUBLISHED, SD15, random_state

from lorasmith.models.architecture import architecture_of_parts
from lorasmith.models.export import ldm_weights
from lorasmith.models.families.table import Overrides, detect
from lorasmith.models.layout import canonical_shapes, single_file_layout
from lorasmith.models.load import empty_modules, load_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full") / "sd15.safetensors"
    state = random_state(SD15)
    # What the published file has besides.
    positions = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    state[positions] = torch.arange(77)[None]
    state["alphas_cumprod"] = torch.ones(1000)
    state["model_ema.decay"] = torch.ones(())
    save_file(state, path)
    return path


@pytest.mark.broad  # test_checkpoint.py and test_families.py: the same, tiny.
def test_loads_what_diffusers_converts(checkpoint: Path) -> None:
    model = load_model(checkpoint, dtype=torch.float16, vae_dtype=torch.float16)

    assert model.architecture == SD15
    assert model.notes == ()
    state = load_file(checkpoint)
    # Counts of the published file: 686 + 248 + 196 weights.
    wanted_unet = convert_ldm_unet_checkpoint(state, SD15.denoiser)
    wanted_vae = convert_ldm_vae_checkpoint(state, SD15.vae)
    text = convert_ldm_clip_checkpoint(state)
    wanted_text = {
        name.removeprefix("text_model."): tensor
        for name, tensor in text.items()
        if not name.endswith("position_ids")
    }
    for module, wanted, count in (
        (model.denoiser, wanted_unet, 686),
        (model.vae, wanted_vae, 248),
        (model.text_encoder, wanted_text, 196),
    ):
        found = dict(module.named_parameters())
        assert found.keys() == wanted.keys()
        assert len(found) == count
        for name, tensor in wanted.items():
            assert torch.equal(found[name], tensor), name


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_say_what_they_are(name: str) -> None:
    """By names and shapes alone."""
    wanted = PUBLISHED[name]
    weights = ldm_weights(empty_modules(wanted), wanted.family)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights}
    family = detect(shapes)
    parts = canonical_shapes(single_file_layout(shapes, family), shapes)
    found = architecture_of_parts(parts, family, Overrides(prediction=wanted.prediction))
    assert found == wanted
