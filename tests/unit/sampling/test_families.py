"""Images of each family against diffusers' pipeline of that family, from prompt to latents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from tests.pipelines import clip_of_transformers, encode, pipeline_of
from tests.tiny_models import tiny_architecture, tiny_model
from tests.tolerances import NETWORK, assert_near
from torch import Tensor

from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.families.table import FAMILIES
from lorasmith.prompts.parse import parse_prompt
from lorasmith.sampling.conditioning import PromptEncoder
from lorasmith.sampling.generate import generate
from lorasmith.sampling.request import ImageRequest
from lorasmith.sampling.samplers import SAMPLERS

PROMPT = "a red cat, sitting on a chair"
# No comma near the end of a row, so that the cut is at 75 tokens.
LONG = "one two three four five " * 20
BASE = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False,
}  # fmt: skip
V = {"prediction_type": "v_prediction"}
TO_NOISE = {**V, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
# What the model predicts, whether its schedule ends in noise, and diffusers' words for it.
KINDS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "epsilon": ("epsilon", False, {}),
    "v": ("v", False, V),
    "v to noise": ("v", True, TO_NOISE),
}


def model_of(family: str, prediction: str = "epsilon", to_noise: bool = False) -> DiffusionModel:
    architecture = tiny_architecture(family=family, prediction=prediction)
    return tiny_model(seed=5, architecture=replace(architecture, zero_terminal_snr=to_noise))


def theirs(pipeline: Any, cfg: float, **prompts: Any) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return pipeline(
        num_inference_steps=6, guidance_scale=cfg, height=64, width=96,
        generator=generator, output_type="latent", **prompts,
    ).images  # fmt: skip


def request(prompt: str, negative: str, cfg: float, seed: int = 7) -> ImageRequest:
    return ImageRequest(prompt, negative, seed, 6, cfg, "ddim", width=96, height=64)


@pytest.mark.broad_beyond(13)
@pytest.mark.slow_but_first
@pytest.mark.parametrize(("cfg", "negative"), [(5.0, "blue"), (5.0, ""), (1.0, "")])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_latents_are_those_of_diffusers_pipeline(
    family: str, kind: str, cfg: float, negative: str, latents: list[Tensor]
) -> None:
    prediction, to_noise, said = KINDS[kind]
    model = model_of(family, prediction, to_noise)
    list(generate(model, [request(PROMPT, negative, cfg)]))
    pipeline = pipeline_of(model, diffusers.DDIMScheduler(**BASE, **said))
    wanted = theirs(pipeline, cfg, prompt=PROMPT, negative_prompt=negative or None)
    assert_near(latents[0], wanted, NETWORK)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_long_prompts_are_rows_side_by_side(family: str, latents: list[Tensor]) -> None:
    """As web UIs do it: each row of 75 by itself, the pooled embedding is the first one's."""
    model = model_of(family)
    list(generate(model, [request(LONG, "blue", 5.0)]))
    ids = clip_of_transformers(49407)(LONG, add_special_tokens=False).input_ids
    assert len(ids) == 100
    tokenizer = clip_of_transformers(49407)
    pipeline = pipeline_of(model, diffusers.DDIMScheduler(**BASE))
    rows = [tokenizer.decode(part) for part in (ids[:75], ids[75:])]
    hidden, pooled = encode(pipeline, rows)
    negative, negative_pooled = encode(pipeline, ["blue"])
    said = {
        "prompt_embeds": hidden.flatten(0, 1)[None],
        "negative_prompt_embeds": torch.cat([negative, negative], dim=1),
    }
    if pooled is not None:
        said["pooled_prompt_embeds"] = pooled[:1]
        said["negative_pooled_prompt_embeds"] = negative_pooled
    assert_near(latents[0], theirs(pipeline, 5.0, **said), NETWORK)


@pytest.mark.slow
def test_an_empty_negative_does_not_depend_on_the_batch(latents: list[Tensor]) -> None:
    model = model_of("sdxl")
    requests = [request(PROMPT, "", 5.0, 1), request(PROMPT, "blue", 5.0, 2)]
    list(generate(model, requests, batch=2))
    for one in requests:
        list(generate(model, [one]))
    assert_near(latents[0], torch.cat(latents[1:]), NETWORK)


def test_emphasis_restores_the_mean_of_each_text_encoder() -> None:
    """Web UIs weigh each encoder's states by themselves."""
    encoder = PromptEncoder(model_of("sdxl"))
    plain, strong = (
        encoder.encode([encoder.chunks(parse_prompt(text).parts[0].sections())]).prompt_embeds[0]
        for text in ("a cat", "a (cat:1.5)")
    )
    for a, b in zip(plain.split(16, -1), strong.split(16, -1), strict=True):
        weights = torch.ones(77)
        weights[2] = 1.5
        weighed = a * weights[:, None]
        if a.mean().abs() > 0.01 * a.std():
            weighed = weighed * a.mean() / weighed.mean()
        assert_near(b, weighed, NETWORK)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_begins_at_nothing_but_noise(sampler: str) -> None:
    scheduler = SAMPLERS[sampler].start(5, "v", zero_terminal_snr=True)
    # diffusers cuts the fractions of exponential timesteps off.
    assert int(scheduler.timesteps[0]) in (998, 999)
    known: Any = scheduler
    assert known.alphas_cumprod[999] < 1e-7
    # A model that predicts the noise could not begin there.
    plain: Any = SAMPLERS[sampler].start(5, "epsilon", zero_terminal_snr=True)
    assert plain.alphas_cumprod[999] > 1e-3
