"""Our models as diffusers' own pipelines, to compare with."""

from __future__ import annotations

from functools import cache
from typing import Any

import diffusers
import pytest
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from lorasmith.models.diffusion_model import DiffusionModel
from lorasmith.models.families.base import EOS, TextEncoderSpec
from lorasmith.models.tokenizer import WORDS, clip_tokenizer


def transformers_model(network: CLIPTextModel, spec: TextEncoderSpec) -> CLIPTextModel:
    """The text encoder as transformers' own class; a copy where that has a projection."""
    if not spec.projected:
        return network
    wanted = CLIPTextModelWithProjection(network.config).eval()
    state = {
        name if name.startswith("text_projection") else f"text_model.{name}": tensor
        for name, tensor in network.state_dict().items()
    }
    wanted.load_state_dict(state, strict=False)
    return wanted


@cache  # It takes a second to build.
def clip_of_transformers(pad: int) -> CLIPTokenizer:
    """transformers' own class over the package's vocabulary; fills with token ``pad``."""
    token = {EOS: "<|endoftext|>", 0: "!"}[pad]
    tokenizer = Tokenizer.from_str(clip_tokenizer().to_str())
    # Ours gets words; this one gets texts.
    words = pre_tokenizers.Split(Regex(WORDS.pattern), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, tokenizer.pre_tokenizer])
    tokenizer.normalizer = normalizers.Lowercase()
    return CLIPTokenizer(tokenizer_object=tokenizer, pad_token=token, model_max_length=77)


def pipeline_of(model: DiffusionModel, scheduler: Any = None) -> Any:
    """diffusers' pipeline of the model's family, over the model's own UNet and VAE."""
    specs = model.architecture.family.text_encoders
    encoders = [transformers_model(model.text_encoders[spec.part], spec) for spec in specs]
    tokenizers = [clip_of_transformers(spec.pad) for spec in specs]
    parts: dict[str, Any] = {
        "vae": model.vae,
        "unet": model.denoiser,
        "text_encoder": encoders[0],
        "tokenizer": tokenizers[0],
        "scheduler": scheduler or diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
    }
    if len(specs) == 2:
        made = diffusers.StableDiffusionXLPipeline(
            **parts, text_encoder_2=encoders[1], tokenizer_2=tokenizers[1], add_watermarker=False
        )
    else:
        made = diffusers.StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    made.set_progress_bar_config(disable=True)
    return made


def encode(pipeline: Any, captions: list[str], clip_skip: int = 1) -> tuple[Any, Any]:
    """Hidden states and pooled embedding (or ``None``) of captions, as the pipeline makes them."""
    # Counted from nought there, and fixed for SDXL.
    skip = None if clip_skip == 1 else clip_skip - 1
    if isinstance(pipeline, diffusers.StableDiffusionXLPipeline):
        hidden, _, pooled, _ = pipeline.encode_prompt(captions, do_classifier_free_guidance=False)
        return hidden, pooled
    encoder = pipeline.text_encoder
    with pytest.MonkeyPatch.context() as patch:
        if skip is not None:
            # diffusers 0.42 looks for the norm where transformers 4 had it.
            patch.setitem(vars(encoder), "text_model", encoder)
        return pipeline.encode_prompt(captions, "cpu", 1, False, clip_skip=skip)[0], None
