"""One denoiser call for every family: text in, latents in, prediction out.

Shapes: B pictures, T text tokens (77, or 75 n + 2), D text width, C latent channels, H and W in
pixels, h and w in latent elements (H / latent_factor).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import CLIPTextModel

from lorasmith.models.family import Architecture
from lorasmith.models.text import encode_rows, join_rows, tokenize
from lorasmith.tensor_files import fingerprint


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What a prompt tells the denoiser: ``hidden`` (B, T, D)."""

    hidden: Tensor

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """Several batches as one; all must have the same number of tokens."""
        return Conditioning(torch.cat([part.hidden for part in parts]))

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Conditioning:
        return Conditioning(self.hidden.to(device, dtype))


class AdapterRoot(NamedTuple):
    """A module that adapters attach to, and how their keys name it.

    Args:
        part: "unet" or "text_encoder".
        key_prefix: kohya's prefix, "lora_unet" or "lora_te".
        path_prefix: what stands before the module path in keys; transformers 5 dropped the
            ``text_model`` that every LoRA file has.
        module: the UNet or the text encoder.
        targets: classes whose Linear and 1x1 layers are adapted.
        conv_targets: classes whose convolutions can be adapted too.
    """

    part: str
    key_prefix: str
    path_prefix: str
    module: nn.Module
    targets: tuple[str, ...]
    conv_targets: tuple[str, ...] = ()


def adapter_roots(
    architecture: Architecture, unet: nn.Module, text_encoder: nn.Module
) -> list[AdapterRoot]:
    """Where adapters attach in a model's networks, the UNet first."""
    family = architecture.known_as
    return [
        AdapterRoot("unet", "lora_unet", "", unet, family.unet_targets, family.unet_conv_targets),
        AdapterRoot("text_encoder", "lora_te", "text_model", text_encoder, family.text_targets),
    ]


class DiffusionModel:
    """A frozen base model: UNet, VAE, text encoder, and what joins them.

    All weights are in eval mode and ask for no gradients; nothing here turns gradients off, so
    they flow to whatever is attached. The VAE may be in another dtype (float32 as a rule: it
    overflows in float16).

    Args:
        dtype: of the UNet and the text encoder.
        clip_skip: k takes the text encoder's k-th last layer; 1 is the last.
        max_tokens: 75, 150 or 225 text tokens per caption.
        notes: what a user should know about how the checkpoint was read.
    """

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        architecture: Architecture,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        clip_skip: int = 1,
        max_tokens: int = 75,
        notes: Sequence[str] = (),
    ) -> None:
        self.unet = unet
        self.vae = vae
        self.text_encoder = text_encoder
        self.architecture = architecture
        self.prediction = architecture.prediction
        self.dtype = dtype
        self.device = torch.device(device)
        self.clip_skip = clip_skip
        self.max_tokens = max_tokens
        self.notes = tuple(notes)
        self.memory_format: torch.memory_format = torch.contiguous_format
        for module in (unet, vae, text_encoder):
            module.requires_grad_(False)
            module.eval()

    @property
    def latent_factor(self) -> int:
        """Pixels per latent element, along each side."""
        return self.architecture.latent_factor

    @property
    def vae_dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.vae.dtype
        return dtype

    def encode_text(self, captions: Sequence[str]) -> Conditioning:
        """Conditioning (B, 75 n + 2, D) of captions, cut to ``max_tokens``; how much a caption
        loses by that says :func:`lorasmith.models.tokenizer.lost_tokens`."""
        return Conditioning(self.encode_ids(tokenize(captions, self.max_tokens)))

    def encode_ids(self, ids: Tensor) -> Tensor:
        """Hidden states (B, 75 n + 2, D) of token rows (B, n, 77), joined as sd-scripts does."""
        rows = self.encode_rows(ids.flatten(0, 1))
        return join_rows(rows.reshape(*ids.shape, -1))

    def encode_rows(self, ids: Tensor) -> Tensor:
        """Hidden states (R, 77, D) of single rows of tokens (R, 77)."""
        return encode_rows(self.text_encoder, ids.to(self.device), self.clip_skip)

    def denoise(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """What the model predicts (``prediction``) for noisy latents.

        Args:
            noisy: (B, C, h, w), any float dtype.
            timesteps: (B,) or a scalar, 0 (clean) to 999.
            conditioning: of B prompts.

        Returns:
            (B, C, h, w) float32.
        """
        sample = noisy.to(self.device, self.dtype, memory_format=self.memory_format)
        hidden = conditioning.hidden.to(self.device, self.dtype)
        predicted: Tensor = self.unet(sample, timesteps.to(self.device), hidden, return_dict=False)[
            0
        ]
        return predicted.float()

    def encode_pictures(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, both times the family's scale.

        A latent is drawn as ``mean + std * normal``.

        Args:
            pixels: (B, 3, H, W) in [-1, 1]; H and W multiples of ``latent_factor``.

        Returns:
            two of (B, C, h, w), float32, on the model's device.
        """
        pixels = pixels.to(self.device, self.vae_dtype, memory_format=self.memory_format)
        posterior = self.vae.encode(pixels, return_dict=False)[0]
        scale = self.vae.config.scaling_factor
        return posterior.mean.float() * scale, posterior.std.float() * scale

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1], float32, of scaled latents (B, C, h, w)."""
        latents = latents.to(self.device, self.vae_dtype) / self.vae.config.scaling_factor
        pixels: Tensor = self.vae.decode(latents, return_dict=False)[0]
        return pixels.float().clamp(-1, 1)

    def adapter_roots(self) -> list[AdapterRoot]:
        """Where adapters attach, the UNet first."""
        return adapter_roots(self.architecture, self.unet, self.text_encoder)

    def enable_gradient_checkpointing(self) -> None:
        """Keep only block boundaries for the backward pass and compute the rest again."""
        # Not reentrant: that kind would need inputs with gradients, and those of a base have none.
        self.unet.enable_gradient_checkpointing()
        for layer in self.text_encoder.encoder.layers:
            # transformers' own switch works in training mode only, which a frozen model is not in.
            layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)

    def compile(self) -> None:
        """Compile the UNet's repeated blocks, one graph for all of a kind and shape: nearly the
        speed of compiling the whole, and ready in a fraction of the time."""
        for block in self.unet.modules():
            if type(block).__name__ in self.architecture.known_as.repeated_blocks:
                block.compile()

    def use_channels_last(self) -> None:
        """Lay convolution weights and latents out with channels innermost."""
        self.memory_format = torch.channels_last
        self.unet.to(memory_format=torch.channels_last)
        self.vae.to(memory_format=torch.channels_last)

    def to(self, device: torch.device | str) -> DiffusionModel:
        self.device = torch.device(device)
        for module in (self.unet, self.vae, self.text_encoder):
            module.to(self.device)
        return self

    def text_fingerprint(self) -> str:
        """Changes with anything that changes :meth:`encode_text`, attached adapters included."""
        weights = self.text_encoder.named_parameters()
        return fingerprint(weights, clip_skip=self.clip_skip, max_tokens=self.max_tokens)

    def vae_fingerprint(self) -> str:
        """Changes with anything that changes :meth:`encode_pictures`."""
        return fingerprint(
            self.vae.named_parameters(),
            scaling_factor=self.vae.config.scaling_factor,
            norm_num_groups=self.vae.config.norm_num_groups,
        )
