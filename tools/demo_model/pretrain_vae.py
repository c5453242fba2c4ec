"""Trains a small base's autoencoder: 64x64 images to 16x16 latents of 4 channels."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from tools.demo_model.pretrain_loop import Budget, MuonWithAdamW, Run, write_log
from tools.demo_model.worlds import World
from torch import Tensor

from lorasmith.models.load import load_model

CHANNELS = (32, 64, 96)
LATENT_CHANNELS = 4
BATCH = 8
SCALING_FACTOR = 0.18215  # of SD1, for the loaders that take it as given
KL_WEIGHT = 1e-4
# Layers that face pixels or latents; AdamW trains them.
NOT_HIDDEN = ("conv_in", "conv_out", "quant_conv")


def new_vae(channels: tuple[int, ...] = CHANNELS) -> AutoencoderKL:
    """An untrained autoencoder of the architecture of SD1's, small, with factor 2**(levels - 1)."""
    levels = len(channels)
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=LATENT_CHANNELS,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=SCALING_FACTOR,
    )


def to_pixels(images: list[np.ndarray]) -> Tensor:
    """uint8 (H, W, 3) images -> float (B, 3, H, W) in -1 to 1."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def psnr(result: Tensor, target: Tensor) -> float:
    """Peak signal to noise ratio in dB of pixels in -1 to 1."""
    error = (result.clamp(-1, 1) - target).square().mean()
    return (10 * torch.log10(4 / error)).item()


def _losses(vae: AutoencoderKL, pixels: Tensor, used: float) -> dict[str, Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(pixels).latent_dist
        result = vae.decode(posterior.sample()).sample
    difference = result.float() - pixels
    mse, l1 = difference.square().mean(), difference.abs().mean()
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    # L1 sharpens but learns slowly at first, so its weight grows.
    loss = 2 * mse + (0.1 + 0.9 * used) * l1 + KL_WEIGHT * kl
    return {"loss": loss, "l1": l1, "psnr": 10 * torch.log10(4 / mse.detach()), "kl": kl}


def train_vae(work: Path, world: World, budget: Budget) -> None:
    """Train (or go on training) and write the averaged autoencoder to `work/vae`."""
    torch.manual_seed(budget.seed)
    vae = new_vae()
    if world.from_demo:
        vae.load_state_dict(load_model("demo").vae.state_dict())
        write_log(work, "vae", "as the demo base has it", reconstruction_figures(vae, world))
    optimizer = MuonWithAdamW(
        vae.named_parameters(), not_hidden=NOT_HIDDEN, muon_lr=0.01, adamw_lr=2e-3
    )
    run = Run("vae", work, optimizer, budget, ema_decay=0.998, flat_share=0.3, warmup=50)

    def loss_of_step(step: int, used: float) -> dict[str, Tensor]:
        rng = Random(f"vae {budget.seed} {step}")
        return _losses(vae, to_pixels(world.for_autoencoder(BATCH, rng)), used)

    run.train(loss_of_step)
    run.use_ema()
    fold_statistics(vae, world)
    vae.save_pretrained(work / "vae")
    run.log(reconstruction_figures(vae, world))


@torch.no_grad()
def fold_statistics(vae: AutoencoderKL, world: World, images: int = 1536) -> None:
    """Shift and scale the latents, inside quant_conv and post_quant_conv, so that over the world
    each channel has mean 0 and, times `SCALING_FACTOR`, standard deviation 1."""
    vae.eval()
    rng = Random("latent statistics")
    means = [
        vae.encode(to_pixels(world.plain(64, rng))).latent_dist.mean for _ in range(images // 64)
    ]
    latents = torch.cat(means)
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    scale = 1 / (SCALING_FACTOR * std)
    encode, decode = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    encode.weight[:channels] *= scale[:, None, None, None]
    encode.bias[:channels] = (encode.bias[:channels] - mean) * scale
    encode.bias[channels:] += 2 * scale.log()
    decode.bias += decode.weight[:, :, 0, 0] @ mean
    decode.weight /= scale[None, :, None, None]


@torch.no_grad()
def reconstruction_figures(vae: AutoencoderKL, world: World) -> dict[str, float]:
    """PSNR in dB of images of the world, and of images with scribbles."""
    rng = Random("reconstruction")
    plain = to_pixels(world.plain(64, rng))
    mixed = to_pixels(world.for_autoencoder(64, rng))
    return {
        name: psnr(vae.decode(vae.encode(pixels).latent_dist.mean).sample, pixels)
        for name, pixels in (("psnr_world", plain), ("psnr_mixed", mixed))
    }
