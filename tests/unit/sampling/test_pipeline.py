"""A loaded model asked for images, against diffusers' pipeline and the arithmetic of a LoRA."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.pipelines import pipeline_of
from tests.tolerances import NETWORK, assert_near

from lorasmith.core.errors import LoraFileError, PromptError, UserError
from lorasmith.formats.hashes import autov3
from lorasmith.models.load import load_model as load_diffusion_model
from lorasmith.prompts.infotext import parse_infotext
from lorasmith.sampling.infotext import read_infotext
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.pipeline import Pipeline, load_model
from lorasmith.sampling.request import ImageRequest

PROMPT = "red body, star"
FEW = {"steps": 2, "size": 32}


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return load_model("demo", device="cpu")


def pixels(images) -> list[np.ndarray]:
    return [np.asarray(image.image) for image in images]


def merged(path, unet: float, text_encoder: float):
    """The demo model with a LoRA of plain Linear layers multiplied out into its weights."""
    model = load_diffusion_model("demo")
    tensors = load_file(path)
    for prefix, module, strength in (
        ("lora_unet_", model.denoiser, unet),
        ("lora_te_text_model_", model.text_encoder, text_encoder),
    ):
        for name, layer in module.named_modules():
            key = prefix + name.replace(".", "_")
            if f"{key}.lora_up.weight" in tensors:
                up, down = (tensors[f"{key}.lora_{way}.weight"] for way in ("up", "down"))
                scale = strength * float(tensors[f"{key}.alpha"]) / len(down)
                delta = up.flatten(1) @ down.flatten(1)
                layer.weight.data += scale * delta.view_as(layer.weight)
    return model


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array_wrap__", "ignore:The configuration file")
def test_a_lora_is_that_of_diffusers_with_its_product_in_the_weights(
    pipe, lora_folder, latents
) -> None:
    path = lora_folder / "cat.safetensors"
    with pipe.lora(path, unet=0.8, text_encoder=0.5):
        pipe.generate(PROMPT, negative="hat", seed=7, cfg=5, **FEW)
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
    )
    expected = pipeline_of(merged(path, 0.8, 0.5), scheduler)(
        PROMPT,
        negative_prompt="hat",
        num_inference_steps=2,
        guidance_scale=5,
        height=32,
        width=32,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images
    assert_near(latents[0], expected, NETWORK)


def test_it_is_what_a_tag_in_the_prompt_is_and_says_so(pipe, lora_folder, tmp_path) -> None:
    tag = "<lora:cat:unet=0.8:te=0.5>"
    (by_tag,) = pipe.generate(f"{PROMPT} {tag}", seed=3, loras=lora_folder, **FEW)
    with pipe.lora(str(lora_folder / "cat.safetensors"), unet=0.8, text_encoder=0.5):
        (by_hand,) = pipe.generate(PROMPT, seed=3, **FEW)
    assert np.array_equal(by_tag.image, by_hand.image)
    assert by_tag.infotext == by_hand.infotext
    by_hand.save(tmp_path / "one.png")
    info = read_infotext(tmp_path / "one.png")
    assert info == parse_infotext(by_hand.infotext)
    assert info.prompt == f"{PROMPT} {tag}"
    assert info.settings["Model"] == "demo"
    assert info.settings["Lora hashes"] == f"cat: {autov3(lora_folder / 'cat.safetensors')}"
    assert np.array_equal(by_hand.image, Image.open(tmp_path / "one.png"))


@pytest.mark.slow
def test_several_nest_and_leave_the_model_as_it_was(pipe, lora_folder) -> None:
    def modules() -> list[tuple[str, int]]:
        return [(name, id(module)) for name, module in pipe.model.denoiser.named_modules()]

    before, (plain,) = modules(), pixels(pipe.generate(PROMPT, seed=1, **FEW))
    cat, twin = lora_folder / "cat.safetensors", lora_folder / "one" / "twin.safetensors"
    with pipe.lora(cat, 0.7):
        (one,) = pixels(pipe.generate(PROMPT, seed=1, **FEW))
        with pipe.lora(twin, blocks="MID"):
            (both,) = pipe.generate(PROMPT, seed=1, **FEW)
        assert "<lora:cat:0.7> <lora:twin:1.0:lbw=MID>" in both.infotext
        with pytest.raises(PromptError), pipe.lora(twin):
            pipe.generate("<lora:nowhere:1>", loras=lora_folder)
        (again,) = pixels(pipe.generate(PROMPT, seed=1, **FEW))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, both.image)
    assert not np.array_equal(one, plain)
    assert modules() == before
    assert np.array_equal(plain, pixels(pipe.generate(PROMPT, seed=1, **FEW))[0])


def test_seeds_count_on_or_are_given(pipe) -> None:
    counted = pipe.generate(PROMPT, seed=5, count=2, **FEW)
    given = pipe.generate([PROMPT, "blue body"], seeds=range(5, 7), **FEW)
    assert [image.seed for image in counted] == [5, 6]
    assert [image.seed for image in given] == [5, 6, 5, 6]
    assert [image.request.prompt for image in given] == [PROMPT] * 2 + ["blue body"] * 2
    for one, other in zip(pixels(counted), pixels(given), strict=False):
        assert np.abs(one.astype(int) - other).max() <= 1
    first, second = (pipe.generate(PROMPT, **FEW)[0] for _ in range(2))
    assert first.seed != second.seed


def test_a_request_is_taken_with_what_is_said_besides(pipe) -> None:
    request = ImageRequest(PROMPT, "hat", seed=9, steps=2, cfg=3.0, width=32, height=64)
    (image,) = pipe.generate(request, cfg=2)
    assert image.request == ImageRequest(PROMPT, "hat", 9, 2, 2.0, width=32, height=64)
    (large,) = pipe.generate(request, hires=2)
    assert large.image.size == (64, 128)


def test_whats_wrong_is_said_in_the_words_of_the_call(pipe, tmp_path) -> None:
    with pytest.raises(PromptError, match="did you mean euler"):
        pipe.generate(PROMPT, sampler="eular")
    with pytest.raises(UserError, match=r"loras: .*nowhere does not exist"):
        pipe.generate(PROMPT, loras=tmp_path / "nowhere")
    with pytest.raises(PromptError, match="no such LoRA"):
        pipe.generate(f"{PROMPT} <lora:x:1>", loras=LoraLibrary(tmp_path))
    with pytest.raises(LoraFileError), pipe.lora(tmp_path / "none.safetensors"):
        pass
    with pytest.raises(UserError, match="blocks"), pipe.lora("x", blocks="NOWHERE"):
        pass
    with pytest.raises(UserError, match="precision"):
        load_model("demo", device="cpu", precision="fp16")
