"""Sample prompts: a text, a text with options behind it as in sd-scripts' files, or a table.

``a cat --n dog --w 640 --h 512 --d 3 --s 20 --l 7 --ss euler_a``
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError, model_validator

from lorasmith.config.fields import Section, setting
from lorasmith.config.values import size
from lorasmith.core.rng import MAX_SEED

RANDOM_SEED = -1

SamplerName = Literal[
    "ddim", "plms", "euler", "euler_a", "lms", "heun", "dpm2", "dpm2_a", "dpmpp_2m",
    "dpmpp_2m_karras", "dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_2s_a", "dpmpp_sde", "unipc", "deis",
]  # fmt: skip

# By sd-scripts' letters, the settings of a prompt.
OPTIONS = {
    "n": "negative",
    "w": "width",
    "h": "height",
    "d": "seed",
    "s": "steps",
    "l": "cfg",
    "ss": "sampler",
}
# What sd-scripts has for ControlNet and for models of other families.
_OTHER_FAMILIES = ("cn", "ctr", "g", "rcfg", "fs")
_WHOLE = ("width", "height", "seed", "steps")

_SPLIT = re.compile(r"(?:^|\s)--(?=[A-Za-z])")
_OPTION = re.compile(r"(?P<name>[A-Za-z]\w*)(?:[\s=]\s*(?P<value>.*))?", re.DOTALL)
# `-w 640`, and what word processors make of `--w 640`.
_NEARLY = re.compile(r"(?:^|\s)([-\u2013\u2014](?:w|h|d|s|l|n|ss)[\s=]\s*\S+)", re.IGNORECASE)


@dataclass(slots=True)
class PromptLine:
    """
    Args:
        values: of the settings that it gives, by name, still texts.
        unread: what is not understood, each with the reason.
        cut: options with more than a number, each with the number.
    """

    prompt: str
    values: dict[str, str] = field(default_factory=dict)
    unread: list[tuple[str, str]] = field(default_factory=list)
    cut: list[tuple[str, str]] = field(default_factory=list)


def read_line(text: str) -> PromptLine:
    """Take a line apart. An option reaches to the next `` --``; numbers may have words after them,
    which sd-scripts leaves aside too."""
    prompt, *parts = _SPLIT.split(text)
    line = PromptLine(prompt.strip())
    for part in parts:
        match = _OPTION.match(part)
        assert match is not None, part
        name, value = match["name"].lower(), (match["value"] or "").strip()
        setting_name, shown = OPTIONS.get(name), f"--{part.strip()}"
        if setting_name is None:
            why = "is for other models" if name in _OTHER_FAMILIES else "is not an option"
            line.unread.append((shown, f"{why}; there are {', '.join(f'--{o}' for o in OPTIONS)}"))
            continue
        if setting_name in (*_WHOLE, "cfg"):
            number = re.match(r"-?\d+" if setting_name in _WHOLE else r"\d+(?:\.\d*)?|\.\d+", value)
            if number and number[0] != value:
                line.cut.append((shown, number[0]))
            value = number[0] if number else ""
        if value or setting_name == "negative":
            line.values[setting_name] = value
        else:
            line.unread.append((shown, "has no value that can be read"))
    return line


def has_options(text: str) -> bool:
    """Whether a line is more than its prompt."""
    return len(_SPLIT.split(text)) > 1


def like_options(text: str) -> list[str]:
    """What in a prompt was probably meant as an option, and would be drawn as words."""
    return _NEARLY.findall(text)


class SamplePrompt(Section):
    """One prompt of `sample.prompts` with settings of its own. What it does not say is as in
    [sample]. As a text, `"zorp --n dog --w 640 --h 512 --d 3 --s 20 --l 7 --ss euler_a"`, in
    sd-scripts' letters: negative, width, height, seed, steps, cfg, sampler; as a table,
    `{prompt = "zorp", size = [640, 512], seed = 3}`."""

    prompt: str = setting(..., "what to draw", why="there is nothing to assume")
    negative: str | None = setting(None, "what it should not show", why="as in [sample]")
    width: int | None = setting(
        None,
        "width of the picture; `size` gives both",
        why="as in [sample]",
        unit="pixels",
        ge=16,
        le=4096,
    )
    height: int | None = setting(
        None, "height of the picture", why="as in [sample]", unit="pixels", ge=16, le=4096
    )
    seed: int | None = setting(
        None,
        "its seed; -1 draws with another one each time, which the picture and its name tell",
        why="sample.seed, one more for each prompt",
        ge=RANDOM_SEED,
        le=MAX_SEED,
    )
    steps: int | None = setting(
        None, "sampling steps", why="as in [sample]", unit="steps", ge=1, le=500
    )
    cfg: float | None = setting(None, "guidance scale", why="as in [sample]", ge=0, le=100)
    sampler: SamplerName | None = setting(None, "sampler", why="as in [sample]")
    clip_skip: int | None = setting(
        None, "layer of the text encoder", why="as in [model]", unit="layers", ge=1, le=12
    )

    @model_validator(mode="before")
    @classmethod
    def _read(cls, values: Any) -> Any:
        if isinstance(values, str):
            line = read_line(values)
            wrong = [f"{shown} {why}" for shown, why in line.unread]
            wrong += [f"{shown} is more than the number {value}" for shown, value in line.cut]
            if wrong:
                raise ValueError("; ".join(wrong))
            return {"prompt": line.prompt, **line.values}
        if isinstance(values, Mapping) and "size" in values:
            rest = {key: value for key, value in values.items() if key != "size"}
            side = size(values["size"])
            width, height = side if isinstance(side, tuple) else (side, side)
            return {"width": width, "height": height, **rest}
        return values


def sample_prompts(value: Any) -> Any:
    """A list of texts and :class:`SamplePrompt`; one stands for a list of one."""
    items = [value] if isinstance(value, str | Mapping | SamplePrompt) else value
    if not isinstance(items, list | tuple):
        return items
    prompts, wrong = [], []
    for number, item in enumerate(items, 1):
        try:
            prompts.append(_prompt(item, number))
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        raise ValueError("; ".join(wrong))
    return prompts


def _prompt(item: Any, number: int) -> Any:
    if isinstance(item, SamplePrompt) or not isinstance(item, str | Mapping):
        return item
    if isinstance(item, str) and not has_options(item):
        return item
    try:
        return SamplePrompt.model_validate(item)
    except ValidationError as error:
        raise ValueError("; ".join(_explained(error, number))) from None


def _explained(error: ValidationError, number: int) -> Iterator[str]:
    names = ", ".join(["size", *SamplePrompt.model_fields])
    for detail in error.errors(include_url=False):
        name = ".".join(map(str, detail["loc"][:1]))
        where = f"prompt {number}: {name}" if name else f"prompt {number}"
        if detail["type"] == "extra_forbidden":
            yield f"{where} is not known; a prompt has {names}"
        elif detail["type"] == "missing":
            yield f"{where} is missing"
        elif detail["type"] == "value_error":
            yield f"{where}: {detail['ctx']['error']}"
        else:
            yield f"{where}: {detail['input']!r}: {detail['msg'][:1].lower()}{detail['msg'][1:]}"
