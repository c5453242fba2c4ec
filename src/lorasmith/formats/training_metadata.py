"""The metadata of LoRA files: sd-scripts' ``ss_*`` and Stability's modelspec 1.0.1.

Every value is a string, as sd-scripts writes it (``str(value)``, JSON for the nested ones), because
webuis and tag viewers parse exactly that. Nothing here reads a clock: the caller passes the run's
times, so that a resumed run writes the file that an undisturbed one would.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, get_type_hints

from lorasmith import __version__

RECIPE, MODELS = "sd_merge_recipe", "sd_merge_models"
"""Keys of AUTOMATIC1111's checkpoint merger."""


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _unchanged(text: str) -> str:
    return text


def _yes(text: str) -> str:
    return "yes" if text == "True" else text


def _size(text: str) -> str:
    numbers = re.findall(r"\d+", text)
    return " x ".join(numbers[:2] if len(numbers) > 1 else numbers * 2)


def _optimizer(text: str) -> str:
    """ "torch.optim.adamw.AdamW(weight_decay=0.01)" without the modules."""
    name, bracket, arguments = text.partition("(")
    return name.rpartition(".")[2] + bracket + arguments


def _iso_date(timestamp: float) -> str:
    """ISO 8601 in UTC, whole seconds: the same on every machine."""
    return datetime.fromtimestamp(int(timestamp), UTC).isoformat()


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a key of the metadata.

    Args:
        label: what `lorasmith inspect` calls it; "" where it does not show it.
        shown: its text there, from that in the file; "" for what need not be said.
        merged: a merged LoRA has it, where all files say the same: what readers need to know of
            the base model. Settings of the trainings are left out even where they agree: the
            result was not trained with them.
        argument: sd-scripts' training has an argument of this name.
        optional: not written where there is no value; otherwise None is written as "None", as
            sd-scripts does.
        key: what it is called in the file, where that is not the field's name.
        write: the text in the file, from the value.
    """

    label: str = ""
    shown: Callable[[str], str] = _unchanged
    merged: bool = False
    argument: bool = False
    optional: bool = False
    key: str = ""
    write: Callable[[Any], str] = _text


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFacts:
    """What a LoRA was trained with; each field is written as ``ss_`` and its name.

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
        network_module: "networks.lora" tells readers which tensors to expect; ``None`` of a
            checkpoint.
        bucket_info, dataset_dirs, reg_dataset_dirs, tag_frequency, network_args: written as JSON;
            see :func:`bucket_info` and :func:`tag_frequency`.
        optimizer: "module.Class(argument=value,…)".
        sd_model_name, sd_model_hash, new_sd_model_hash: base model's file name with its ending,
            the first 8 hex digits of the webui's old hash, and its SHA-256.
    """

    output_name: Annotated[str | None, Entry("name", argument=True)]
    training_started_at: Annotated[float | None, Entry(optional=True)] = None
    training_finished_at: Annotated[float | None, Entry(optional=True)] = None
    session_id: Annotated[int | None, Entry(optional=True)] = None
    sd_model_name: Annotated[str | None, Entry("base model", merged=True, optional=True)] = None
    sd_model_hash: Annotated[str | None, Entry(merged=True, optional=True)] = None
    new_sd_model_hash: Annotated[
        str | None, Entry("base model hash", shown=lambda v: v[:10], merged=True, optional=True)
    ] = None
    base_model_version: Annotated[str, Entry("base model version", merged=True)] = "sd_v1"
    vae_name: Annotated[str | None, Entry("VAE", merged=True, optional=True)] = None
    vae_hash: Annotated[str | None, Entry(merged=True, optional=True)] = None
    new_vae_hash: Annotated[str | None, Entry(merged=True, optional=True)] = None
    network_module: Annotated[str | None, Entry("network", argument=True, optional=True)] = (
        "networks.lora"
    )
    network_dim: Annotated[int | None, Entry("rank", argument=True, optional=True)]
    network_alpha: Annotated[float | None, Entry("alpha", argument=True, optional=True)]
    network_args: Annotated[
        Mapping[str, Any], Entry("network arguments", argument=True, optional=True)
    ] = field(default_factory=dict)
    network_dropout: Annotated[float | None, Entry("dropout", argument=True)] = None
    resolution: Annotated[str, Entry("resolution", shown=_size, merged=True, argument=True)]
    gradient_checkpointing: Annotated[bool, Entry(argument=True)] = False
    enable_bucket: Annotated[bool, Entry("buckets", shown=_yes, argument=True)] = True
    bucket_no_upscale: Annotated[bool, Entry(argument=True)] = False
    min_bucket_reso: Annotated[int | None, Entry(argument=True)] = None
    max_bucket_reso: Annotated[int | None, Entry(argument=True)] = None
    bucket_info: Mapping[str, Any] = field(default_factory=dict)
    dataset_dirs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    reg_dataset_dirs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    tag_frequency: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    num_train_images: Annotated[int, Entry("pictures")]
    num_reg_images: Annotated[int, Entry("regularisation pictures")] = 0
    num_validation_images: int = 0
    num_batches_per_epoch: int
    total_batch_size: Annotated[int, Entry("batch size")]
    gradient_accumulation_steps: Annotated[
        int, Entry("accumulation", shown=lambda v: "" if v == "1" else v, argument=True)
    ] = 1
    epoch: Annotated[int, Entry("epochs")]
    num_epochs: Annotated[int, Entry("epochs planned")]
    steps: Annotated[int, Entry("steps")]
    batch_size_per_device: int
    max_train_steps: Annotated[int, Entry("steps planned")]
    optimizer: Annotated[str, Entry("optimizer", shown=_optimizer)]
    max_grad_norm: Annotated[float, Entry(argument=True)] = 1.0
    learning_rate: Annotated[float, Entry("learning rate", argument=True)]
    unet_lr: Annotated[float | None, Entry("learning rate of the UNet", argument=True)] = None
    text_encoder_lr: Annotated[
        float | None, Entry("learning rate of the text encoder", argument=True)
    ] = None
    lr_scheduler: Annotated[str, Entry("schedule", argument=True)] = "constant"
    lr_warmup_steps: Annotated[int, Entry("warm-up steps", argument=True)] = 0
    mixed_precision: Annotated[
        str, Entry("precision", shown=lambda v: "fp32" if v == "no" else v, argument=True)
    ] = "no"
    full_fp16: Annotated[bool, Entry(argument=True)] = False
    v2: Annotated[bool, Entry(merged=True, argument=True)] = False
    clip_skip: Annotated[int | None, Entry("CLIP skip", merged=True, argument=True)] = None
    max_token_length: Annotated[
        int | None, Entry("longest caption", shown=lambda v: f"{v} tokens", argument=True)
    ] = None
    cache_latents: bool = True
    loss_type: Annotated[
        str, Entry("loss", shown=lambda v: "" if v == "l2" else v, argument=True)
    ] = "l2"
    huber_schedule: Annotated[str, Entry(argument=True)] = "snr"
    huber_c: Annotated[float, Entry(argument=True)] = 0.1
    huber_scale: Annotated[float, Entry(argument=True)] = 1.0
    masked_loss: bool = False
    validation_seed: Annotated[int | None, Entry(argument=True)] = None
    validation_split: Annotated[float, Entry(argument=True)] = 0.0
    max_validation_steps: int | None = None
    validate_every_n_epochs: Annotated[int | None, Entry(argument=True)] = None
    validate_every_n_steps: Annotated[int | None, Entry(argument=True)] = None
    min_snr_gamma: Annotated[float | None, Entry("min-SNR gamma", argument=True)] = None
    noise_offset: Annotated[float | None, Entry("noise offset", argument=True)] = None
    noise_offset_random_strength: Annotated[bool, Entry(argument=True)] = False
    adaptive_noise_scale: Annotated[float | None, Entry("adaptive noise scale", argument=True)] = (
        None
    )
    multires_noise_iterations: Annotated[
        int | None, Entry("multi-resolution noise", argument=True)
    ] = None
    multires_noise_discount: Annotated[float, Entry(argument=True)] = 0.3
    ip_noise_gamma: Annotated[float | None, Entry("input perturbation", argument=True)] = None
    ip_noise_gamma_random_strength: Annotated[bool, Entry(argument=True)] = False
    zero_terminal_snr: Annotated[
        bool, Entry("zero terminal SNR", shown=_yes, merged=True, argument=True)
    ] = False
    debiased_estimation: Annotated[bool, Entry("debiased estimation", shown=_yes)] = False
    prior_loss_weight: Annotated[
        float,
        Entry("prior loss weight", shown=lambda v: "" if v in ("1.0", "1") else v, argument=True),
    ] = 1.0
    scale_weight_norms: Annotated[float | None, Entry("largest norm", argument=True)] = None
    shuffle_caption: Annotated[bool, Entry("captions shuffled", shown=_yes, argument=True)] = False
    keep_tokens: Annotated[int, Entry("tags kept first", argument=True)] = 0
    caption_dropout_rate: Annotated[float, Entry("captions dropped", argument=True)] = 0.0
    caption_dropout_every_n_epochs: Annotated[int, Entry(argument=True)] = 0
    caption_tag_dropout_rate: Annotated[float, Entry("tags dropped", argument=True)] = 0.0
    face_crop_aug_range: Annotated[str | None, Entry(argument=True)] = None
    flip_aug: Annotated[bool, Entry("mirrored", shown=_yes, argument=True)] = False
    color_aug: Annotated[bool, Entry("colours varied", shown=_yes, argument=True)] = False
    random_crop: Annotated[bool, Entry("random crops", shown=_yes, argument=True)] = False
    seed: Annotated[int, Entry("seed", argument=True)]
    lowram: bool = False
    fp8_base: bool = False
    fp8_base_unet: bool = False
    resize_interpolation: str | None = None
    training_comment: Annotated[str | None, Entry("comment", argument=True)] = None

    def metadata(self) -> dict[str, str]:
        return dict(_written(self, "ss_"))


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
        clip_skip: which of the text encoder's layers was used, counted from the end; ``None`` for
            families whose layer is settled.
        tags: separated by commas.
        thumbnail: a data URL.
    """

    title: Annotated[str, Entry("title", optional=True)]
    author: Annotated[str, Entry("author", optional=True)] = ""
    license: Annotated[str, Entry("license", merged=True, optional=True)] = ""
    description: Annotated[str, Entry("description", optional=True)] = ""
    usage_hint: Annotated[str, Entry("usage hint", optional=True)] = ""
    timestamp: Annotated[
        float | None, Entry("date", key="date", write=_iso_date, optional=True)
    ] = None
    merged_from: Annotated[str, Entry("merged from", optional=True)] = ""
    prediction: Annotated[str, Entry("predicts", key="prediction_type", merged=True)] = "epsilon"
    architecture: Annotated[str, Entry(merged=True, write=lambda name: f"{name}/lora")] = (
        "stable-diffusion-v1"
    )
    implementation: Annotated[str, Entry(merged=True)] = "diffusers"
    resolution: Annotated[
        tuple[int, int], Entry(merged=True, write=lambda size: f"{size[0]}x{size[1]}")
    ]
    clip_skip: Annotated[int | None, Entry(key="encoder_layer", merged=True, optional=True)] = None
    tags: Annotated[str, Entry(optional=True)] = ""
    trigger_phrase: Annotated[str, Entry(optional=True)] = ""
    thumbnail: Annotated[str, Entry(optional=True)] = ""
    sai_model_spec: Annotated[str, Entry(merged=True)] = "1.0.1"
    implementation_version: str = f"lorasmith/{__version__}"

    def metadata(self) -> dict[str, str]:
        return dict(_written(self, "modelspec."))


def _written(values: TrainingFacts | ModelSpec, prefix: str) -> Iterator[tuple[str, str]]:
    for name, entry in _fields(type(values)).items():
        value = getattr(values, name)
        if not entry.optional or value not in (None, "", {}):
            yield f"{prefix}{entry.key or name}", entry.write(value)


def _fields(kind: type[TrainingFacts | ModelSpec]) -> dict[str, Entry]:
    hints = get_type_hints(kind, include_extras=True)
    return {n: getattr(hint, "__metadata__", (Entry(),))[0] for n, hint in hints.items()}


ENTRIES: dict[str, Entry] = {
    f"{prefix}{entry.key or name}": entry
    for prefix, kind in (("modelspec.", ModelSpec), ("ss_", TrainingFacts))
    for name, entry in _fields(kind).items()
}
"""Every key of the metadata that lorasmith writes, in the order in which it is shown."""

# Whose names of the UNet's layers a LoRA file has, as model sites want it said.
IMPLEMENTATIONS = {
    "diffusers": "diffusers",
    "ldm": "https://github.com/Stability-AI/generative-models",
}
