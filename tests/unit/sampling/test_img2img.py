"""Images from images, against diffusers' own pipelines."""

from __future__ import annotations

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tests.tolerances import NETWORK, assert_near

from lorasmith.sampling.batching import check_requests
from lorasmith.sampling.generate import generate
from lorasmith.sampling.img2img import open_canvas, region
from lorasmith.sampling.request import ImageRequest, Inpaint

PROMPT = "red body, star"
BASE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
SCHEDULERS = {
    "ddim": lambda: diffusers.DDIMScheduler(**BASE, clip_sample=False, set_alpha_to_one=False),
    "plms": lambda: diffusers.PNDMScheduler(**BASE, skip_prk_steps=True),
    "euler_a": lambda: diffusers.EulerAncestralDiscreteScheduler(**BASE),
    "heun": lambda: diffusers.HeunDiscreteScheduler(**BASE),
    "dpmpp_2m": lambda: diffusers.DPMSolverMultistepScheduler(**BASE, use_karras_sigmas=True),
    "unipc": lambda: diffusers.UniPCMultistepScheduler(**BASE),
}
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__")


@pytest.fixture(scope="module")
def init(tmp_path_factory) -> Path:
    """Something to begin with, of the model's own size."""
    image = Image.new("RGB", (64, 64), (160, 200, 240))
    ImageDraw.Draw(image).ellipse((12, 16, 52, 60), fill=(200, 40, 40))
    path = tmp_path_factory.mktemp("init") / "init.png"
    image.save(path)
    return path


@pytest.fixture(scope="module")
def mask(tmp_path_factory) -> Path:
    """White on whole latent cells, so that diffusers' rounding of masks is ours."""
    image = Image.new("L", (64, 64))
    ImageDraw.Draw(image).rectangle((32, 0, 63, 31), fill=255)
    path = tmp_path_factory.mktemp("mask") / "mask.png"
    image.save(path)
    return path


def pipeline(model, kind, sampler):
    made = kind(
        vae=model.vae,
        text_encoder=None,
        tokenizer=None,
        unet=model.denoiser,
        scheduler=SCHEDULERS[sampler](),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


def said(model, steps: int, denoise: float) -> dict:
    return {
        "prompt_embeds": model.encode_text([PROMPT]).prompt_embeds,
        "negative_prompt_embeds": model.encode_text([""]).prompt_embeds,
        "num_inference_steps": steps,
        "strength": denoise,
        "guidance_scale": 4.0,
        "generator": torch.Generator().manual_seed(5),
        "output_type": "latent",
    }


@pytest.mark.slow_but_first
@pytest.mark.parametrize("denoise", [0.6, 1.0])
@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_img2img_is_diffusers(model, latents, init, sampler, denoise) -> None:
    if denoise == 1.0 and sampler not in ("ddim", "heun"):
        return
    request = ImageRequest(PROMPT, "", 5, 6, 4.0, sampler, init=init, denoise=denoise)
    list(generate(model, [request]))
    pipe = pipeline(model, diffusers.StableDiffusionImg2ImgPipeline, sampler)
    expected = pipe(image=Image.open(init), **said(model, 6, denoise)).images
    assert_near(latents[0], expected, NETWORK)


# The inpainting pipeline draws more from the generator than it uses: noise of steps would differ.
@pytest.mark.slow_but_first
@pytest.mark.parametrize("denoise", [0.7, 1.0])
@pytest.mark.parametrize("sampler", ["ddim", "heun", "dpmpp_2m"])
def test_inpaint_is_diffusers(model, latents, init, mask, sampler, denoise) -> None:
    request = ImageRequest(
        PROMPT, "", 5, 6, 4.0, sampler, init=init, denoise=denoise, inpaint=Inpaint(mask, blur=0)
    )
    (image,) = generate(model, [request])
    pipe = pipeline(model, diffusers.StableDiffusionInpaintPipeline, sampler)
    expected = pipe(
        image=Image.open(init),
        mask_image=Image.open(mask),
        height=64,
        width=64,
        **said(model, 6, denoise),
    ).images
    assert_near(latents[0], expected, NETWORK)
    before, after = (np.asarray(each).astype(int) for each in (Image.open(init), image.image))
    assert np.array_equal(before[32:], after[32:])
    assert np.array_equal(before[:, :32], after[:, :32])
    assert not np.array_equal(before[:32, 32:], after[:32, 32:])


def test_nothing_is_drawn_at_no_denoising(model, init) -> None:
    (image,) = generate(model, [ImageRequest(PROMPT, init=init, denoise=0.0)])
    with torch.inference_mode():
        canvas = open_canvas(image.request, 64, 64, model.latent_factor)
        mean, _ = model.encode_images(canvas.pixels[None])
        again = model.decode_latents(mean)[0]
    seen = torch.from_numpy(np.array(image.image)).permute(2, 0, 1) / 127.5 - 1
    assert (seen - again).abs().mean() < 0.02


@pytest.mark.slow
def test_a_image_from_a_image_does_not_depend_on_its_batch(model, init, mask) -> None:
    requests = [
        ImageRequest(PROMPT, "", seed, 5, 4.0, "euler_a", init=init, inpaint=inpaint)
        for inpaint in (None, Inpaint(mask, "noise"))
        for seed in (1, 2)
    ]
    together = [np.asarray(p.image).astype(int) for p in generate(model, requests)]
    for request, image in zip(requests, together, strict=True):
        (alone,) = generate(model, [request])
        assert np.abs(np.asarray(alone.image).astype(int) - image).max() <= 1


def test_noise_under_the_mask_forgets_what_was_there(model, init, mask) -> None:
    requests = [
        ImageRequest(PROMPT, "", 3, 5, 4.0, init=init, denoise=0.4, inpaint=Inpaint(mask, kind))
        for kind in ("original", "noise")
    ]
    images = [image.image for image in generate(model, requests)]
    before = np.asarray(Image.open(init)).astype(int)[:28, 36:]
    original, noise = (np.abs(np.asarray(p).astype(int)[:28, 36:] - before).mean() for p in images)
    assert noise > 1.5 * original


def test_only_the_masks_surroundings_are_drawn_and_put_back(model, tmp_path) -> None:
    big = Image.new("RGB", (300, 200), (160, 200, 240))
    big.save(tmp_path / "big.png")
    hole = Image.new("L", (300, 200))
    ImageDraw.Draw(hole).ellipse((200, 100, 240, 140), fill=255)
    hole.save(tmp_path / "hole.png")
    inpaint = Inpaint(tmp_path / "hole.png", padding=12)
    request = ImageRequest(PROMPT, "", 3, 4, init=tmp_path / "big.png", inpaint=inpaint)
    (image,) = generate(model, [request])
    assert image.image.size == (300, 200)
    assert (image.request.width, image.request.height) == (64, 64)
    changed = np.abs(np.asarray(image.image).astype(int) - np.asarray(big)).max(-1) > 0
    rows, columns = np.nonzero(changed)
    assert 180 < columns.min() < columns.max() < 260
    assert 80 < rows.min() < rows.max() < 160


@pytest.mark.parametrize(
    ("bounds", "padding", "aspect", "expected"),
    [
        ((40, 40, 60, 60), 10, 1.0, (30, 30, 70, 70)),
        ((40, 40, 60, 60), 0, 2.0, (30, 40, 70, 60)),
        ((40, 40, 60, 60), 0, 0.5, (40, 30, 60, 70)),
        ((0, 0, 20, 20), 10, 1.0, (0, 0, 40, 40)),
        ((90, 90, 100, 100), 10, 1.0, (70, 70, 100, 100)),
        ((0, 0, 100, 100), 50, 3.0, (0, 0, 100, 100)),
    ],
)
def test_region(bounds, padding, aspect, expected) -> None:
    assert region(bounds, padding, aspect, (100, 100)) == expected


def test_another_size_crops_rather_than_squeezes(tmp_path) -> None:
    image = Image.new("RGB", (100, 50))
    ImageDraw.Draw(image).rectangle((25, 0, 74, 49), fill=(255, 255, 255))
    image.save(tmp_path / "wide.png")
    canvas = open_canvas(ImageRequest("", init=tmp_path / "wide.png"), 64, 64, 4)
    assert canvas.pixels.mean() > 0.95


def test_without_a_size_it_is_that_of_the_image(model, tmp_path) -> None:
    Image.new("RGB", (50, 33)).save(tmp_path / "odd.png")
    (image,) = generate(model, [ImageRequest(PROMPT, steps=2, init=tmp_path / "odd.png")])
    assert image.image.size == (48, 32)


def test_what_is_wrong_with_the_files_is_said_at_once(tmp_path, init) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "black.png")
    (tmp_path / "text.png").write_text("no picture")
    for request, message in (
        (ImageRequest("", init=tmp_path / "none.png"), "not a file"),
        (ImageRequest("", init=tmp_path / "text.png"), "text.png"),
        (ImageRequest("", inpaint=Inpaint(init)), "no picture to be masked"),
        (ImageRequest("", init=init, inpaint=Inpaint(tmp_path / "black.png")), "black all over"),
        (ImageRequest("", init=init, inpaint=Inpaint(tmp_path / "none.png")), "not a file"),
        (ImageRequest("", init=init, denoise=1.5), "1.5 is out of range"),
    ):
        (problem,) = check_requests([request])
        assert message in str(problem)
