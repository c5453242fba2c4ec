"""Each family against diffusers: its files, its text features, its one denoiser call."""

from __future__ import annotations

from pathlib import Path

import diffusers
import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import load_file, save_file
from tests.pipelines import clip_of_transformers, pipeline_of, transformers_model
from tests.tiny_models import tiny_architecture, tiny_checkpoint, tiny_model
from tests.tolerances import NETWORK, assert_near

from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.models.export import save_ldm
from lorasmith.models.families.table import FAMILIES
from lorasmith.models.layout import Layout, Place
from lorasmith.models.load import load_model
from lorasmith.models.open import guess_prediction, open_checkpoint, read_header
from lorasmith.models.reference import ModelReference

CAPTIONS = ["a cat, sitting", "", "one two three four five " * 20]


@pytest.fixture(scope="module", params=list(FAMILIES))
def model(request: pytest.FixtureRequest) -> DiffusionModel:
    """Weights that float16 holds exactly."""
    found = tiny_model(seed=5, architecture=tiny_architecture(family=request.param), max_tokens=150)
    for network in found.networks:
        network.half().float()
    return found


def write(model: DiffusionModel, path: Path) -> Path:
    save_ldm(
        path,
        unet=model.denoiser,
        vae=model.vae,
        text_encoders=model.text_encoders,
        family=model.architecture.family_name,
        prediction=model.prediction,
    )
    return path


def same_weights(found: DiffusionModel, wanted: DiffusionModel) -> None:
    for one, other in zip(found.networks, wanted.networks, strict=True):
        weights = dict(other.named_parameters())
        assert dict(one.named_parameters()).keys() == weights.keys()
        for name, parameter in one.named_parameters():
            assert torch.equal(parameter, weights[name]), name


@pytest.mark.slow_but_first
def test_single_file(model: DiffusionModel, tmp_path: Path) -> None:
    path = write(model, tmp_path / "model.safetensors")
    found = load_model(path, vae_dtype=torch.float32)
    assert found.architecture == model.architecture
    same_weights(found, model)


@pytest.mark.slow_but_first
def test_single_file_with_diffusers_names(model: DiffusionModel, tmp_path: Path) -> None:
    path = write(model, tmp_path / "model.safetensors")
    with path.open("rb"):
        header = open_checkpoint(path).weights["unet"]["conv_in.weight"].file.metadata
    state = {
        f"{part}.{name}": tensor.half()
        for part, network in zip(model.architecture.family.parts, model.networks, strict=True)
        for name, tensor in network.state_dict().items()
    }
    save_file(state, tmp_path / "other.safetensors", header)
    same_weights(load_model(tmp_path / "other.safetensors"), model)


@pytest.mark.slow_but_first
def test_diffusers_folder(model: DiffusionModel, tmp_path: Path) -> None:
    for part, network in zip(model.architecture.family.parts, model.networks, strict=True):
        if part.startswith("text"):
            network = transformers_model(network, model.architecture.family.text_encoder(part))
        network.save_pretrained(tmp_path / part)
    scheduler = {"epsilon": "epsilon", "v": "v_prediction"}[model.prediction]
    diffusers.DDPMScheduler(prediction_type=scheduler).save_pretrained(tmp_path / "scheduler")
    # The published SD 2 is known by the width of its texts, which the tiny one has not.
    found = load_model(ModelReference(tmp_path, family=model.architecture.family_name))
    assert found.architecture == model.architecture
    same_weights(found, model)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_what_diffusers_converts(family: str, tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "model.safetensors", family=family)
    model, state = load_model(path, dtype=torch.float16), load_file(path)
    unet = convert_ldm_unet_checkpoint(dict(state), model.architecture.denoiser)
    for name, parameter in model.denoiser.named_parameters():
        assert torch.equal(unet[name], parameter), name
    spec = model.architecture.family.text_encoders[-1]
    network = model.text_encoders[spec.part]
    wanted = convert_open_clip_checkpoint(
        transformers_model(network, spec), dict(state), prefix=spec.ldm_prefix
    )
    compared = 0
    for name, parameter in network.named_parameters():
        # diffusers looks up SD 2's projection width under names of the published model alone.
        found = wanted.get(f"text_model.{name}", wanted.get(name))
        if found is not None and found.shape == parameter.shape:
            assert torch.equal(found, parameter), name
            compared += 1
    assert compared > 10


@pytest.mark.slow
def test_sdxl_text_is_that_of_diffusers() -> None:
    model = tiny_model(seed=5, architecture=tiny_architecture(family="sdxl"))
    pipeline = pipeline_of(model)
    hidden, _, pooled, _ = pipeline.encode_prompt(CAPTIONS, do_classifier_free_guidance=False)
    found = model.encode_text(CAPTIONS)
    assert_near(found.prompt_embeds, hidden, NETWORK)
    assert_near(found.pooled, pooled, NETWORK)


def test_sd2_fills_with_its_own_token() -> None:
    model = tiny_model(seed=5, architecture=tiny_architecture(family="sd2"))
    ids = clip_of_transformers(0)(
        CAPTIONS, padding="max_length", truncation=True, return_tensors="pt"
    )
    wanted = model.text_encoder(input_ids=ids.input_ids).last_hidden_state
    assert_near(model.encode_text(CAPTIONS).prompt_embeds, wanted, NETWORK)


def test_denoise_is_one_call(model: DiffusionModel) -> None:
    noisy = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([1, 500, 999])
    text = model.encode_text(CAPTIONS)
    added = None
    if model.architecture.family.size_conditioning:
        sizes = torch.tensor([[64.0, 96.0, 0.0, 16.0, 64.0, 64.0]]).expand(3, -1)
        text, added = text.with_size_ids(sizes), {"text_embeds": text.pooled, "time_ids": sizes}
    wanted = model.denoiser(noisy, t, text.prompt_embeds, added_cond_kwargs=added).sample
    assert torch.equal(model.denoise(noisy, t, text), wanted)
    parts = [
        Conditioning(
            text.prompt_embeds[i : i + 1],
            None if text.pooled is None else text.pooled[i : i + 1],
            None if text.sizes is None else text.sizes[i : i + 1],
        )
        for i in range(3)
    ]
    assert_near(model.denoise(noisy, t, Conditioning.cat(parts)), wanted, NETWORK)


@pytest.mark.parametrize(("spread", "wanted"), [(0.01, "epsilon"), (0.5, "v")])
def test_sd2_tells_what_it_predicts_by_a_weight(spread: float, wanted: str, tmp_path: Path) -> None:
    """At the published models' size, by names and shapes alone but for that one weight."""
    name, limit = FAMILIES["sd2"].v_prediction_marker or ("", 0.0)
    values = torch.linspace(-1, 1, 320)
    state = {name: (values / values.std() * spread).half()}
    save_file(state, tmp_path / "unet.safetensors")
    pieces = [(read_header(tmp_path / "unet.safetensors"), Layout({"unet": {name: Place(name)}}))]
    found, why = guess_prediction(FAMILIES["sd2"], pieces)
    assert found == wanted
    assert "model.prediction" in why
    assert limit < 0.5


@pytest.mark.parametrize(
    ("family", "prediction", "modelspec", "version"),
    [
        ("sd1", "epsilon", "stable-diffusion-v1", "sd_v1"),
        ("sd2", "epsilon", "stable-diffusion-v2-512", "sd_v2"),
        ("sd2", "v", "stable-diffusion-v2-768-v", "sd_v2_v"),
        ("sdxl", "v", "stable-diffusion-xl-v1-base", "sdxl_base_v1-0"),
    ],
)
def test_names_that_lora_files_give_the_base(
    family: str, prediction: str, modelspec: str, version: str
) -> None:
    known = FAMILIES[family]
    assert known.modelspec[prediction] == modelspec
    assert known.base_model_version[prediction] == version
