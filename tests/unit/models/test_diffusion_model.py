"""The one call that every family answers: what goes in, what comes out, what stays frozen."""

from __future__ import annotations

import pytest
import torch
from tests.tiny_models import tiny_architecture, tiny_model
from tests.tolerances import NETWORK, assert_near
from torch import Tensor

from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.tensors.rng import normal


def noisy(batch: int = 2, factor: int = 8) -> Tensor:
    side = 64 // factor
    return normal((batch, 4, side, side), 0, "noisy")


def images(batch: int = 2) -> Tensor:
    return normal((batch, 3, 64, 64), 0, "pictures").clamp(-1, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_denoise_is_the_unets_own_answer(dtype: torch.dtype) -> None:
    model = tiny_model(dtype)
    conditioning = model.encode_text(["a cat", ""])
    timesteps = torch.tensor([0, 999])
    answer = model.denoise(noisy(), timesteps, conditioning)
    assert answer.dtype == torch.float32
    wanted = model.denoiser(
        noisy().to(dtype), timesteps, conditioning.prompt_embeds.to(dtype)
    ).sample
    assert torch.equal(answer, wanted.float())


def test_channels_last_changes_the_layout_only() -> None:
    plain, other = tiny_model(), tiny_model()
    other.use_channels_last()
    conditioning = plain.encode_text(["a cat", "a dog"])
    timesteps = torch.tensor([10, 500])
    assert_near(
        other.denoise(noisy(), timesteps, conditioning),
        plain.denoise(noisy(), timesteps, conditioning),
        NETWORK,
    )
    assert_near(other.encode_images(images()), plain.encode_images(images()), NETWORK)


@pytest.mark.slow_but_first
@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_the_latents_factor_follows_from_the_vae(factor: int) -> None:
    model = tiny_model(architecture=tiny_architecture(latent_factor=factor))
    mean, std = model.encode_images(images())
    assert model.latent_factor == factor
    assert mean.shape == std.shape == noisy(factor=factor).shape
    assert mean.dtype == std.dtype == torch.float32
    assert bool((std > 0).all())
    decoded = model.decode_latents(mean)
    assert decoded.shape == (2, 3, 64, 64)
    assert decoded.abs().max() <= 1


def test_latents_are_scaled_as_diffusers_pipelines_scale_them() -> None:
    model = tiny_model()
    mean, std = model.encode_images(images())
    posterior = model.vae.encode(images()).latent_dist
    assert_near(mean, posterior.mean * 0.18215, NETWORK)
    assert_near(std, posterior.std * 0.18215, NETWORK)
    wanted = model.vae.decode(mean / 0.18215).sample.clamp(-1, 1)
    assert_near(model.decode_latents(mean), wanted, NETWORK)


def test_the_vae_stays_float32_when_the_rest_does_not() -> None:
    model = tiny_model(torch.bfloat16)
    assert model.vae_dtype == torch.float32
    assert torch.equal(model.encode_images(images())[0], tiny_model().encode_images(images())[0])


def test_nothing_of_a_base_asks_for_gradients() -> None:
    model = tiny_model()
    modules = (model.denoiser, model.vae, model.text_encoder)
    assert not any(p.requires_grad for module in modules for p in module.parameters())
    assert not any(module.training for module in modules)
    answer = model.denoise(noisy(), torch.tensor([1, 2]), model.encode_text(["", ""]))
    assert answer.grad_fn is None


def test_checkpointing_gives_the_same_gradients_with_frozen_inputs() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model()
        if checkpointing:
            model.enable_gradient_checkpointing()
        block = model.denoiser.down_blocks[1].attentions[0].transformer_blocks[0]
        weight = block.attn2.to_k.weight.requires_grad_()
        conditioning = model.encode_text(["a cat", "a dog"])
        model.denoise(noisy(), torch.tensor([10, 500]), conditioning).square().mean().backward()
        gradients.append(weight.grad)
    assert_near(gradients[1], gradients[0], NETWORK)


def test_checkpointing_recomputes() -> None:
    """Counted where it happens: a block's forward runs again in the backward pass."""
    model = tiny_model()
    model.enable_gradient_checkpointing()
    calls = {"unet": 0, "text": 0}

    def count(part: str) -> None:
        calls[part] += 1

    resnet, layer = model.denoiser.down_blocks[0].resnets[0], model.text_encoder.encoder.layers[1]
    resnet.conv1.register_forward_hook(lambda *_: count("unet"))
    layer.self_attn.register_forward_hook(lambda *_: count("text"))
    resnet.conv2.weight.requires_grad_()
    layer.mlp.fc2.weight.requires_grad_()
    answer = model.denoise(noisy(), torch.tensor([10, 500]), model.encode_text(["a", "b"]))
    assert calls == {"unet": 1, "text": 1}
    answer.square().mean().backward()
    assert calls == {"unet": 2, "text": 2}


@pytest.mark.slow
def test_fingerprints_follow_what_they_stand_for() -> None:
    one = tiny_model()
    assert one.vae_fingerprint() == tiny_model().vae_fingerprint()
    assert one.text_fingerprint() == tiny_model().text_fingerprint()
    assert one.text_fingerprint() != tiny_model(clip_skip=2).text_fingerprint()
    assert one.text_fingerprint() != tiny_model(max_tokens=150).text_fingerprint()
    assert one.text_fingerprint() != tiny_model(torch.bfloat16).text_fingerprint()
    other = tiny_model(seed=1)
    assert one.vae_fingerprint() != other.vae_fingerprint()
    assert one.text_fingerprint() != other.text_fingerprint()
    before = one.vae_fingerprint()
    with torch.no_grad():
        one.vae.quant_conv.bias[0] += 1
    assert one.vae_fingerprint() != before


def test_adapter_roots_name_every_layer_that_kohyas_files_do() -> None:
    unet, text = tiny_model().adapter_roots()
    assert (unet.part, unet.key_prefix, unet.path_prefix) == ("unet", "lora_unet", "")
    assert (text.part, text.key_prefix, text.path_prefix) == (
        "text_encoder",
        "lora_te",
        "text_model",
    )
    for root in (unet, text):
        classes = {type(module).__name__ for module in root.module.modules()}
        assert set(root.targets + root.conv_targets) <= classes


def test_conditioning_joins_batches() -> None:
    model: DiffusionModel = tiny_model()
    both = Conditioning.cat([model.encode_text(["a cat"]), model.encode_text(["a dog"])])
    assert_near(both.prompt_embeds, model.encode_text(["a cat", "a dog"]).prompt_embeds, NETWORK)
