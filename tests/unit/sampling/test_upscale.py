from __future__ import annotations

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from tests.tolerances import NETWORK, assert_near
from torch.nn.functional import interpolate

from lorasmith.sampling.batching import check_requests
from lorasmith.sampling.denoise import full_pass, partial_pass
from lorasmith.sampling.generate import generate
from lorasmith.sampling.request import UPSCALERS, Hires, ImageRequest, Inpaint
from lorasmith.sampling.samplers import SAMPLERS

PROMPT = "red body, star"


def request(**hires) -> ImageRequest:
    return ImageRequest(PROMPT, "", 5, 4, 4.0, width=32, height=48, hires=Hires(**hires))


@pytest.mark.slow
def test_the_second_pass_is_img2img_of_the_enlarged_first(model, latents) -> None:
    """In diffusers' words: 3 steps at denoise 0.5 are the last 3 of 6."""
    list(generate(model, [request(denoise=0.5, steps=3)]))
    plain = ImageRequest(PROMPT, "", 5, 4, 4.0, width=32, height=48)
    list(generate(model, [plain]))
    large = interpolate(latents[1], scale_factor=2, mode="bilinear")
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        steps_offset=1, clip_sample=False, set_alpha_to_one=False,
    )  # fmt: skip
    pipe = diffusers.StableDiffusionImg2ImgPipeline(
        vae=model.vae, text_encoder=None, tokenizer=None, unet=model.denoiser, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        prompt_embeds=model.encode_text([PROMPT]).prompt_embeds,
        negative_prompt_embeds=model.encode_text([""]).prompt_embeds,
        image=large,  # Four channels: taken for latents.
        num_inference_steps=6,
        strength=0.5,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
        output_type="latent",
    ).images
    assert_near(latents[0], expected, NETWORK)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("upscaler", UPSCALERS)
def test_every_upscaler_keeps_the_image(model, upscaler) -> None:
    """With next to nothing drawn anew, the large image shrunk is the small one."""
    (large,) = generate(model, [request(denoise=0.02, upscaler=upscaler)])
    (small,) = generate(model, [ImageRequest(PROMPT, "", 5, 4, 4.0, width=32, height=48)])
    assert large.image.size == (64, 96)
    assert (large.request.width, large.request.height) == (32, 48)
    shrunk = large.image.resize((32, 48), Image.Resampling.BOX)
    difference = np.abs(np.asarray(shrunk).astype(int) - np.asarray(small.image)).mean()
    assert difference < 25


def test_the_size_is_rounded(model) -> None:
    (image,) = generate(model, [request(scale=1.3, steps=1)])
    assert image.image.size == (48, 64)


def test_which_steps_are_taken() -> None:
    ddim, lcm = SAMPLERS["ddim"], SAMPLERS["lcm"]
    for steps, denoise, total, skip in (
        (20, 0.5, 40, 20),
        (20, 1.0, 20, 0),
        (7, 0.3, 23, 16),
        (20, 0.0, 20, 20),
    ):
        found = full_pass(ddim, steps, denoise)
        assert (found.steps, found.skip) == (total, skip)
    short = full_pass(lcm, 20, 0.1)
    assert (short.steps, short.skip) == (50, 45)
    for steps, denoise, skip in ((20, 0.6, 8), (20, 1.0, 0), (20, 0.0, 20), (3, 0.1, 3)):
        assert partial_pass(ddim, steps, denoise).skip == skip


@pytest.mark.slow
def test_a_hires_batch_is_one_by_one(model) -> None:
    base = ImageRequest(PROMPT, "", 1, 3, 4.0, "euler_a", 32, 32, hires=Hires())
    requests = [base, replace(base, seed=2)]
    together = list(generate(model, requests, batch=2))
    for each in together:
        (alone,) = generate(model, [requests[each.index]])
        assert np.abs(np.asarray(alone.image).astype(int) - np.asarray(each.image)).max() <= 1


def test_what_cannot_be_is_said(tmp_path) -> None:
    Image.new("L", (8, 8), 255).save(tmp_path / "a.png")
    path = tmp_path / "a.png"
    for wrong, message in (
        (request(upscaler="esrgan"), "known are latent"),
        (request(scale=0.5), "hires.scale: 0.5"),
        (ImageRequest("", init=path, inpaint=Inpaint(path), hires=Hires()), "anew"),
    ):
        (problem,) = check_requests([wrong])
        assert message in str(problem)
