"""Configurations and presets that the kohya_ss window saves as JSON.

It does not pass its fields on as they are: percentages become shares, 0 and empty mean "not given",
and the kind of LoRA becomes a module with arguments. Field names are those of bmaltais/kohya_ss,
``kohya_gui/lora_gui.py`` and ``presets/lora``.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from lorasmith.config.foreign.arguments import ARGUMENTS
from lorasmith.config.foreign.argv import LAUNCHER, read_argv
from lorasmith.config.foreign.result import Given, Remark
from lorasmith.config.foreign.source import Source
from lorasmith.errors import Problem

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
OWN = ("model_list", "LyCORIS_preset", "use_wandb", "lowvram", "no_token_padding", "LoRA_type")

_OTHER_MODELS = (
    *("flux1_", "sd3_", "hunyuan_", "anima_", "lumina_", "t5xxl", "clip_g", "clip_l", "txt_"),
    *("img_", "single_", "double_", "train_double", "train_single", "train_blocks", "ggpo_"),
    *("split_", "timestep_sampling", "discrete_flow_shift", "model_prediction_type", "ae"),
    *("model_type", "guidance_scale", "apply_t5", "train_t5xxl", "blocks_to_swap", "logit_"),
    *("mode_scale", "pos_emb", "save_clip", "save_t5xxl", "weighting_scheme", "in_dims"),
    *("enable_all_linear", "mem_eff_save", "show_timesteps", "train_lora_ggpo"),
)

_LYCORIS = (
    *("conv_dim", "conv_alpha", "module_dropout", "rank_dropout", "rank_dropout_scale"),
    *("use_tucker", "use_cp", "use_scalar", "train_norm", "bypass_mode", "dora_wd", "factor"),
    *("decompose_both", "rescaled", "constrain", "train_on_input", "unit"),
)
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
    "LoCon": ("lycoris.kohya", "locon", _LYCORIS),
    "LyCORIS/LoCon": ("lycoris.kohya", "locon", _LYCORIS),
    "LyCORIS/LoHa": ("lycoris.kohya", "loha", _LYCORIS),
    "LyCORIS/LoKr": ("lycoris.kohya", "lokr", _LYCORIS),
    "LyCORIS/iA3": ("lycoris.kohya", "ia3", ("train_on_input",)),
    "LyCORIS/DyLoRA": ("lycoris.kohya", "dylora", _LYCORIS),
    "LyCORIS/Diag-OFT": ("lycoris.kohya", "diag-oft", _LYCORIS),
    "LyCORIS/BOFT": ("lycoris.kohya", "boft", _LYCORIS),
    "LyCORIS/GLoRA": ("lycoris.kohya", "glora", ()),
    "LyCORIS/Native Fine-Tuning": ("lycoris.kohya", "full", ()),
}  # fmt: skip
"""By kind of LoRA: module, LyCORIS' algorithm, and the fields that it has."""

_RATES = ("learning_rate", "unet_lr", "text_encoder_lr")
_HANDLED = (
    *("epoch", "lr_warmup", "lr_warmup_steps", "xformers", "additional_parameters", "sdxl"),
    *("noise_offset_type", "max_train_epochs", "max_train_steps", "lr_scheduler_num_cycles"),
)


def is_gui_json(table: Mapping[str, Any]) -> bool:
    return "LoRA_type" in table or ("max_resolution" in table and "epoch" in table)


def read_gui_json(table: Mapping[str, Any], name: str) -> Source:
    """The arguments that the window would give to sd-scripts.

    Args:
        name: the file, as messages call it.
    """
    source = Source("a configuration of kohya_ss", sdxl=bool(table.get("sdxl")))
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
        else:
            known = [*ARGUMENTS, *RENAMED, *_HANDLED, *NETWORK]
            close = get_close_matches(field, known, n=1)
            todo = f"did you mean {close[0]}?" if close else "remove it"
            source.problems.append(Problem(f"{name}: {field}", "is not known", todo))
    for rule in (_length, _rates, _schedule, _noise, _attention, _network, _additional):
        rule(table, name, source)
    return source


def _is_empty(field: str, value: Any) -> bool:
    return value in ("", None, False, []) or (_number(value) == 0 and field not in _RATES)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _length(table: Mapping[str, Any], name: str, source: Source) -> None:
    """Epochs before steps; without either, the window works steps out from its epochs."""
    for field, argument in (
        ("max_train_epochs", "max_train_epochs"),
        ("max_train_steps", "max_train_steps"),
        ("epoch", "max_train_epochs"),
    ):
        if not _is_empty(field, table.get(field)):
            source.given[argument] = Given(table[field], f"{name}: {field}")
            return


def _rates(table: Mapping[str, Any], name: str, source: Source) -> None:
    """A rate of 0 beside another that is not 0 leaves that part out; alone it is not given."""
    zero = {field: _number(table.get(field)) == 0 for field in ("unet_lr", "text_encoder_lr")}
    if zero["text_encoder_lr"] and not zero["unet_lr"]:
        place = f"{name}: text_encoder_lr"
        source.given["network_train_unet_only"] = Given(True, place)
    elif zero["unet_lr"] and not zero["text_encoder_lr"] and table.get("text_encoder_lr"):
        source.given["network_train_text_encoder_only"] = Given(True, f"{name}: unet_lr")
    for field in (field for field, is_zero in zero.items() if is_zero):
        source.given.pop(field, None)


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
        # Without a number of cycles the window takes that of the epochs.
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
        close = get_close_matches(kind, TYPES, n=1)
        todo = f"did you mean {close[0]}?" if close else f"there is {', '.join(TYPES)}"
        source.problems.append(Problem(place, f"{kind!r} is not known here", todo))
        return
    module, algo, fields = TYPES[kind]
    args = [f"algo={algo}", f"preset={table.get('LyCORIS_preset') or 'full'}"] if algo else []
    for field in (*fields, *_LORAPLUS):
        value = table.get(field, next((table[o] for o, n in _OLD.items() if n == field
                                       and o in table), None))  # fmt: skip
        if value in ("", None, False) or (_number(value) == 0 and field != "conv_dim"):
            continue
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
    except ValueError:
        place = f"{name}: additional_parameters"
        source.problems.append(Problem(place, "has a quote without its partner", "correct it"))
        return
    more = read_argv(words)
    source.given |= more.given
    source.problems += more.problems
