"""The metadata of LoRA files: sd-scripts' ``ss_*`` and Stability's modelspec 1.0.1.

Every value is a string, as sd-scripts writes it (``str(value)``, JSON for the nested ones), because
webuis and tag viewers parse exactly that. Nothing here reads a clock: the caller passes the run's
times, so that a resumed run writes the file that an undisturbed one would.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from lorasmith import __version__


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts:
    """What a LoRA was trained with; each field is written as ``ss_`` and its name.

    ``None`` is written as "None", as sd-scripts does, but for the fields that it too leaves out.
    Field names are sd-scripts'; only what their names don't say is explained here.

    Args:
        training_started_at, training_finished_at: Unix time in seconds.
        session_id: a number that names the run.
        unet_lr, text_encoder_lr: ``None`` where they are ``learning_rate``.
        num_train_images, num_reg_images: with repeats.
        total_batch_size: over all processes and accumulated batches.
        clip_skip, max_token_length: ``None`` for 1 and 75.
        face_crop_aug_range: "(2.0, 4.0)", as Python prints the pair.
        num_batches_per_epoch: micro-batches, before accumulation.
        resolution: "(width, height)", as Python prints the pair.
        network_module: "networks.lora" tells readers which tensors to expect.
        bucket_info, dataset_dirs, reg_dataset_dirs, tag_frequency, network_args: written as JSON;
            see :func:`bucket_info` and :func:`tag_frequency`.
        optimizer: "module.Class(argument=value,…)".
        sd_model_name, sd_model_hash, new_sd_model_hash: base model's file name with its ending,
            the first 8 hex digits of the webui's old hash, and its SHA-256.
    """

    output_name: str | None
    training_started_at: float | None = None
    training_finished_at: float | None = None
    session_id: int | None = None
    learning_rate: float
    text_encoder_lr: float | None = None
    unet_lr: float | None = None
    num_train_images: int
    num_reg_images: int = 0
    num_validation_images: int = 0
    num_batches_per_epoch: int
    num_epochs: int
    epoch: int
    steps: int
    batch_size_per_device: int
    total_batch_size: int
    resolution: str
    gradient_checkpointing: bool = False
    gradient_accumulation_steps: int = 1
    max_train_steps: int
    lr_warmup_steps: int = 0
    lr_scheduler: str = "constant"
    network_module: str = "networks.lora"
    network_dim: int
    network_alpha: float
    network_dropout: float | None = None
    network_args: Mapping[str, Any] = field(default_factory=dict)
    mixed_precision: str = "no"
    full_fp16: bool = False
    v2: bool = False
    base_model_version: str = "sd_v1"
    clip_skip: int | None = None
    max_token_length: int | None = None
    cache_latents: bool = True
    color_aug: bool = False
    flip_aug: bool = False
    random_crop: bool = False
    shuffle_caption: bool = False
    keep_tokens: int = 0
    enable_bucket: bool = True
    bucket_no_upscale: bool = False
    min_bucket_reso: int | None = None
    max_bucket_reso: int | None = None
    bucket_info: Mapping[str, Any] = field(default_factory=dict)
    dataset_dirs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    reg_dataset_dirs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    tag_frequency: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    seed: int
    lowram: bool = False
    fp8_base: bool = False
    fp8_base_unet: bool = False
    resize_interpolation: str | None = None
    noise_offset: float | None = None
    noise_offset_random_strength: bool = False
    adaptive_noise_scale: float | None = None
    multires_noise_iterations: int | None = None
    multires_noise_discount: float = 0.3
    ip_noise_gamma: float | None = None
    ip_noise_gamma_random_strength: bool = False
    min_snr_gamma: float | None = None
    debiased_estimation: bool = False
    scale_weight_norms: float | None = None
    prior_loss_weight: float = 1.0
    zero_terminal_snr: bool = False
    loss_type: str = "l2"
    huber_schedule: str = "snr"
    huber_c: float = 0.1
    huber_scale: float = 1.0
    masked_loss: bool = False
    validation_seed: int | None = None
    validation_split: float = 0.0
    max_validation_steps: int | None = None
    validate_every_n_epochs: int | None = None
    validate_every_n_steps: int | None = None
    caption_dropout_rate: float = 0.0
    caption_dropout_every_n_epochs: int = 0
    caption_tag_dropout_rate: float = 0.0
    face_crop_aug_range: str | None = None
    optimizer: str
    max_grad_norm: float = 1.0
    training_comment: str | None = None
    sd_model_name: str | None = None
    sd_model_hash: str | None = None
    new_sd_model_hash: str | None = None
    vae_name: str | None = None
    vae_hash: str | None = None
    new_vae_hash: str | None = None

    def metadata(self) -> dict[str, str]:
        values = {f"ss_{name}": value for name, value in asdict(self).items()}
        return {
            name: json.dumps(value) if isinstance(value, dict) else str(value)
            for name, value in values.items()
            if not (name in _LEFT_OUT and value is None) and not (name == _ARGS and not value)
        }


_ARGS = "ss_network_args"
_LEFT_OUT = frozenset(
    f"ss_{name}"
    for name in (
        "training_started_at", "training_finished_at", "session_id", "sd_model_name",
        "sd_model_hash", "new_sd_model_hash", "vae_name", "vae_hash", "new_vae_hash",
    )
)  # fmt: skip


def bucket_info(counts: Mapping[tuple[int, int], int], mean_error: float) -> dict[str, Any]:
    """sd-scripts' ``ss_bucket_info``: images (with repeats) per bucket.

    Args:
        counts: (width, height) -> images.
        mean_error: mean of |image's width / height - bucket's|.
    """
    buckets = {
        str(index): {"resolution": list(size), "count": count}
        for index, (size, count) in enumerate(sorted(counts.items()))
    }
    return {"buckets": buckets, "mean_img_ar_error": mean_error}


def tag_frequency(captions: Iterable[Iterable[str]]) -> dict[str, int]:
    """sd-scripts' ``ss_tag_frequency`` of one folder, from each caption's tags: lower-cased."""
    return dict(Counter(tag.lower() for tags in captions for tag in tags))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What model sites show of a LoRA; empty fields are left out.

    Args:
        architecture: of the base model, in modelspec's names: "stable-diffusion-v1".
        implementation: whose names the weights have: "diffusers", or the address of other code.
        resolution: width and height in pixels that it was trained at.
        timestamp: Unix time in seconds of the training's end or start, ``None`` for no date.
        prediction: "epsilon" or "v".
        clip_skip: which of the text encoder's layers was used, counted from the end.
        tags: separated by commas.
        thumbnail: a data URL.
    """

    title: str
    resolution: tuple[int, int]
    architecture: str = "stable-diffusion-v1"
    implementation: str = "diffusers"
    prediction: str = "epsilon"
    clip_skip: int | None = None
    timestamp: float | None = None
    author: str = ""
    description: str = ""
    license: str = ""
    tags: str = ""
    trigger_phrase: str = ""
    usage_hint: str = ""
    thumbnail: str = ""
    merged_from: str = ""

    def metadata(self) -> dict[str, str]:
        width, height = self.resolution
        values = {
            "sai_model_spec": "1.0.1",
            "architecture": f"{self.architecture}/lora",
            "implementation_version": f"lorasmith/{__version__}",
            "resolution": f"{width}x{height}",
            "prediction_type": self.prediction,
            "encoder_layer": "" if self.clip_skip is None else str(self.clip_skip),
            "date": "" if self.timestamp is None else _iso_date(self.timestamp),
        }
        named = {item.name for item in fields(self)} - _TRANSLATED
        values.update((name, getattr(self, name)) for name in sorted(named))
        return {f"modelspec.{name}": value for name, value in values.items() if value}


# Whose names of the UNet's layers a LoRA file has, as model sites want it said.
IMPLEMENTATIONS = {
    "diffusers": "diffusers",
    "ldm": "https://github.com/Stability-AI/generative-models",
}

_TRANSLATED = {"architecture", "resolution", "prediction", "clip_skip", "timestamp"}


def _iso_date(timestamp: float) -> str:
    """ISO 8601 in UTC, whole seconds: the same on every machine."""
    return datetime.fromtimestamp(int(timestamp), UTC).isoformat()
