from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.tolerances import NETWORK, assert_near

from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.prompts.parse import parse_prompt
from lorasmith.sampling.conditioning import PromptEncoder
from lorasmith.sampling.generate import generate
from lorasmith.sampling.guidance import GuidanceSchedule, PromptPair
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.request import ImageRequest

SIZE = (64, 64)


def guided(prompt: str, negative: str = "", cfg: float = 5.0) -> PromptPair:
    return PromptPair(parse_prompt(prompt), parse_prompt(negative, negative=True), cfg)


@pytest.fixture
def encoder(model) -> PromptEncoder:
    return PromptEncoder(model)


@pytest.fixture
def noisy() -> torch.Tensor:
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def encoded_rows(monkeypatch) -> list[int]:
    rows: list[int] = []
    encode = DiffusionModel.encode_rows

    def counting(self: DiffusionModel, ids: torch.Tensor):
        rows.append(len(ids))
        return encode(self, ids)

    monkeypatch.setattr(DiffusionModel, "encode_rows", counting)
    return rows


def test_what_stays_the_same_is_the_same_object(encoder, encoded_rows) -> None:
    plan = GuidanceSchedule(encoder, [guided("a [red:blue:0.5] star")], size=SIZE, steps=8)
    found = [plan.at(step) for step in range(8)]
    assert all(one is found[0] for one in found[:4])
    assert all(one is found[4] for one in found[4:])
    assert found[4] is not found[0]
    assert sum(encoded_rows) == 3  # two texts and the negative prompt


def test_alternation_encodes_each_option_once(encoder, encoded_rows) -> None:
    plan = GuidanceSchedule(encoder, [guided("[cow|horse]", "[x|y|z]")], size=SIZE, steps=12)
    for step in range(12):
        plan.at(step)
    assert sum(encoded_rows) == 5


def test_each_step_is_guided_by_its_text(encoder, noisy) -> None:
    images = [guided("a [red:blue:1] star"), guided("crown", cfg=3.0)]
    plan = GuidanceSchedule(encoder, images, size=SIZE, steps=2)
    t = torch.tensor(500)
    for step, text in enumerate(["a red star", "a blue star"]):
        plain = [guided(text), guided("crown", cfg=3.0)]
        fixed = GuidanceSchedule(encoder, plain, size=SIZE, steps=2)
        with torch.no_grad():
            ours, expected = plan.predict(noisy, t, step), fixed.predict(noisy, t, 0)
        assert torch.equal(ours[0], expected[0])


def test_and_adds_weighted_guidance(model, encoder, noisy) -> None:
    """Liu et al. 2022, equation 11, each prediction by itself."""

    def alone(text: str, image: int) -> torch.Tensor:
        chunks = encoder.chunks(parse_prompt(text).parts[0].sections())
        return model.denoise(noisy[image : image + 1], t, encoder.encode([chunks]))

    t = torch.tensor(500)
    images = [guided("red star :1.5 AND crown :-0.5", "blue", cfg=4.0), guided("a", "b", 2.0)]
    plan = GuidanceSchedule(encoder, images, size=SIZE, steps=1)
    with torch.no_grad():
        ours, _ = plan.predict(noisy, t, 0)
        none = alone("blue", 0)
        change = 1.5 * (alone("red star", 0) - none) - 0.5 * (alone("crown", 0) - none)
        expected = [none + 4.0 * change, alone("b", 1) + 2.0 * (alone("a", 1) - alone("b", 1))]
    assert_near(ours, torch.cat(expected), NETWORK)


def test_and_works_without_guidance(model, encoder, noisy) -> None:
    t = torch.tensor(500)
    both = GuidanceSchedule(encoder, [guided("a :0.5 AND a :0.5", cfg=1.0)] * 2, size=SIZE, steps=1)
    one = GuidanceSchedule(encoder, [guided("a", cfg=1.0)] * 2, size=SIZE, steps=1)
    assert both.at(0).negatives == 2
    assert one.at(0).negatives == 0
    with torch.no_grad():
        ours, expected = both.predict(noisy, t, 0)[0], one.predict(noisy, t, 0)[0]
    assert_near(ours, expected, NETWORK)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tag", "same_text", "same_unet"),
    [("<lora:cat:unet=1:te=0>", True, False), ("<lora:cat:unet=0:te=1>", False, True)],
)
def test_a_lora_changes_the_part_it_is_for(
    model, lora_folder, noisy, tag, same_text, same_unet
) -> None:
    t = torch.tensor(500)
    image = guided(f"a star {tag}")
    plain_encoder = PromptEncoder(model)
    plain = GuidanceSchedule(plain_encoder, [image] * 2, size=SIZE, steps=1).at(0).conditioning
    with LoraLibrary(lora_folder).attached(model, image.prompt.loras) as attached:
        # The same encoder, so that what it keeps must not be taken for the LoRA's.
        plan = GuidanceSchedule(plain_encoder, [image] * 2, size=SIZE, steps=1, loras=attached)
        text = plan.at(0).conditioning
        with torch.no_grad():
            unet = model.denoise(torch.cat([noisy, noisy]), t, plain)
    with torch.no_grad():
        before = model.denoise(torch.cat([noisy, noisy]), t, plain)
    assert torch.equal(text.prompt_embeds, plain.prompt_embeds) is same_text
    assert torch.equal(unet, before) is same_unet


@pytest.mark.slow
def test_a_lora_that_leaves_out_the_steps_is_none(model, lora_folder) -> None:
    library = LoraLibrary(lora_folder)
    tags = ("", "<lora:cat:unet=1:te=0:stop=0>", "<lora:cat:unet=1:te=0:start=2>")
    requests = [ImageRequest(f"red star {tag}", seed=1, steps=4) for tag in tags]
    done = sorted(generate(model, requests, loras=library), key=lambda image: image.index)
    none, never, later = (np.asarray(image.image).astype(int) for image in done)
    assert np.abs(none - never).max() <= 1
    assert not np.array_equal(none, later)


@pytest.mark.slow
def test_a_image_is_the_same_whoever_shares_its_batch(model) -> None:
    prompts = ["[red:blue:0.5] star", "red star AND crown", "red star", "[a|b]"]
    requests = [ImageRequest(prompt, seed=3, steps=4) for prompt in prompts]
    together = sorted(generate(model, requests, batch=4), key=lambda image: image.index)
    for request, image in zip(requests, together, strict=True):
        (alone,) = generate(model, [request])
        difference = np.asarray(alone.image).astype(int) - np.asarray(image.image)
        assert np.abs(difference).max() <= 1
