"""Configurations and presets that the kohya_ss window saves as JSON.

It does not pass its fields on as they are: percentages become shares, 0 and empty mean "not given",
the kind of LoRA becomes a module with arguments, and a field that a file lacks is what the window
shows at its start. Field names and defaults are those of bmaltais/kohya_ss at 45088f0,
``kohya_gui/lora_gui.py``, ``kohya_gui/class_*.py`` and ``presets/lora``.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.text import did_you_mean
from lorasmith.importers.conversion import Given, Remark, Source
from lorasmith.importers.named_files import named_path
from lorasmith.importers.sd_scripts.argv import LAUNCHER, read_argv
from lorasmith.importers.sd_scripts.table import ARGUMENTS

RENAMED = {
    "max_resolution": "resolution",
    "optimizer": "optimizer_type",
    "lora_network_weights": "network_weights",
    "sdxl_cache_text_encoder_outputs": "cache_text_encoder_outputs",
    "sdxl_no_half_vae": "no_half_vae",
    "stop_text_encoder_training_pct": "stop_text_encoder_training",
}

LAUNCHERS = (
    *("num_cpu_threads_per_process", "num_processes", "num_machines", "multi_gpu", "gpu_ids"),
    *("main_process_port", "dynamo_mode", "dynamo_use_fullgraph", "dynamo_use_dynamic"),
    *("extra_accelerate_launch_args", "accelerate_extra_args"),
)
OWN = (
    *("model_list", "LyCORIS_preset", "use_wandb", "lowvram", "no_token_padding", "LoRA_type"),
    *("training_preset", "file_path", "save_as", "headless", "sd_checkpoint_folder"),
)

# Of the window's other tabs, which a file may hold too.
_OTHER_TABS = (
    *("learning_rate_te", "learning_rate_te1", "learning_rate_te2", "no_grad_te", "save_only_unet"),
    *("fused_optimizer_groups", "t5xxl_lr", "sd3_", "vram_optimized"),
)

WINDOW: dict[str, Any] = {
    "LoRA_type": "Standard",
    "LyCORIS_preset": "full",
    "train_batch_size": 1,
    "caption_extension": ".txt",
    "mixed_precision": "fp16",
    "save_precision": "fp16",
    "save_every_n_epochs": 1,
    "learning_rate": 1e-4,
    "unet_lr": 1e-4,
    "text_encoder_lr": 1e-4,
    "lr_scheduler": "cosine",
    "lr_warmup": 10,
    "lr_scheduler_num_cycles": 1,
    "optimizer": "AdamW",
    "max_resolution": "512,512",
    "enable_bucket": True,
    "min_bucket_reso": 256,
    "max_bucket_reso": 2048,
    "bucket_no_upscale": True,
    "bucket_reso_steps": 64,
    "network_dim": 8,
    "network_alpha": 1,
    "conv_dim": 1,
    "conv_alpha": 1,
    "cache_latents": True,
    "noise_offset_type": "Original",
    "sample_sampler": "euler_a",
}
"""What the window shows where a file says nothing, as far as sd-scripts would do otherwise."""

FIRST_STEPS = 1600
"""The window's own number of steps, since it has a field for it."""


_OTHER_MODELS = (
    *("flux1_", "sd3_", "hunyuan_", "anima_", "lumina_", "t5xxl", "clip_g", "clip_l", "txt_"),
    *("img_", "single_", "double_", "train_double", "train_single", "train_blocks", "ggpo_"),
    *("split_", "timestep_sampling", "discrete_flow_shift", "model_prediction_type", "ae"),
    *("model_type", "guidance_scale", "apply_t5", "train_t5xxl", "blocks_to_swap", "logit_"),
    *("mode_scale", "pos_emb", "save_clip", "save_t5xxl", "weighting_scheme", "in_dims"),
    *("enable_all_linear", "mem_eff_save", "show_timesteps", "train_lora_ggpo"),
)

_CONV = ("conv_dim", "conv_alpha")
_LOCON = (
    *(*_CONV, "use_tucker", "use_cp", "rank_dropout", "bypass_mode", "dora_wd", "module_dropout"),
    *("use_scalar", "rank_dropout_scale", "train_norm"),
)
_LOKR = (*_LOCON, "factor", "decompose_both")
_BOFT = (*_CONV, "use_tucker", "module_dropout", "rank_dropout", "rank_dropout_scale", "train_norm")
_LYCORIS = (*_LOKR, "rescaled", "constrain", "train_on_input", "unit")
_BLOCKS = (
    *("down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold"),
    *("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas"),
)
_LORAPLUS = ("loraplus_lr_ratio", "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio")
_OLD = {"conv_dims": "conv_block_dims", "conv_alphas": "conv_block_alphas"}
NETWORK = (*_LYCORIS, *_BLOCKS, *_LORAPLUS, *_OLD)

TYPES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "Standard": ("networks.lora", "", (*_BLOCKS, "rank_dropout", "module_dropout")),
    "Kohya LoCon": (
        "networks.lora", "",
        (*_BLOCKS, "conv_dim", "conv_alpha", "rank_dropout", "module_dropout"),
    ),
    "Kohya DyLoRA": ("networks.dylora", "", ("conv_dim", "conv_alpha", "unit", "module_dropout")),
    "LoRA-FA": ("networks.lora_fa", "", ()),
    "Kohya LoHa": ("networks.loha", "", ()),
    "Kohya LoKr": ("networks.lokr", "", ()),
    "LoCon": ("lycoris.kohya", "locon", _LOCON),
    "LyCORIS/LoCon": ("lycoris.kohya", "locon", _LOCON),
    "LyCORIS/LoHa": ("lycoris.kohya", "loha", _LOCON),
    "LyCORIS/LoKr": ("lycoris.kohya", "lokr", _LOKR),
    "LyCORIS/iA3": ("lycoris.kohya", "ia3", ("train_on_input",)),
    "LyCORIS/DyLoRA": (
        "lycoris.kohya", "dylora",
        (*_CONV, "use_tucker", "unit", "rank_dropout", "module_dropout", "train_norm"),
    ),
    "LyCORIS/Diag-OFT": ("lycoris.kohya", "diag-oft", (*_BOFT, "constrain", "rescaled")),
    "LyCORIS/BOFT": ("lycoris.kohya", "boft", _BOFT),
    "LyCORIS/GLoRA": ("lycoris.kohya", "glora", ()),
    "LyCORIS/Native Fine-Tuning": ("lycoris.kohya", "full", ()),
}  # fmt: skip
"""By kind of LoRA: module, LyCORIS' algorithm, and the fields that it has."""

_RATES = ("learning_rate", "unet_lr", "text_encoder_lr")
_COUNTED = ("train_batch_size", "gradient_accumulation_steps", "epoch")
_IMAGES = (".jpg", ".jpeg", ".png", ".webp")
_HANDLED = (
    *("epoch", "lr_warmup", "lr_warmup_steps", "xformers", "additional_parameters", "sdxl"),
    *("noise_offset_type", "max_train_epochs", "max_train_steps", "lr_scheduler_num_cycles"),
)


def is_gui_json(table: Mapping[str, Any]) -> bool:
    return "LoRA_type" in table or ("max_resolution" in table and "network_dim" in table)


def read_gui_json(table: Mapping[str, Any], name: str) -> Source:
    """The arguments that the window would give to sd-scripts.

    Args:
        name: the file, as messages call it.
    """
    source = Source("a configuration of kohya_ss", sdxl=bool(table.get("sdxl")))
    table = _filled(table, source)
    for field, value in table.items():
        if _is_empty(field, value) or field in (*_HANDLED, *NETWORK, *OWN):
            continue
        argument = RENAMED.get(field, field)
        if field in LAUNCHERS:
            source.remarks.append(Remark("dropped", f"{field} {value}", LAUNCHER))
        elif argument in ARGUMENTS:
            # The window writes the prompts into a file itself, and passes that on.
            is_content = argument == "sample_prompts"
            source.given[argument] = Given(value, f"{name}: {field}", is_content)
        elif field.startswith(_OTHER_MODELS):
            if field.endswith("_checkbox"):
                what = "this is for a model that is neither Stable Diffusion 1, 2 nor SDXL"
                source.problems.append(Problem(f"{name}: {field}", what, "use another program"))
        elif field.startswith(_OTHER_TABS):
            why = "it is of another tab of the window, which LoRAs do not use"
            source.remarks.append(Remark("dropped", f"{field} {value}", why))
        elif not field.startswith("==="):
            known = [*ARGUMENTS, *RENAMED, *_HANDLED, *NETWORK]
            near = did_you_mean(field, known)
            why = "the window has no such field and ignores it" + (f"; {near}" if near else "")
            source.remarks.append(Remark("noted", f"{name}: {field}", why))
    for rule in (_length, _rates, _schedule, _noise, _attention, _network, _additional):
        rule(table, name, source)
    return source


def _filled(table: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """The file's fields, with the window's own where it has none, each said."""
    given = {field: value for field, value in table.items() if value is not None}
    for old, new in RENAMED.items():
        if old in given and new in given and _is_empty(new, given[new]):
            del given[new]
    window = dict(WINDOW)
    if str(given.get("use_8bit_adam")).lower() == "true":
        window["optimizer"] = "AdamW8bit"
    given.pop("use_8bit_adam", None) if "optimizer" in given else None
    if str(given.get("use_wandb")).lower() == "true":
        given.setdefault("log_with", "wandb")
    if str(given.get("LoRA_type", "")) in ("", "None"):
        given.pop("LoRA_type", None)
    kind = TYPES.get(str(given.get("LoRA_type", window["LoRA_type"])))
    new_names = {RENAMED.get(field, field) for field in given}
    for field, value in window.items():
        if field in given or RENAMED.get(field, field) in new_names:
            continue
        if (field in _CONV and not (kind and field in kind[2])) or (
            field == "LyCORIS_preset" and not (kind and kind[1])
        ):
            continue
        if field == "conv_dim" and "conv_dims" in given:
            continue
        if field == "lr_warmup" and not _is_empty("", given.get("lr_warmup_steps")):
            continue
        given[field] = value
        shown = str(value).lower() if isinstance(value, bool) else value
        source.remarks.append(
            Remark("noted", f"no {field} in the file", f"{shown}, as the window has it")
        )
    given.pop("use_8bit_adam", None)
    return given


def _is_empty(field: str, value: Any) -> bool:
    return value in ("", None, False, []) or (_number(value) == 0 and field not in _RATES)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _length(table: Mapping[str, Any], name: str, source: Source) -> None:
    """Epochs before steps; without either, the window works steps out from its epochs."""
    for field in ("max_train_epochs", "max_train_steps"):
        if not _is_empty(field, table.get(field)):
            source.given[field] = Given(table[field], f"{name}: {field}")
            return
    if not _is_empty("", table.get("dataset_config")):
        why = f"sd-scripts' own {FIRST_STEPS} steps: with a data-set file the window counts none"
        source.remarks.append(Remark("noted", "no max_train_steps in the file", why))
        return
    if _is_empty("epoch", table.get("epoch")):
        where = f"{name}: max_train_steps"
        source.given["max_train_steps"] = Given(FIRST_STEPS, where)
        why = f"{FIRST_STEPS}, as the window has it"
        source.remarks.append(Remark("noted", "no epoch and no max_train_steps in the file", why))
        return
    place = f"{name}: epoch"
    counted = _window_steps(table)
    if counted is None:
        source.given["max_train_epochs"] = Given(table["epoch"], place)
        if "max_train_steps" not in table:
            why = (
                "the epochs decide, as in the versions of the window without that field; today's "
                f"puts {FIRST_STEPS} there"
            )
            source.remarks.append(Remark("noted", "no max_train_steps in the file", why))
        return
    steps, how = counted
    source.given["max_train_steps"] = Given(steps, place)
    why = f"{steps} steps, as the window counts them: {how}"
    source.remarks.append(Remark("noted", f"epoch {table['epoch']}", why))


def _window_steps(table: Mapping[str, Any]) -> tuple[int, str] | None:
    """The steps that the window works out of the folder of images, and how; ``None`` where the
    folder is not here."""
    numbers = [_number(table.get(field) or 1) for field in _COUNTED]
    if not table.get("train_data_dir"):
        return None
    try:
        images = _images(named_path(str(table["train_data_dir"])))
        batch, accumulation, epochs = (int(number or 0) for number in numbers)
        doubled = 1 if _is_empty("", table.get("reg_data_dir")) else 2
        steps = math.ceil(images / batch / accumulation * epochs * doubled)
    except (OSError, ValueError, ArithmeticError, SettingsError):
        return None
    how = f"{images} pictures with their repeats x {epochs} epochs / batch {batch}"
    how += f" / accumulation {accumulation}" * (accumulation > 1)
    how += " x 2 for regularisation pictures" * (doubled == 2)
    return (steps, how) if steps > 0 else None


def _images(folder: Path) -> int:
    """Images in the ``N_name`` folders, each counted N times, as the window counts.

    Raises:
        OSError: a folder is not there or cannot be read.
        SettingsError: it may not be opened.
    """
    images = 0
    for entry in folder.iterdir():
        repeats = entry.name.split("_")[0]
        if entry.is_dir() and repeats.isdecimal() and repeats.isascii():
            count = sum(each.suffix.lower() in _IMAGES for each in named_path(entry).iterdir())
            images += int(repeats) * count
    return images


def _rates(table: Mapping[str, Any], name: str, source: Source) -> None:
    """A rate of 0, or none, beside another leaves that part out; where both are 0 each part has
    the general rate."""
    zero = {field: not _number(table.get(field) or 0) for field in ("unet_lr", "text_encoder_lr")}
    if zero["text_encoder_lr"] and not zero["unet_lr"]:
        place = f"{name}: text_encoder_lr"
        source.given["network_train_unet_only"] = Given(True, place)
    elif zero["unet_lr"] and not zero["text_encoder_lr"]:
        source.given["network_train_text_encoder_only"] = Given(True, f"{name}: unet_lr")
    for field in (field for field, is_zero in zero.items() if is_zero):
        source.given.pop(field, None)
    second = _number(table.get("t5xxl_lr") or 0)
    if second and not zero["text_encoder_lr"]:
        place = f"{name}: t5xxl_lr"
        rates = [table["text_encoder_lr"], table["t5xxl_lr"]]
        source.given["text_encoder_lr"] = Given(rates, place)
    if not _number(table.get("learning_rate") or 0):
        source.given.pop("learning_rate", None)


def _schedule(table: Mapping[str, Any], name: str, source: Source) -> None:
    if not _is_empty("lr_warmup_steps", table.get("lr_warmup_steps")):
        source.given["lr_warmup_steps"] = Given(
            table["lr_warmup_steps"], f"{name}: lr_warmup_steps"
        )
    elif not _is_empty("lr_warmup", table.get("lr_warmup")):
        source.given["lr_warmup_steps"] = Given(f"{table['lr_warmup']}%", f"{name}: lr_warmup")
    cycles = table.get("lr_scheduler_num_cycles")
    restarts = table.get("lr_scheduler") == "cosine_with_restarts"
    field = "epoch" if _is_empty("", cycles) else "lr_scheduler_num_cycles"
    if not _is_empty("", table.get(field)) and (restarts or field != "epoch"):
        # Where the field was empty, which today's cannot be, the window took the epochs.
        source.given["lr_scheduler_num_cycles"] = Given(table[field], f"{name}: {field}")


def _noise(table: Mapping[str, Any], name: str, source: Source) -> None:
    """The window passes on one kind of noise, whatever stands in the other's fields."""
    kinds = {
        "Original": ("noise_offset", "noise_offset_random_strength", "adaptive_noise_scale"),
        "Multires": ("multires_noise_iterations", "multires_noise_discount"),
    }
    chosen = str(table.get("noise_offset_type"))
    if chosen in kinds:
        for kind, fields in kinds.items():
            for field in fields:
                if kind != chosen:
                    source.given.pop(field, None)
    if "noise_offset" not in source.given:
        source.given.pop("adaptive_noise_scale", None)


def _attention(table: Mapping[str, Any], name: str, source: Source) -> None:
    value = table.get("xformers")
    kind = "xformers" if value is True else str(value or "").lower()
    if kind in ("xformers", "sdpa"):
        source.given[kind] = Given(True, f"{name}: xformers")


def _network(table: Mapping[str, Any], name: str, source: Source) -> None:
    kind = str(table.get("LoRA_type", "Standard"))
    place = f"{name}: LoRA_type"
    if kind not in TYPES:
        hint = did_you_mean(kind, TYPES.keys(), f"there is {', '.join(TYPES)}")
        source.problems.append(Problem(place, f"{kind!r} is not known here", hint))
        return
    module, algo, fields = TYPES[kind]
    if "use_tucker" in table and algo != "lokr":  # The field of older versions, replaced by it.
        fields = tuple(field for field in fields if field != "use_cp")
    args = [f"algo={algo}", f"preset={table.get('LyCORIS_preset') or 'full'}"] if algo else []
    for field in (*fields, *_LORAPLUS):
        value = table.get(field, next((table[o] for o, n in _OLD.items() if n == field
                                       and o in table), None))  # fmt: skip
        if value in ("", None, False) and not (field in _CONV and _number(value) == 0):
            continue
        if _number(value) == 0 and field not in _CONV:
            continue
        field = {"constrain": "constraint"}.get(field, field)
        if algo == "dylora" and field == "unit":
            field = "block_size"
        if field != "unit" or module == "networks.dylora":
            args.append(f"{field}={value}")
    source.given["network_module"] = Given(module, place)
    if args:
        source.given["network_args"] = Given(args, place)


def _additional(table: Mapping[str, Any], name: str, source: Source) -> None:
    text = str(table.get("additional_parameters") or "")
    try:
        words = shlex.split(text)
    except ValueError:  # The window takes quotes off, wherever they stand.
        words = text.replace('"', "").split()
    more = read_argv(words)
    source.given |= more.given
    place = f"{name}: additional_parameters"
    source.problems += [Problem(f"{place}: {p.where}", p.what, p.hint) for p in more.problems]
