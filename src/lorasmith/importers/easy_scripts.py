"""Configurations of LoRA_Easy_Training_Scripts: its TOML files, and the JSON of its first versions.

Written from its documentation alone: the examples of TOML and the table of arguments in its README.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lorasmith.core.errors import Problem
from lorasmith.core.text import did_you_mean
from lorasmith.importers.conversion import Given, Remark, Source
from lorasmith.importers.sd_scripts.table import ARGUMENTS, near

KIND = "a configuration of LoRA_Easy_Training_Scripts"

_OWN = "it is about that program itself"
_TABLES = ("network_args", "optimizer_args", "lr_scheduler_args")
_OWN_TOML = ("train_mode", "save_toml", "save_toml_location", "tag_occurrence", "queue", "name")

JSON_NAMES = {
    "base_model": "pretrained_model_name_or_path",
    "img_folder": "train_data_dir",
    "output_folder": "output_dir",
    "net_dim": "network_dim",
    "alpha": "network_alpha",
    "scheduler": "lr_scheduler",
    "cosine_restarts": "lr_scheduler_num_cycles",
    "scheduler_power": "lr_scheduler_power",
    "warmup_lr_ratio": "lr_warmup_steps",
    "num_workers": "max_data_loader_n_workers",
    "shuffle_captions": "shuffle_caption",
    "max_steps": "max_train_steps",
    "train_resolution": "resolution",
    "min_bucket_resolution": "min_bucket_reso",
    "max_bucket_resolution": "max_bucket_reso",
    "lora_model_for_resume": "network_weights",
    "test_seed": "seed",
    "gradient_acc_steps": "gradient_accumulation_steps",
    "save_as": "save_model_as",
    "max_clip_token_length": "max_token_length",
    "buckets": "enable_bucket",
    "no_meta": "no_metadata",
    "log_dir": "logging_dir",
    "use_lion": "use_lion_optimizer",
}
_OWN_JSON = (
    *("save_json_folder", "load_json_path", "json_load_skip_list"),
    *("multi_run_folder", "save_json_only", "tag_occurrence_txt_file"),
)


def is_easy_toml(table: Mapping[str, Any]) -> bool:
    return any(
        name.endswith("_args")
        and isinstance(section, Mapping)
        and ({"args", "dataset_args"} & set(section))
        for name, section in table.items()
    ) or ("subsets" in table and "datasets" not in table)


def is_easy_json(table: Mapping[str, Any]) -> bool:
    return "base_model" in table or ("net_dim" in table and "img_folder" in table)


def read_easy_toml(table: Mapping[str, Any], name: str) -> Source:
    """Sections ``[x.args]`` are sd-scripts' arguments, ``[x.dataset_args]`` its data set's."""
    source, general = Source(KIND, tables_in=name), dict[str, Any]()
    for section, content in table.items():
        if section == "subsets":
            continue
        if not isinstance(content, Mapping) or section in _OWN_TOML:
            if section not in _OWN_TOML:
                _unknown(source, name, section, ["subsets"])
            continue
        for part, values in content.items():
            if part == "dataset_args" and isinstance(values, Mapping):
                general |= values
            elif part == "args" and isinstance(values, Mapping):
                for key, value in values.items():
                    _take(source, name, key, value)
            else:
                _unknown(source, f"{name}: {section}", part, ["args", "dataset_args"])
    subsets = table.get("subsets", [])
    if isinstance(subsets, list) and all(isinstance(each, Mapping) for each in subsets):
        named = [{key: value for key, value in each.items() if key != "name"} for each in subsets]
        source.tables = {"general": general, "datasets": [{"subsets": named}]}
    else:
        _unknown(source, name, "subsets", ["[[subsets]] tables"])
    _choose_module(source, name)
    return source


def _take(source: Source, name: str, key: str, value: Any) -> None:
    place = f"{name}: {key}"
    if key == "sdxl":
        source.sdxl = bool(value)
    elif key == "warmup_ratio":
        source.given["lr_warmup_steps"] = Given(value, place)
    elif key in _OWN_TOML:
        source.remarks.append(Remark("dropped", f"{key} {value}", _OWN))
    elif key in ARGUMENTS:
        source.given[key] = Given(value, place)
    else:
        source.problems.append(Problem(place, "is not an argument of sd-scripts", near(key)))


def _unknown(source: Source, where: str, key: str, known: list[str]) -> None:
    hint = did_you_mean(key, known, f"expected {' or '.join(known)}")
    source.problems.append(Problem(f"{where}: {key}", "is not known in this place", hint))


def _choose_module(source: Source, name: str) -> None:
    """The files do not name the module: the algorithm does."""
    given = source.given.get("network_args")
    args = given.raw if given is not None and isinstance(given.raw, Mapping) else {}
    algo = str(args.get("algo", "lora")).lower()
    module = "networks.dylora" if "unit" in args else "networks.lora"
    if algo == "lora" and given is not None:
        plain = {key: value for key, value in args.items() if key != "algo"}
        source.given["network_args"] = Given(plain, given.where)
    elif algo != "lora":
        module = "lycoris.kohya"
    source.given.setdefault("network_module", Given(module, f"{name}: network_args"))


def read_easy_json(table: Mapping[str, Any], name: str) -> Source:
    """The JSON of the first versions: names of its own for what are sd-scripts' arguments."""
    source = Source(KIND)
    for key, value in table.items():
        if value in (None, "", False, []):
            continue
        argument = JSON_NAMES.get(key, key)
        if key in _OWN_JSON:
            source.remarks.append(Remark("dropped", f"{key} {value}", _OWN))
        elif argument in ARGUMENTS:
            source.given[argument] = Given(value, f"{name}: {key}")
        else:
            hint = did_you_mean(key, [*JSON_NAMES, *ARGUMENTS], "remove it")
            source.problems.append(Problem(f"{name}: {key}", "is not known", hint))
    # It gave this rate where there was none, as its README says.
    source.given.setdefault("learning_rate", Given(1e-3, f"{name}: learning_rate"))
    source.given.setdefault("network_module", Given("networks.lora", name))
    return source
