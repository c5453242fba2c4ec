"""Advice as a settings file: every setting that has an effect, each with its reason and source."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lorasmith.advice.advise.rules import Choice
from lorasmith.advice.advise.sources import DEFAULT, GIVEN
from lorasmith.config.adapter_types import ADAPTERS, having
from lorasmith.config.dump import VERSION, toml_value
from lorasmith.config.fields import NONE, settings_of
from lorasmith.config.schema import TrainSettings, all_settings, sections, value_of
from lorasmith.core.terminal import clean

WIDTH = 100


def settings_text(
    settings: TrainSettings, lines: Mapping[str, Choice], heading: Sequence[str]
) -> str:
    """
    Args:
        settings: as they are to be; lists of folders too.
        lines: the reason of each setting that is written, by path.
        heading: what stands above, without ``#``.
    """
    blocks = ["\n".join([*(_wrapped(line) for line in heading), f"version = {VERSION}"])]
    for name in sections():
        own = [choice for path, choice in lines.items() if path.startswith(f"{name}.")]
        own = [choice for choice in own if choice.setting != "data.folders"]
        if own:
            texts = [text for choice in own for text in _line(choice)]
            blocks.append("\n".join([f"[{name}]", *texts]))
    if (choice := lines.get("data.folders")) is not None:
        blocks += _folders(settings, choice)
    return "\n\n".join(blocks) + "\n"


def _folders(settings: TrainSettings, choice: Choice) -> Iterator[str]:
    for folder in settings.data.folders:
        names = [item for item in settings_of(type(folder)) if item.name in folder.model_fields_set]
        lines = []
        for item in names:
            value = getattr(folder, item.name)
            if item.name == "repeats" and not folder.reg:
                lines += _line(Choice(item.name, value, choice.reason, choice.source))
            else:
                lines += _line(Choice(item.name, value, item.description, GIVEN))
        yield "\n".join(["[[data.folders]]", *lines])


def _line(choice: Choice) -> list[str]:
    """A setting with its reason: behind it where there is room, else above."""
    name = choice.setting.rpartition(".")[2]
    value = NONE if choice.value is None else choice.value
    text = f"{name} = {toml_value(value)}"
    comment = clean(f"{choice.reason} [{choice.source.name}]", lines=False)
    if len(text) + 4 + len(comment) <= WIDTH:
        return [f"{text}  # {comment}"]
    if isinstance(value, list) and len(text) > WIDTH:
        entries = [f"    {toml_value(entry)}," for entry in value]
        return [_wrapped(comment), f"{name} = [", *entries, "]"]
    return [_wrapped(comment), text]


def _wrapped(text: str) -> str:
    if not text:
        return "#"
    indent = "#   " if text.startswith("  ") else "# "
    return textwrap.fill(
        clean(text.strip(), lines=False), WIDTH, initial_indent=indent,
        subsequent_indent=indent, break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip


def written_settings(
    settings: TrainSettings, chosen: Mapping[str, Any], *, regularised: bool
) -> list[str]:
    """The paths of the settings that a file is to have: all but those that are not set, have no
    effect beside the others, or belong to another type of adapter.

    Args:
        chosen: those that have a reason of their own to be there.
        regularised: there are regularisation images.
    """
    facts = ADAPTERS[settings.adapter.type]
    paths = []
    for path, item in all_settings().items():
        if path not in chosen:
            if value_of(settings, path) is None and item.default is None:
                continue
            if path in ("data.folders", "model.defaults"):
                continue
            if item.section == "adapter" and having(item.name) and item.name not in facts.options:
                continue
            if path in EFFECTIVE and not EFFECTIVE[path](settings):
                continue
            if path == "loss.prior_weight" and not regularised:
                continue
        paths.append(path)
    return paths


def _is_huber(s: TrainSettings) -> bool:
    return s.loss.type in ("huber", "smooth_l1")


def _is_masked(s: TrainSettings) -> bool:
    return s.loss.masked != "off"


def _is_validated(s: TrainSettings) -> bool:
    return bool(s.validation.split or s.validation.folder)


EFFECTIVE: dict[str, Callable[[TrainSettings], bool]] = {
    "captions.tag_warmup_min": lambda s: bool(s.captions.tag_warmup_steps),
    "captions.keep_tokens": lambda s: s.captions.shuffle or bool(s.captions.tag_dropout),
    "captions.keep_tokens_separator": lambda s: s.captions.shuffle,
    "captions.secondary_separator": lambda s: s.captions.shuffle,
    "augment.zoom": lambda s: s.augment.random_crop,
    "augment.variants": lambda s: s.augment.draws,
    "adapter.decompose_on_output": lambda s: s.adapter.weight_decompose,
    "adapter.block_lr_zero_threshold": lambda s: s.adapter.blocks is not None,
    "schedule.cycles": lambda s: s.schedule.name == "cosine_with_restarts",
    "schedule.power": lambda s: s.schedule.name == "polynomial",
    "schedule.min_ratio": lambda s: not s.schedule.name.startswith("constant"),
    **dict.fromkeys(("loss.huber_c", "loss.huber_schedule", "loss.huber_scale"), _is_huber),
    "loss.noise_offset_random": lambda s: bool(s.loss.noise_offset),
    "loss.multires_discount": lambda s: bool(s.loss.multires_iterations),
    "loss.input_perturbation_random": lambda s: bool(s.loss.input_perturbation),
    "loss.timestep_mean": lambda s: s.loss.timesteps == "logit_normal",
    "loss.timestep_std": lambda s: s.loss.timesteps == "logit_normal",
    "loss.timestep_power": lambda s: s.loss.timesteps in ("low", "high"),
    **dict.fromkeys(("loss.mask_floor", "loss.mask_normalize", "loss.outside_mask"), _is_masked),
    **dict.fromkeys(
        (
            *("validation.every_epochs", "validation.timesteps", "validation.pictures"),
            "validation.seed",
        ),
        _is_validated,
    ),
    "log.wandb_name": lambda s: bool(s.log.wandb),
}
"""When a setting does something, of those that hang on another one."""


def default_line(path: str, value: Any) -> Choice:
    """Of a setting that is as everywhere: its own reason."""
    return Choice(path, value, all_settings()[path].why, DEFAULT)
