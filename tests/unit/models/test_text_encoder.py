"""Text encoding against transformers' plain text model."""

from __future__ import annotations

import pytest
import torch
from tests.tiny_models import tiny_model
from tests.tolerances import NETWORK, assert_near
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.text_encoder import tokenize

CAPTIONS = ["a photo of a cat", "", "zorp, red hat, " * 40]


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return tiny_model(seed=3)


def eager(model: DiffusionModel, layers: int) -> CLIPTextModel:
    """Transformers' model of the same weights with fewer layers and without SDPA."""
    config = model.architecture.text | {"num_hidden_layers": layers}
    plain = CLIPTextModel(CLIPTextConfig(**config, attn_implementation="eager"))
    wanted = plain.state_dict().keys()
    state = {k: v for k, v in model.text_encoder.state_dict().items() if k in wanted}
    plain.load_state_dict(state)
    return plain.eval()


def run(text_encoder: CLIPTextModel, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return text_encoder(input_ids=ids).last_hidden_state


def test_75_tokens_are_the_plain_pipeline(model: DiffusionModel) -> None:
    ids = tokenize(CAPTIONS)
    assert ids.shape == (3, 1, 77)
    wanted = run(eager(model, 2), ids[:, 0])
    assert_near(model.encode_text(CAPTIONS).prompt_embeds, wanted, NETWORK)


def test_clip_skip_2_is_a_text_encoder_with_one_layer_less() -> None:
    model = tiny_model(seed=3, clip_skip=2)
    wanted = run(eager(model, 1), tokenize(CAPTIONS)[:, 0])
    assert_near(model.encode_text(CAPTIONS).prompt_embeds, wanted, NETWORK)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("rows", [2, 3])
def test_longer_captions_are_rows_joined(rows: int) -> None:
    model = tiny_model(seed=3, max_tokens=75 * rows)
    hidden = model.encode_text(CAPTIONS).prompt_embeds
    assert hidden.shape == (3, 75 * rows + 2, 16)

    ids = tokenize(CAPTIONS, 75 * rows)
    plain = eager(model, 2)
    each = [run(plain, ids[:, row]) for row in range(rows)]
    assert_near(hidden[:, 0], each[0][:, 0], NETWORK)
    assert_near(hidden[:, -1], each[-1][:, 76], NETWORK)
    for row in range(rows):
        assert_near(hidden[:, 1 + 75 * row : 76 + 75 * row], each[row][:, 1:76], NETWORK)


def test_single_rows_for_prompts(model: DiffusionModel) -> None:
    ids = tokenize(CAPTIONS)[:, 0]
    assert_near(model.encode_rows(ids).prompt_embeds, run(eager(model, 2), ids), NETWORK)


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_gradients_reach_a_trained_text_encoder(clip_skip: int) -> None:
    """The same ones with gradient checkpointing as without."""
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model(seed=3, clip_skip=clip_skip)
        if checkpointing:
            model.enable_gradient_checkpointing()
        weight = model.text_encoder.encoder.layers[0].self_attn.q_proj.weight.requires_grad_()
        model.encode_text(["a cat"]).prompt_embeds[..., 0].sum().backward()
        gradients.append(weight.grad)
    assert gradients[0].abs().sum() > 0
    assert_near(gradients[1], gradients[0], NETWORK)


def test_clip_skip_leaves_the_last_layer_untrained() -> None:
    model = tiny_model(seed=3, clip_skip=2)
    first, last = (
        layer.mlp.fc1.weight.requires_grad_() for layer in model.text_encoder.encoder.layers
    )
    model.encode_text(["a cat"]).prompt_embeds.square().sum().backward()
    assert first.grad is not None
    assert last.grad is None
