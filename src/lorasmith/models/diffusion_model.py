"""One denoiser call for every family: text in, latents in, prediction out.

Shapes: B images, T text tokens (77, or 75 n + 2), D text width, C latent channels, H and W in
pixels, h and w in latent elements (H / latent_factor).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextModel

from lorasmith.formats.adapter_roots import AdapterRoot
from lorasmith.models.families.table import Architecture
from lorasmith.models.memory import TILE, checkpoint_denoiser, checkpoint_text_encoder, on_device
from lorasmith.models.placeholders import NO_PLACEHOLDERS
from lorasmith.models.text_encoder import TextStates, encode_rows, join_rows, tokenize
from lorasmith.tensors.files import fingerprint
from lorasmith.tensors.transfer import pinned, to_device


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What a prompt tells the denoiser.

    Args:
        prompt_embeds: (B, T, D).
        pooled: (B, P), for families that have it (SDXL).
        sizes: (B, 6) original height and width, crop top and left, target height and width, in
            pixels; for families whose denoiser is told them.
    """

    prompt_embeds: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """Several batches as one; all must have the same number of tokens."""
        return Conditioning(
            torch.cat([part.prompt_embeds for part in parts]),
            _cat([part.pooled for part in parts]),
            _cat([part.sizes for part in parts]),
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> Conditioning:
        """``sizes`` stay float32: half precision cannot hold a size in pixels exactly."""
        return Conditioning(
            to_device(self.prompt_embeds.to(dtype), device),
            None if self.pooled is None else to_device(self.pooled.to(dtype), device),
            None if self.sizes is None else to_device(self.sizes, device),
        )

    def pinned(self, device: torch.device) -> Conditioning:
        """In main memory from which ``device`` copies without being waited for."""
        return Conditioning(
            pinned(self.prompt_embeds, device),
            None if self.pooled is None else pinned(self.pooled, device),
            None if self.sizes is None else pinned(self.sizes, device),
        )

    def with_size_ids(self, sizes: Tensor) -> Conditioning:
        """The same prompts for images of ``sizes`` (B, 6)."""
        return replace(self, sizes=sizes)

    def zeroed(self, which: Tensor) -> Conditioning:
        """The same, but all zeros for the prompts that ``which`` (B,) says."""
        pooled = self.pooled
        return replace(
            self,
            prompt_embeds=self.prompt_embeds.masked_fill(which[:, None, None], 0.0),
            pooled=None if pooled is None else pooled.masked_fill(which[:, None], 0.0),
        )


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    tensors = [part for part in parts if part is not None]
    assert len(tensors) in (0, len(parts)), "some have it and some have not"
    return torch.cat(tensors) if tensors else None


class DiffusionModel:
    """A frozen base model: denoiser, VAE, text encoders, and what joins them.

    All weights are in eval mode and ask for no gradients; nothing here turns gradients off, so
    they flow to whatever is attached. The VAE may be in another dtype (float32 as a rule: it
    overflows in float16).

    Args:
        dtype: of the denoiser and the text encoders.
        clip_skip: k takes the text encoder's k-th last layer; 1 is the last.
        max_tokens: 75, 150 or 225 text tokens per caption.
        notes: what a user should know about how the checkpoint was read.

    Attributes:
        placeholders: words that have vectors of their own now; see
            :class:`lorasmith.models.word_vectors.OwnWords`.
    """

    def __init__(
        self,
        *,
        denoiser: nn.Module,
        vae: AutoencoderKL,
        text_encoders: Mapping[str, CLIPTextModel],
        architecture: Architecture,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        clip_skip: int = 1,
        max_tokens: int = 75,
        notes: Sequence[str] = (),
    ) -> None:
        self.denoiser = denoiser
        self.vae = vae
        self.text_encoders = dict(text_encoders)
        self.architecture = architecture
        self.prediction = architecture.prediction
        self.dtype = dtype
        self.device = torch.device(device)
        self.clip_skip = clip_skip
        self.max_tokens = max_tokens
        self.notes = tuple(notes)
        self.memory_format: torch.memory_format = torch.contiguous_format
        self.placeholders = NO_PLACEHOLDERS
        self.parked: set[str] = set()
        self.tile_encoding = self.tile_decoding = False
        assert tuple(self.text_encoders) == architecture.family.parts[2:], self.text_encoders
        for module in self.networks:
            module.requires_grad_(False)
            module.eval()

    @property
    def text_encoder(self) -> CLIPTextModel:
        """The first text encoder; the only one of most families."""
        return self.text_encoders["text_encoder"]

    @property
    def networks(self) -> list[nn.Module]:
        """Denoiser, VAE and text encoders."""
        return [self.denoiser, self.vae, *self.text_encoders.values()]

    def part(self, name: str) -> nn.Module:
        """A network by its part's name: "unet", "vae", "text_encoder"."""
        network: nn.Module = {"unet": self.denoiser, "vae": self.vae, **self.text_encoders}[name]
        return network

    def offload(self, *parts: str) -> None:
        """Keep these parts in main memory; they come to the device for as long as a call takes.

        On a CPU they are where they should be already.
        """
        if self.device.type == "cpu":
            return
        for part in parts:
            self.part(part).to("cpu")
        self.parked |= set(parts)

    @contextlib.contextmanager
    def _on_device(self, *parts: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for part in sorted(self.parked & set(parts)):
                stack.enter_context(on_device(self.part(part), self.device))
            yield

    @property
    def latent_factor(self) -> int:
        """Pixels per latent element, along each side."""
        return self.architecture.latent_factor

    @property
    def vae_dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.vae.dtype
        return dtype

    def encode_text(self, captions: Sequence[str]) -> Conditioning:
        """Conditioning of captions, hidden (B, 75 n + 2, D), cut to ``max_tokens``; how much a
        caption loses by that says :func:`lorasmith.models.tokenizer.lost_tokens`."""
        return self.encode_ids(tokenize(captions, self.max_tokens, self.placeholders))

    def encode_ids(self, ids: Tensor) -> Conditioning:
        """Conditioning of token rows (B, n, 77), joined as sd-scripts does; the pooled embedding is
        the first row's."""
        rows = self.encode_rows(ids.flatten(0, 1))
        pooled = None if rows.pooled is None else rows.pooled.reshape(*ids.shape[:2], -1)[:, 0]
        return Conditioning(join_rows(rows.prompt_embeds.reshape(*ids.shape, -1)), pooled)

    def encode_rows(self, ids: Tensor) -> TextStates:
        """States of single rows of tokens (R, 77), those of all text encoders side by side."""
        ids = to_device(ids, self.device)
        states = []
        for spec in self.architecture.family.text_encoders:
            with self._on_device(spec.part):
                encoder = self.text_encoders[spec.part]
                states.append(encode_rows(encoder, ids, spec, self.clip_skip))
        if len(states) == 1:
            return states[0]
        pooled = next((one.pooled for one in states if one.pooled is not None), None)
        return TextStates(torch.cat([one.prompt_embeds for one in states], dim=-1), pooled)

    def denoise(
        self, noisy_latents: Tensor, timesteps: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """What the model predicts (``prediction``) for noisy latents.

        Args:
            noisy_latents: (B, C, h, w), any float dtype.
            timesteps: (B,) or a scalar, 0 (clean) to 999.
            conditioning: of B prompts.

        Returns:
            (B, C, h, w) float32.
        """
        sample = to_device(noisy_latents, self.device).to(
            self.dtype, memory_format=self.memory_format
        )
        prompt_embeds = to_device(conditioning.prompt_embeds, self.device).to(self.dtype)
        predicted: Tensor = self.denoiser(
            sample,
            to_device(timesteps, self.device),
            prompt_embeds,
            **self.architecture.family.denoiser.inputs(self._denoiser_conditioning(conditioning)),
            return_dict=False,
        )[0]
        return predicted.float()

    def _denoiser_conditioning(self, conditioning: Conditioning) -> Conditioning:
        """What the family's denoiser is told of it, beside the embedding."""
        pooled, sizes = conditioning.pooled, conditioning.sizes
        if not self.architecture.family.size_conditioning:
            return Conditioning(conditioning.prompt_embeds)
        assert pooled is not None, "no pooled embedding"
        assert sizes is not None, "no sizes"
        return Conditioning(
            conditioning.prompt_embeds,
            to_device(pooled, self.device).to(self.dtype),
            to_device(sizes, self.device).to(torch.float32),
        )

    def encode_images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, both times the family's scale.

        A latent is drawn as ``mean + std * normal``.

        Args:
            pixels: (B, 3, H, W) in [-1, 1]; H and W multiples of ``latent_factor``.

        Returns:
            two of (B, C, h, w), float32, on the model's device.
        """
        pixels = to_device(pixels, self.device)
        pixels = pixels.to(self.vae_dtype, memory_format=self.memory_format)
        self.vae.use_tiling = self.tile_encoding
        with self._on_device("vae"):
            posterior = self.vae.encode(pixels, return_dict=False)[0]
        scale = self.vae.config.scaling_factor
        return posterior.mean.float() * scale, posterior.std.float() * scale

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1], float32, of scaled latents (B, C, h, w)."""
        latents = latents.to(self.device, self.vae_dtype) / self.vae.config.scaling_factor
        self.vae.use_tiling = self.tile_decoding
        with self._on_device("vae"):
            pixels: Tensor = self.vae.decode(latents, return_dict=False)[0]
        return pixels.float().clamp(-1, 1)

    def adapter_roots(self) -> list[AdapterRoot]:
        """Where adapters attach, the denoiser first."""
        return self.architecture.adapter_roots(self.denoiser, self.text_encoders)

    def enable_gradient_checkpointing(self, blocks: Collection[str] | None = None) -> None:
        """Keep only the inputs of parts for the backward pass and compute the rest again.

        Args:
            blocks: of :attr:`Architecture.block_paths`, all of them for ``None``; text encoders
                are checkpointed in any case.
        """
        checkpoint_denoiser(self.denoiser, blocks)
        for text_encoder in self.text_encoders.values():
            checkpoint_text_encoder(text_encoder)

    def save_vae_memory(
        self, *, slices: bool = False, tile_encoding: bool = False, tile_decoding: bool = False
    ) -> None:
        """Let the VAE take images one by one, and large ones in tiles of 512 px that overlap.

        Slices change nothing but speed. Tiles change an image slightly: each is normalised by
        itself.
        """
        self.vae.use_slicing = slices
        self.tile_encoding, self.tile_decoding = tile_encoding, tile_decoding
        self.vae.tile_sample_min_size = TILE
        self.vae.tile_latent_min_size = TILE // self.latent_factor

    def compile(self, **options: Any) -> None:
        """Compile the denoiser's repeated blocks for training: nearly the speed of compiling the
        whole, and ready in a fraction of the time.

        Args:
            options: of :class:`lorasmith.models.compiled.CompiledBlocks`.
        """
        from lorasmith.models.compiled import CompiledBlocks  # A second of imports for few.

        compiled = CompiledBlocks(**options)
        for block in list(self.denoiser.modules()):
            if type(block).__name__ in self.architecture.family.denoiser.repeated_blocks:
                compiled.compile(block)

    def use_channels_last(self) -> None:
        """Lay convolution weights and latents out with channels innermost."""
        self.memory_format = torch.channels_last
        self.denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.vae.to(memory_format=torch.channels_last)

    def to(self, device: torch.device | str) -> DiffusionModel:
        self.device = torch.device(device)
        for module in self.networks:
            module.to(self.device)
        return self

    def text_fingerprint(self) -> str:
        """Changes with anything that changes :meth:`encode_text`, attached adapters included."""
        weights = (
            (f"{part}.{name}", parameter)
            for part, encoder in self.text_encoders.items()
            for name, parameter in encoder.named_parameters()
        )
        words = {"words": self.placeholders.counts} if self.placeholders else {}
        return fingerprint(weights, clip_skip=self.clip_skip, max_tokens=self.max_tokens, **words)

    def vae_fingerprint(self) -> str:
        """Changes with anything that changes :meth:`encode_images`."""
        return fingerprint(
            self.vae.named_parameters(),
            scaling_factor=self.vae.config.scaling_factor,
            norm_num_groups=self.vae.config.norm_num_groups,
            **({"tile": TILE} if self.tile_encoding else {}),
        )
