"""pydantic's validation errors in the words of someone who writes a settings file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from lorasmith.config.fields import Setting, explain, settings_of, shown
from lorasmith.config.optimizers import OPTIMIZERS
from lorasmith.config.schema import FOLDER_TABLES, all_settings, sections
from lorasmith.config.sections.data import FolderSettings
from lorasmith.core.errors import Problem
from lorasmith.core.text import did_you_mean

Location = tuple[int | str, ...]

FOREIGN_NAMES = {
    "alpha": "adapter.alpha",
    "blank_prompt_preservation": "preservation.empty_share",
    "bucket_no_upscale": "buckets.upscale",
    "bucket_reso_steps": "buckets.step",
    "caption_dropout_rate": "captions.dropout",
    "caption_extension": "captions.extension",
    "caption_separator": "captions.separator",
    "caption_tag_dropout_rate": "captions.tag_dropout",
    "color": "augment.colour",
    "color_aug": "augment.colour",
    "conv_dim": "adapter.conv_rank",
    "crop_aug": "augment.slices",
    "diff_output_preservation": "preservation.enabled",
    "diff_output_preservation_class": "preservation.class_word",
    "diff_output_preservation_multiplier": "preservation.weight",
    "dim": "adapter.rank",
    "enable_bucket": "buckets.enabled",
    "face_crop_aug_range": "augment.face_crop",
    "flip_aug": "augment.flip",
    "gradient_accumulation_steps": "train.accumulation",
    "learning_rate": "optimizer.lr",
    "lr_scheduler": "schedule.name",
    "lr_scheduler_min_lr_ratio": "schedule.min_ratio",
    "lr_scheduler_num_cycles": "schedule.cycles",
    "lr_scheduler_power": "schedule.power",
    "lr_scheduler_timescale": "schedule.timescale",
    "lr_warmup": "schedule.warmup",
    "lr_warmup_steps": "schedule.warmup",
    "max_bucket_reso": "buckets.max",
    "max_token_length": "model.max_tokens",
    "max_train_epochs": "train.epochs",
    "max_train_steps": "train.steps",
    "min_bucket_reso": "buckets.min",
    "mixed_precision": "train.precision",
    "network_alpha": "adapter.alpha",
    "network_dim": "adapter.rank",
    "network_dropout": "adapter.dropout",
    "network_weights": "adapter.init_from",
    "num_epochs": "train.epochs",
    "num_repeats": "data.folders (repeats)",
    "optimizer_args": "optimizer.args",
    "optimizer_type": "optimizer.name",
    "output_dir": "save.output",
    "output_name": "save.name",
    "pretrained_model_name_or_path": "model.path",
    "prior_loss_weight": "loss.prior_weight",
    "random_crop": "augment.random_crop",
    "reg_data_dir": "data.reg",
    "reg_dir": "data.reg",
    "save_every_n_epochs": "save.every_epochs",
    "save_every_n_steps": "save.every_steps",
    "save_precision": "save.precision",
    "shuffle_caption": "captions.shuffle",
    "te_lr": "optimizer.text_encoder_lr",
    "token_warmup_min": "captions.tag_warmup_min",
    "token_warmup_step": "captions.tag_warmup_steps",
    "train_batch_size": "train.batch",
    "batch_size": "train.batch",
    "train_data_dir": "data.path",
    "training_comment": "save.comment",
    "trigger_word": "captions.trigger",
    "validate_every_n_epochs": "validation.every_epochs",
    "validate_every_n_steps": "validation.every_steps",
    "validation_seed": "validation.seed",
    "validation_split": "validation.split",
}
"""What other trainers call our settings, for the hint beside an unknown name."""


def to_problems(error: ValidationError, where: Mapping[str, str]) -> dict[str, Problem]:
    """One problem per setting, under the setting's path.

    Args:
        where: how to name the place of a path to the user, from :func:`place`'s table.
    """
    by_path: dict[str, list[Any]] = {}
    for detail in error.errors(include_url=False):
        by_path.setdefault(_path(detail["loc"]), []).append(detail)
    return {
        path: Problem(place(path, where), *_explain(path, details))
        for path, details in by_path.items()
    }


def place(path: str, origins: Mapping[str, str]) -> str:
    """``run.toml: optimizer.lr``, ``--set optimizer.lr`` or ``--data``: where a value came from."""
    parts = path.replace("[", ".[").split(".")
    # No section lies as deep as 20; a name of thousands of parts is a mistake, told as a whole.
    lengths = (len(parts), *range(min(len(parts) - 1, 20), 0, -1))
    prefixes = [".".join(parts[:n]).replace(".[", "[") for n in lengths]
    origin = next((origins[prefix] for prefix in prefixes if prefix in origins), "")
    if not origin:
        # An unknown or unfinished section: whatever lies below it tells where it was written.
        below = (origins[key] for key in origins if key.startswith(f"{path}."))
        origin = next(below, "")
    if origin == "--set":
        return f"--set {path}"
    if origin.startswith("--"):
        return origin
    return f"{origin}: {path}" if origin else path


def _path(loc: Location) -> str:
    """The setting that a pydantic location lies in; union branches and validators cut off."""
    if loc[:2] == ("data", "folders") and len(loc) > 2:
        deep = len(loc) > 4 and loc[3] in FOLDER_TABLES
        return ".".join([f"data.folders[{int(loc[2]) + 1}]", *map(str, loc[3 : 5 if deep else 4])])
    return ".".join(str(part) for part in loc[:2])


def _setting(path: str) -> Setting | None:
    if path.startswith("data.folders[") and "." in path.removeprefix("data."):
        table, _, name = path.partition("].")[2].rpartition(".")
        if table:
            return all_settings().get(f"{table}.{name}")
        return next((item for item in settings_of(FolderSettings) if item.name == name), None)
    return all_settings().get(path)


def _explain(path: str, details: Sequence[Any]) -> tuple[str, str]:
    """What is wrong with a setting of a run, and what to do about it."""
    kinds, setting = {detail["type"] for detail in details}, _setting(path)
    if "value_error" not in kinds:
        value = details[0]["input"]
        if details[0]["type"] == "extra_forbidden":
            return _unknown(path, value)
        if details[0]["type"] == "missing":
            return "is missing", f"add {path.rpartition('.')[2]} = …"
        if setting is None:
            name = path.partition("[")[0]
            example = f"[[{name}]]" if "[" in path else f"[{name}]"
            return (
                f"{shown(value)} stands where a table belongs",
                f"write {example} and its settings below",
            )
    what, hint = explain(setting, details)
    switch = f"{path.partition('.')[0]}.enabled"
    if "greater_than" in kinds and details[0]["input"] == 0 and switch in all_settings():
        hint = f"to switch it off: {switch} = false"
    return what, hint


def _unknown(path: str, value: Any) -> tuple[str, str]:
    """An unknown name, and the known one that is likeliest meant."""
    section, _, name = path.rpartition(".")
    if not section and isinstance(value, dict):
        names = f"the sections are {', '.join(sections())}"
        return "is not a section", did_you_mean(name, list(sections()), names, form="[{}]")
    if section.startswith("data.folders[") and section.endswith("]"):
        folder_settings = sorted(item.name for item in settings_of(FolderSettings))
        return "is not a known setting", did_you_mean(
            name, folder_settings, f"a folder has {', '.join(folder_settings)}"
        )
    section = section.rpartition("].")[2]  # Of a folder's own table: what the run's has.
    return "is not a known setting", suggestion(section, name)


def suggestion(section: str, name: str) -> str:
    """What someone who wrote ``name`` into ``section`` (may be empty) is likeliest to mean."""
    settings = all_settings()
    in_section = [item.name for item in settings.values() if item.section == section]
    elsewhere = [path for path, item in settings.items() if item.name == name]
    # A slip of one letter in the section that was named, before the same name elsewhere.
    alike = [one for one in in_section if abs(len(one) - len(name)) <= 1]
    if elsewhere and (slip := did_you_mean(name, alike, cutoff=0.85, form=f"{section}.{{}}")):
        return slip
    if len(elsewhere) == 1:
        return f"{name} belongs to [{elsewhere[0].partition('.')[0]}]"
    if any(name in (facts.args or ()) for facts in OPTIMIZERS.values()):
        return "it is an argument of an optimizer: write it in optimizer.args"
    if name in FOREIGN_NAMES:
        return f"it is called {FOREIGN_NAMES[name]} here"
    if near := did_you_mean(name, in_section, cutoff=0.7, form=f"{section}.{{}}"):
        return near
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    first = {item.name: path for path, item in reversed(settings.items())}
    names = f"[{section}] has {', '.join(in_section)}" if in_section else ""
    otherwise = names or f"settings stand in sections: {', '.join(sections())}"
    return did_you_mean(name, first, otherwise, cutoff=0.75)
