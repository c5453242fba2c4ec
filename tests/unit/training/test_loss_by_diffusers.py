"""The loss of a step against the same loss computed with diffusers' own parts alone.

Given are the latents, the noise, the timesteps, the captions and a LoRA file; from there on nothing
of ours is used: diffusers loads the file and encodes the captions, its scheduler adds the noise and
makes the target, and its UNet is called as its pipelines and training scripts call it.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from tests.pipelines import clip_of_transformers, encode, pipeline_of
from tests.tiny_models import tiny_architecture, tiny_model
from tests.tolerances import NETWORK, assert_near
from torch import Tensor

from lorasmith.adapters.file import save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.load import load_settings
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.models.families.table import FAMILIES
from lorasmith.training.objective import MicroBatch, build_objective

CAPTIONS = ["a cat, sitting on a red chair", "", "a very long caption with many words in it, " * 12]
SIZES = torch.tensor([
    [768.0, 512.0, 0.0, 0.0, 96.0, 64.0],
    [1000.0, 1500.0, 8.0, 24.0, 64.0, 64.0],
    [64.0, 64.0, 0.0, 0.0, 64.0, 64.0],
])  # fmt: skip
SAMPLES = [3, 4, 9]
STEP = 2
BOS, EOS = 49406, 49407

LOSSES: dict[str, dict[str, str]] = {
    "plain": {"min_snr_gamma": "0"},
    "min-SNR": {"min_snr_gamma": "5"},
    "zero terminal SNR": {
        "min_snr_gamma": "0", "zero_terminal_snr": "true", "min_timestep": "997",
    },
}  # fmt: skip
CASES = [
    (prediction, loss)
    for prediction in ("epsilon", "v")
    for loss in LOSSES
    # What predicts noise has nothing to learn from noise alone.
    if (prediction, loss) != ("epsilon", "zero terminal SNR")
]
TEXTS = [(1, 75), (2, 75), (1, 225), (2, 225)]


@dataclass
class Family:
    """A model with a LoRA attached, and diffusers' pipeline with the same from its file."""

    model: DiffusionModel
    pipeline: Any


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    architecture = tiny_architecture(family=request.param, layers=2)
    model, same = (tiny_model(seed=7, architecture=architecture) for _ in range(2))
    network = AdapterNetwork.create(model.adapter_roots(), rank=4, alpha=3.0)
    g = torch.Generator().manual_seed(2)
    for adapter in network.adapters.values():
        for p in adapter.parameters():
            p.data = torch.randn(p.shape, generator=g) * 0.5 / math.sqrt(p[0].numel())
    folder = tmp_path_factory.mktemp("lora")
    save_lora(folder / "lora.safetensors", network.state_dict(), {})
    pipeline = pipeline_of(same)
    pipeline.load_lora_weights(folder, weight_name="lora.safetensors")
    network.attach()
    return Family(model, pipeline)


@pytest.mark.broad_beyond(31)
@pytest.mark.slow
@pytest.mark.parametrize(("clip_skip", "tokens"), TEXTS)
@pytest.mark.parametrize(("prediction", "loss"), CASES)
@torch.no_grad()
def test_the_loss_is_that_of_diffusers(
    family: Family, prediction: str, loss: str, clip_skip: int, tokens: int
) -> None:
    to_noise = "zero_terminal_snr" in LOSSES[loss]
    model = copy(family.model)
    model.architecture = replace(
        model.architecture, prediction=prediction, zero_terminal_snr=to_noise
    )
    model.prediction, model.clip_skip, model.max_tokens = prediction, clip_skip, tokens
    settings = load_settings(None, {f"loss.{key}": value for key, value in LOSSES[loss].items()})
    objective = build_objective(settings, model)
    latents = torch.randn(3, 4, 12, 8, generator=torch.Generator().manual_seed(1))
    weight = torch.tensor([1.0, 0.5, 2.0])
    noise = objective.noise.draw(latents, objective.seed, STEP, SAMPLES)
    timesteps = objective.timesteps.draw(objective.seed, STEP, SAMPLES)

    def condition() -> Conditioning:
        return model.encode_text(CAPTIONS).with_size_ids(SIZES)

    batch = MicroBatch(latents, torch.zeros_like(latents), condition, weight, SAMPLES)
    ours = objective.loss_sum(model, batch, STEP)

    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        prediction_type={"v": "v_prediction"}.get(prediction, prediction),
        rescale_betas_zero_snr=to_noise,
    )  # fmt: skip
    text = encode if tokens == 75 else partial(encode_long, tokens=tokens)
    hidden, pooled = text(family.pipeline, CAPTIONS, clip_skip)
    theirs = their_loss(
        family.pipeline.unet, scheduler, latents, noise, timesteps, hidden, pooled,
        gamma=float(LOSSES[loss]["min_snr_gamma"]),
    )  # fmt: skip
    assert_near(ours, (theirs * weight).sum(), NETWORK)


def their_loss(
    unet, scheduler, latents, noise, timesteps, hidden, pooled, *, gamma: float
) -> Tensor:
    """As in diffusers' example scripts, by sample."""
    added = None if pooled is None else {"text_embeds": pooled, "time_ids": SIZES}
    noisy = scheduler.add_noise(latents, noise, timesteps)
    found = unet(noisy, timesteps, hidden, added_cond_kwargs=added).sample
    velocity = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(latents, noise, timesteps) if velocity else noise
    loss = torch.nn.functional.mse_loss(found, target, reduction="none").mean((1, 2, 3))
    if not gamma:
        return loss
    snr = compute_snr(scheduler, timesteps)
    return loss * snr.clamp(max=gamma) / (snr + 1 if velocity else snr)


def encode_long(pipeline, captions, clip_skip: int, *, tokens: int) -> tuple[Tensor, Any]:
    """Rows of 75 tokens as sd-scripts cuts them, each through transformers' encoder by itself."""
    encoders = [pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)]
    states, pooled = [], None
    for encoder in filter(None, encoders):
        pad = encoder.config.pad_token_id
        found = clip_of_transformers(pad)(
            captions, padding="max_length", truncation=True, max_length=tokens + 2
        )
        rows = torch.tensor([cut(ids, pad) for ids in found.input_ids])
        said = encoder(rows.flatten(0, 1), output_hidden_states=True)
        if len([*filter(None, encoders)]) == 2:
            hidden = said.hidden_states[-2]
        elif clip_skip > 1:
            norm = getattr(encoder, "text_model", encoder).final_layer_norm
            hidden = norm(said.hidden_states[-clip_skip])
        else:
            hidden = said.last_hidden_state
        hidden = hidden.reshape(len(captions), -1, 77, hidden.shape[-1])
        text = [hidden[:, row, 1:76] for row in range(hidden.shape[1])]
        states.append(torch.cat([hidden[:, 0, :1], *text, hidden[:, -1, 76:]], dim=1))
        if "text_embeds" in said:
            pooled = said.text_embeds.reshape(len(captions), -1, said.text_embeds.shape[-1])[:, 0]
    return torch.cat(states, dim=-1), pooled


def cut(ids: list[int], pad: int) -> list[list[int]]:
    """sd-scripts' rows of ids: its rule for SD 1, and for encoders that fill with another token."""
    rows = [[BOS, *ids[at : at + 75], ids[-1]] for at in range(1, len(ids) - 1, 75)]
    for row in rows if pad != EOS else []:
        if row[75] not in (EOS, pad):
            row[76] = EOS
        if row[1] == pad:
            row[1] = EOS
    return rows
