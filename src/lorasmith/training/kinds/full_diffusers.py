"""A model as the folder that diffusers reads and writes: each part in a folder of its own.

The parts are diffusers' and transformers' own classes, and these write them, so that names and
configurations are those of the installed versions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from lorasmith.core.files import atomic_folder
from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.families.base import EOS, TextEncoderSpec
from lorasmith.models.text_encoder import quiet_transformers
from lorasmith.models.tokenizer import ROW, WORDS, clip_tokenizer
from lorasmith.sampling.samplers import SAMPLERS


def save_diffusers(model: DiffusionModel, folder: Path) -> None:
    """Write the folder, in the number formats that the parts of the model have.

    Args:
        folder: must not exist.

    Raises:
        RunError: the disk is full or the folder cannot be written to; nothing is left behind.
    """
    with quiet_transformers(), atomic_folder(folder) as temporary:
        as_pipeline(model).save_pretrained(temporary, safe_serialization=True)


def as_pipeline(model: DiffusionModel) -> Any:
    """diffusers' pipeline of the model's family, over the model's own UNet and VAE."""
    # Here, as they tell developers what they lack when they are imported.
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    specs = model.architecture.family.text_encoders
    encoders = [as_transformers(model.text_encoders[spec.part], spec) for spec in specs]
    tokenizers = [transformers_tokenizer(spec.pad) for spec in specs]
    parts: dict[str, Any] = {
        "vae": model.vae,
        "unet": model.denoiser,
        "text_encoder": encoders[0],
        "tokenizer": tokenizers[0],
        # Its configuration is what is written; steps are none of it.
        "scheduler": SAMPLERS["ddim"].start(
            1, model.prediction, zero_terminal_snr=model.architecture.zero_terminal_snr
        ),
    }
    if len(specs) == 2:
        return StableDiffusionXLPipeline(
            **parts,
            text_encoder_2=encoders[1],
            tokenizer_2=tokenizers[1],
            force_zeros_for_empty_prompt=model.architecture.family.zero_negative,
            add_watermarker=False,
        )
    return StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def as_transformers(network: CLIPTextModel, spec: TextEncoderSpec) -> CLIPTextModel:
    """A text encoder as transformers' own class; a copy where that has a projection."""
    if not spec.projected:
        return network
    copy = CLIPTextModelWithProjection(network.config).to(network.dtype).eval()
    state = {
        name if name.startswith("text_projection") else f"text_model.{name}": tensor
        for name, tensor in network.state_dict().items()
    }
    copy.load_state_dict(state, strict=False)
    return copy


def transformers_tokenizer(pad: int) -> CLIPTokenizer:
    """transformers' own class over the package's vocabulary; fills with token ``pad``."""
    token = {EOS: "<|endoftext|>", 0: "!"}[pad]
    tokenizer = Tokenizer.from_str(clip_tokenizer().to_str())
    # Ours gets words; this one gets texts.
    words = pre_tokenizers.Split(Regex(WORDS.pattern), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, tokenizer.pre_tokenizer])
    tokenizer.normalizer = normalizers.Lowercase()
    return CLIPTokenizer(tokenizer_object=tokenizer, pad_token=token, model_max_length=ROW + 2)
