"""Whole images against diffusers' own pipeline, and what an image may not depend on."""

from __future__ import annotations

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from tests.tolerances import NETWORK, assert_near

from lorasmith.core.errors import PromptError, Stopped
from lorasmith.core.events import Controls, Notice, Progress
from lorasmith.models.load import load_model
from lorasmith.models.reference import ModelReference
from lorasmith.sampling.batching import check_requests
from lorasmith.sampling.generate import generate
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.request import ImageRequest
from lorasmith.sampling.samplers import SAMPLERS, find_sampler
from lorasmith.sampling.solvers import TwoStageScheduler

PROMPT = "red body, star, crown, grass"
BASE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    # Matters to DDIM alone; the pipeline wants it in all.
    "steps_offset": 1,
}
MULTISTEP = diffusers.DPMSolverMultistepScheduler
SDE = {"algorithm_type": "sde-dpmsolver++"}
LINSPACE = {"timestep_spacing": "linspace"}
# Each as diffusers' documentation says that it is made.
SCHEDULERS = {
    "ddim": lambda: diffusers.DDIMScheduler(**BASE, clip_sample=False, set_alpha_to_one=False),
    "plms": lambda: diffusers.PNDMScheduler(**BASE, skip_prk_steps=True),
    "euler": lambda: diffusers.EulerDiscreteScheduler(**BASE),
    "euler karras": lambda: diffusers.EulerDiscreteScheduler(**BASE, use_karras_sigmas=True),
    "euler simple": lambda: diffusers.EulerDiscreteScheduler(**BASE, timestep_spacing="trailing"),
    "euler_a": lambda: diffusers.EulerAncestralDiscreteScheduler(**BASE, **LINSPACE),
    "lms": lambda: diffusers.LMSDiscreteScheduler(**BASE, **LINSPACE),
    "lms karras": lambda: diffusers.LMSDiscreteScheduler(**BASE, use_karras_sigmas=True),
    "heun": lambda: diffusers.HeunDiscreteScheduler(**BASE),
    "heun exponential": lambda: diffusers.HeunDiscreteScheduler(
        **BASE, use_exponential_sigmas=True
    ),
    "dpm2 uniform": lambda: diffusers.KDPM2DiscreteScheduler(**BASE),
    "dpm2 karras": lambda: diffusers.KDPM2DiscreteScheduler(**BASE, use_karras_sigmas=True),
    "dpm2_a uniform": lambda: diffusers.KDPM2AncestralDiscreteScheduler(**BASE),
    "dpmpp_2m": lambda: MULTISTEP(**BASE, use_karras_sigmas=True),
    "dpmpp_2m sgm_uniform": lambda: MULTISTEP(**BASE),
    "dpmpp_2m exponential": lambda: MULTISTEP(**BASE, use_exponential_sigmas=True),
    "dpmpp_2m_karras": lambda: MULTISTEP(**BASE, use_karras_sigmas=True),
    "dpmpp_2m_sde": lambda: MULTISTEP(**BASE, **SDE, use_exponential_sigmas=True),
    "dpmpp_2m_sde karras": lambda: MULTISTEP(**BASE, **SDE, use_karras_sigmas=True),
    "dpmpp_2m_sde_heun": lambda: MULTISTEP(
        **BASE, **SDE, solver_type="heun", use_exponential_sigmas=True
    ),
    "dpmpp_3m_sde": lambda: MULTISTEP(
        **BASE, **SDE, solver_order=3, use_exponential_sigmas=True
    ),
    "unipc": lambda: diffusers.UniPCMultistepScheduler(**BASE),
    "unipc karras": lambda: diffusers.UniPCMultistepScheduler(**BASE, use_karras_sigmas=True),
    "deis": lambda: diffusers.DEISMultistepScheduler(**BASE),
    "lcm": lambda: diffusers.LCMScheduler(**{**BASE, "steps_offset": 0}),
}  # fmt: skip


def pipeline(model, sampler: str) -> diffusers.StableDiffusionPipeline:
    return diffusers.StableDiffusionPipeline(
        vae=model.vae,
        text_encoder=None,
        tokenizer=None,
        unet=model.denoiser,
        scheduler=SCHEDULERS[sampler](),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__", "ignore:The configuration file")


def images(model, requests, **options) -> list[np.ndarray]:
    done = sorted(generate(model, requests, **options), key=lambda image: image.index)
    assert [image.index for image in done] == list(range(len(requests)))
    return [np.asarray(image.image).astype(int) for image in done]


def test_every_sampler_that_diffusers_has_is_compared_with_it() -> None:
    ours = {name for name, each in SAMPLERS.items() if each.scheduler is not TwoStageScheduler}
    assert {find_sampler(name).name for name in SCHEDULERS} == ours


@pytest.mark.slow_but_first
@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_a_image_is_that_of_diffusers_pipeline(model, latents, sampler) -> None:
    cfg = 1.0 if sampler == "euler" else 5.0
    negative = "blue body"
    request = ImageRequest(PROMPT, negative, 7, 5, cfg, sampler, 32, 32)
    (ours,) = images(model, [request])
    pipe = pipeline(model, sampler)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        prompt_embeds=model.encode_text([PROMPT]).prompt_embeds,
        negative_prompt_embeds=model.encode_text([negative]).prompt_embeds,
        num_inference_steps=5,
        guidance_scale=cfg,
        height=32,
        width=32,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images
    assert_near(latents[0], expected, NETWORK)
    image = pipe.image_processor.postprocess(model.decode_latents(expected), output_type="pil")[0]
    assert np.abs(ours - np.asarray(image).astype(int)).max() <= 1


@pytest.mark.slow_but_first
@pytest.mark.parametrize("phi", [0.0, 0.7])
def test_guidance_is_rescaled_as_diffusers_does(model, latents, phi) -> None:
    request = ImageRequest(PROMPT, "hat", seed=7, steps=4, cfg=9.0, cfg_rescale=phi)
    images(model, [request, replace(request, cfg_rescale=0.0, seed=8)])
    pipe = pipeline(model, "ddim")
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        prompt_embeds=model.encode_text([PROMPT]).prompt_embeds,
        negative_prompt_embeds=model.encode_text(["hat"]).prompt_embeds,
        num_inference_steps=4,
        guidance_scale=9.0,
        guidance_rescale=phi,
        height=64,
        width=64,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images
    assert_near(latents[0][:1], expected, NETWORK)


def test_eta_is_that_of_diffusers(model, latents) -> None:
    images(model, [ImageRequest(PROMPT, seed=7, steps=4, cfg=1.0, eta=0.8)])
    pipe = pipeline(model, "ddim")
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        prompt_embeds=model.encode_text([PROMPT]).prompt_embeds,
        num_inference_steps=4,
        guidance_scale=1.0,
        eta=0.8,
        height=64,
        width=64,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images
    assert_near(latents[0], expected, NETWORK)


@pytest.mark.slow
def test_clip_skip_is_the_requests_and_passes_with_it(model, latents) -> None:
    request = ImageRequest(PROMPT, seed=1, steps=2)
    images(model, [replace(request, clip_skip=2), request])
    assert model.clip_skip == 1
    skipping = load_model(ModelReference("demo", clip_skip=2))
    images(skipping, [request])
    assert_near(latents[0], latents[2], NETWORK)
    assert not torch.allclose(latents[0], latents[1])


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ddim", "dpmpp_sde"])
def test_a_image_does_not_depend_on_its_batch(model, latents, sampler) -> None:
    # Of different guidance, text and length, so that all but the batch is their own.
    requests = [
        ImageRequest(PROMPT, seed=1, steps=3, cfg=3.0, sampler=sampler),
        ImageRequest("blue body", "hat", seed=2, steps=3, cfg=7.0, sampler=sampler),
        ImageRequest("(green:1.4) body BREAK tall hat", seed=3, steps=3, sampler=sampler),
        ImageRequest("round", seed=4, steps=3, cfg=5.0, sampler=sampler),
    ]
    together = images(model, requests)
    assert [len(batch) for batch in latents] == [3, 1]
    alone = [images(model, [request])[0] for request in requests]
    for a, b in zip(together, alone, strict=True):
        assert np.abs(a - b).max() <= 1
    one = torch.cat(latents[2:])
    assert_near(latents[0], one[[0, 1, 3]], NETWORK)


@pytest.mark.slow
def test_the_seed_makes_the_image(model) -> None:
    a, b, again = images(model, [ImageRequest(PROMPT, seed=s, steps=4) for s in (1, 2, 1)], batch=1)
    assert np.array_equal(a, again)
    assert not np.array_equal(a, b)


def test_without_guidance_the_negative_prompt_costs_nothing(model, monkeypatch) -> None:
    sizes = []
    denoise = type(model).denoise

    def counting(self, noisy, *rest):
        sizes.append(len(noisy))
        return denoise(self, noisy, *rest)

    monkeypatch.setattr(type(model), "denoise", counting)
    images(model, [ImageRequest(PROMPT, "x", steps=3, cfg=1.0)])
    images(model, [ImageRequest(PROMPT, "x", steps=3, cfg=2.0)])
    assert sizes == [1, 1, 1, 2, 2, 2]


def test_size_is_rounded_to_what_the_model_takes_and_said(model) -> None:
    warnings = []
    request = ImageRequest(PROMPT, steps=2, width=90, height=33)
    (image,) = generate(model, [request], observer=warnings.append)
    multiple = model.architecture.size_multiple
    assert image.image.size == (96, 32)
    assert image.image.size[0] % multiple == image.image.size[1] % multiple == 0
    assert (image.request.width, image.request.height) == (96, 32)
    (said,) = [event for event in warnings if isinstance(event, Notice)]
    assert "90x33 became 96x32" in said.text


def test_a_image_that_became_nan_is_named(model, monkeypatch) -> None:
    denoise = type(model).denoise

    def broken(self, *inputs):
        predicted = denoise(self, *inputs)
        predicted[1, 0, 0, 0] = float("inf")
        return predicted

    monkeypatch.setattr(type(model), "denoise", broken)
    events = []
    requests = [ImageRequest(PROMPT, seed=seed, steps=2, cfg=1.0) for seed in (5, 6, 7)]
    assert len(list(generate(model, requests, observer=events.append))) == 3
    (said,) = [event for event in events if isinstance(event, Notice)]
    assert "seed 6 is NaN" in said.text


def test_progress_counts_image_steps(model) -> None:
    events = []
    requests = [ImageRequest(PROMPT, seed=s, steps=3) for s in range(3)]
    list(generate(model, requests, batch=2, observer=events.append))
    assert all(isinstance(event, Progress) for event in events)
    assert [event.done for event in events] == [2, 4, 6, 7, 8, 9]
    assert {event.total for event in events} == {9}


def test_a_stop_request_ends_it_between_steps(model, lora_folder) -> None:
    controls = Controls()
    before = [type(module) for module in model.denoiser.modules()]

    def observer(event) -> None:
        if isinstance(event, Progress) and event.done == 4:
            controls.stop()

    requests = [ImageRequest(f"{PROMPT} <lora:cat:1>", seed=s, steps=3) for s in range(3)]
    done = generate(
        model,
        requests,
        batch=1,
        observer=observer,
        controls=controls,
        loras=LoraLibrary(lora_folder),
    )
    assert next(done).seed == 0
    with pytest.raises(Stopped):
        next(done)
    assert [type(module) for module in model.denoiser.modules()] == before


def test_everything_wrong_is_said_before_anything_is_done(model) -> None:
    requests = [
        ImageRequest("<lora:cat:1> a", "<lora:dog:1>", steps=0),
        ImageRequest("<lora:x:y>", sampler="eular", cfg=-1, width=5000, seed=-1),
    ]
    with pytest.raises(PromptError) as caught:
        generate(model, requests)
    text = str(caught.value)
    for part in (
        "negative prompt",
        "steps: 0",
        '"y"',
        "did you mean euler",
        "cfg",
        "width",
        "seed",
    ):
        assert part in text
    with pytest.raises(PromptError, match="--lora-dir"):
        generate(model, [ImageRequest("<lora:cat:1> a")])


def test_a_good_request_has_no_problem() -> None:
    assert check_requests([ImageRequest("a (cat:1.2) <lora:x:1>", "ugly", 2**40, 30)]) == []


def test_training_goes_on_after_sampling(model) -> None:
    # Tensors made in inference mode and kept would break the backward pass.
    from lorasmith.adapters.network import AdapterNetwork

    network = AdapterNetwork.create(model.adapter_roots(), rank=1)
    with network.attached():
        images(model, [ImageRequest(PROMPT, steps=2)])
        conditioning = model.encode_text([PROMPT])
        out = model.denoise(torch.zeros(1, 4, 16, 16), torch.tensor([5]), conditioning)
        out.square().mean().backward()
        up = [p.grad for group in network.parameter_groups() for p in group.parameters]
    assert all(grad is not None for grad in up)
