"""What a LoRA's metadata says of its training, in plain words. Torch-free.

Metadata comes from anywhere: values that are not what they should be are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from lorasmith.core.files import parse_json
from lorasmith.lora_tools.inspect.report import MOST_TRIGGERS, Folder, TriggerWords

_REPEATS = re.compile(r"(\d+)_(.+)")
# kohya's spelling of nothing.
_NOTHING = ("", "None", "null", "False", "0", "0.0", "{}", "[]")


def _plain(value: str) -> str:
    return value


def _size(value: str) -> str:
    numbers = re.findall(r"\d+", value)
    return " x ".join(numbers[:2] if len(numbers) > 1 else numbers * 2)


def _optimizer(value: str) -> str:
    """ "torch.optim.adamw.AdamW(weight_decay=0.01)" without the modules."""
    name, bracket, arguments = value.partition("(")
    return name.rpartition(".")[2] + bracket + arguments


def _yes(value: str) -> str:
    return "yes" if value == "True" else value


_LINES: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("title", "modelspec.title", _plain),
    ("author", "modelspec.author", _plain),
    ("license", "modelspec.license", _plain),
    ("description", "modelspec.description", _plain),
    ("usage hint", "modelspec.usage_hint", _plain),
    ("date", "modelspec.date", _plain),
    ("merged from", "modelspec.merged_from", _plain),
    ("name", "ss_output_name", _plain),
    ("base model", "ss_sd_model_name", _plain),
    ("base model hash", "ss_new_sd_model_hash", lambda value: value[:10]),
    ("base model version", "ss_base_model_version", _plain),
    ("VAE", "ss_vae_name", _plain),
    ("predicts", "modelspec.prediction_type", _plain),
    ("network", "ss_network_module", _plain),
    ("rank", "ss_network_dim", _plain),
    ("alpha", "ss_network_alpha", _plain),
    ("network arguments", "ss_network_args", _plain),
    ("dropout", "ss_network_dropout", _plain),
    ("resolution", "ss_resolution", _size),
    ("buckets", "ss_enable_bucket", _yes),
    ("pictures", "ss_num_train_images", _plain),
    ("regularisation pictures", "ss_num_reg_images", _plain),
    ("batch size", "ss_total_batch_size", _plain),
    ("accumulation", "ss_gradient_accumulation_steps", lambda v: "" if v == "1" else v),
    ("epochs", "ss_epoch", _plain),
    ("epochs planned", "ss_num_epochs", _plain),
    ("steps", "ss_steps", _plain),
    ("steps planned", "ss_max_train_steps", _plain),
    ("optimizer", "ss_optimizer", _optimizer),
    ("learning rate", "ss_learning_rate", _plain),
    ("learning rate of the UNet", "ss_unet_lr", _plain),
    ("learning rate of the text encoder", "ss_text_encoder_lr", _plain),
    ("schedule", "ss_lr_scheduler", _plain),
    ("warm-up steps", "ss_lr_warmup_steps", _plain),
    ("precision", "ss_mixed_precision", lambda v: "fp32" if v == "no" else v),
    ("CLIP skip", "ss_clip_skip", _plain),
    ("longest caption", "ss_max_token_length", lambda v: f"{v} tokens"),
    ("loss", "ss_loss_type", lambda v: "" if v == "l2" else v),
    ("min-SNR gamma", "ss_min_snr_gamma", _plain),
    ("noise offset", "ss_noise_offset", _plain),
    ("adaptive noise scale", "ss_adaptive_noise_scale", _plain),
    ("multi-resolution noise", "ss_multires_noise_iterations", _plain),
    ("input perturbation", "ss_ip_noise_gamma", _plain),
    ("zero terminal SNR", "ss_zero_terminal_snr", _yes),
    ("debiased estimation", "ss_debiased_estimation", _yes),
    ("prior loss weight", "ss_prior_loss_weight", lambda v: "" if v in ("1.0", "1") else v),
    ("largest norm", "ss_scale_weight_norms", _plain),
    ("captions shuffled", "ss_shuffle_caption", _yes),
    ("tags kept first", "ss_keep_tokens", _plain),
    ("captions dropped", "ss_caption_dropout_rate", _plain),
    ("tags dropped", "ss_caption_tag_dropout_rate", _plain),
    ("mirrored", "ss_flip_aug", _yes),
    ("colours varied", "ss_color_aug", _yes),
    ("random crops", "ss_random_crop", _yes),
    ("seed", "ss_seed", _plain),
    ("comment", "ss_training_comment", _plain),
)


def training_words(metadata: Mapping[str, str]) -> dict[str, str]:
    """Name of a setting -> its value, of those that say something."""
    found = {}
    for name, key, say in _LINES:
        value = metadata.get(key, "").strip()
        if value not in _NOTHING and (said := say(value)):
            found[name] = said
    if found.get("epochs planned") == found.get("epochs"):
        found.pop("epochs planned", None)
    if found.get("steps planned") == found.get("steps"):
        found.pop("steps planned", None)
    return found


def trigger_words(metadata: Mapping[str, str]) -> TriggerWords:
    """Trigger words and tags."""
    folders = tuple(_folders(metadata))
    phrase = metadata.get("modelspec.trigger_phrase", "").strip()
    if phrase:
        return TriggerWords((phrase,), True, folders)
    common = dict.fromkeys(tag for folder in folders for tag in folder.triggers)
    return TriggerWords(tuple(common)[:MOST_TRIGGERS], False, folders)


def regularisation_folders(metadata: Mapping[str, str]) -> set[str]:
    """Those folders in ``ss_tag_frequency`` that hold regularisation images and nothing else."""
    reg = set(_table(metadata.get("ss_reg_dataset_dirs")))
    trained = set(_table(metadata.get("ss_dataset_dirs")))
    for dataset in _datasets(metadata):
        subsets = dataset.get("subsets")
        for subset in subsets if isinstance(subsets, list) else []:
            name = _mapping(subset).get("image_dir")
            if isinstance(name, str):
                (reg if _mapping(subset).get("is_reg") is True else trained).add(name)
    if trained:
        named = _table(metadata.get("ss_tag_frequency"))
        reg |= {str(name) for name in named if name not in trained}
    return reg - trained


def _datasets(metadata: Mapping[str, str]) -> list[dict[Any, Any]]:
    """With a dataset configuration, sd-scripts says everything of each dataset by itself."""
    datasets = _json(metadata.get("ss_datasets"))
    return [one for one in datasets if isinstance(one, dict)] if isinstance(datasets, list) else []


def _folders(metadata: Mapping[str, str]) -> list[Folder]:
    frequencies = _table(metadata.get("ss_tag_frequency"))
    folders = _table(metadata.get("ss_dataset_dirs"))
    for dataset in _datasets(metadata):
        frequencies |= _mapping(dataset.get("tag_frequency"))
        folders |= _mapping(dataset.get("dataset_dirs"))
    reg = regularisation_folders(metadata)
    folders = _table(metadata.get("ss_reg_dataset_dirs")) | folders
    found = []
    for name, counts in frequencies.items():
        tags = {str(tag): n for tag, n in _mapping(counts).items() if isinstance(n, int) and n > 0}
        tags = dict(sorted(tags.items(), key=lambda item: (-item[1], item[0])))
        said = _mapping(folders.get(name))
        match = _REPEATS.fullmatch(str(name))
        repeats = said.get("n_repeats", int(match[1]) if match and len(match[1]) < 9 else None)
        images = said.get("img_count")
        found.append(Folder(str(name), tags, _whole(images), _whole(repeats), str(name) in reg))
    return found


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _table(text: str | None) -> dict[Any, Any]:
    return _mapping(_json(text))


def _json(text: str | None) -> Any:
    try:
        return parse_json(text or "null")
    except (ValueError, RecursionError):
        return None
