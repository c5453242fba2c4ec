"""What a setting is: one definition with its unit, its range and the reason of its default.

:func:`setting` declares it, :class:`Section` holds it, and :func:`settings_of` reads the definition
back as plain data. Command-line options, messages about mistakes and the reference page are made
from that data.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from lorasmith.core.text import did_you_mean, number_hint

NONE = "none"  # TOML has no null; this text stands for "not set" where that is allowed.

KINDS = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path"}


def setting(
    default: Any,
    description: str,
    *,
    why: str,
    unit: str = "",
    kind: str = "",
    **bounds: float,
) -> Any:
    """A field of a :class:`Section`.

    Args:
        default: the value when nothing is said; ``...`` when one must be given.
        description: what it is, as a phrase without a full stop.
        why: the reason of the default.
        unit: what a number counts ("steps", "pixels").
        kind: the kind of value in words, where the type does not say it well.
        bounds: ``ge``, ``gt``, ``le``, ``lt``: the range that makes sense.
    """
    extra: dict[str, Any] = {"why": why, "unit": unit, "kind": kind}
    limits: dict[str, Any] = dict(bounds)
    return Field(default, description=description, json_schema_extra=extra, **limits)


class Section(BaseModel):
    """One table of the settings file. Unknown keys are errors; values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    shorthand: ClassVar[str | None] = None
    """The field that a bare text stands for: ``model = "demo"`` means ``model.path``."""

    @model_validator(mode="before")
    @classmethod
    def _tidy(cls, values: Any) -> Any:
        """Accept the spellings that people use for one and the same value."""
        if cls.shorthand is not None and isinstance(values, str | Path):
            return {cls.shorthand: values}
        if not isinstance(values, dict):
            return values
        known = {item.name: item for item in settings_of(cls)}
        return {
            key: known[key].tidy(value) if key in known else value for key, value in values.items()
        }


@dataclass(frozen=True, slots=True)
class Setting:
    """The definition of one setting as plain data.

    Args:
        section: the table it stands in, empty when described on its own.
        types: the Python types it may have, without ``None``.
        choices: the texts it is limited to, where it is.
        low, high: the ends of its range; ``open_low`` and ``open_high`` exclude the end itself.
    """

    section: str
    name: str
    kind: str
    types: tuple[Any, ...]
    choices: tuple[str, ...]
    optional: bool
    required: bool
    default: Any
    description: str
    why: str
    unit: str
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    @property
    def path(self) -> str:
        """As written on the command line: ``optimizer.lr``."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def is_text(self) -> bool:
        """Whether every value is a text, so that ``123`` means the text "123"."""
        return all(
            kind in (str, Path)
            or (get_origin(kind) is Literal and isinstance(get_args(kind)[0], str))
            for kind in self.types
        )

    @property
    def is_list(self) -> bool:
        return any(get_origin(kind) is list for kind in self.types)

    @property
    def is_table(self) -> bool:
        return any(get_origin(kind) is dict for kind in self.types)

    @property
    def range(self) -> str:
        """The range in words ("from 0 to below 1"), empty where there is none."""
        parts = []
        if self.low is not None:
            parts.append(f"{'above' if self.open_low else 'from'} {_plain(self.low)}")
        if self.high is not None:
            word = "to below" if self.open_high else "to"
            parts.append(f"{word if parts else word.replace('to', 'up to', 1)} {_plain(self.high)}")
        elif parts and not self.open_low:
            parts.append("upwards")
        return " ".join(parts)

    def is_none(self, text: str) -> bool:
        """Whether a text says that the setting is not set."""
        text = text.strip()
        # Of blocks, NONE is a preset of the web UI's extension: every block at 0.
        return self.optional and (text if self.name == "blocks" else text.lower()) == NONE

    def tidy(self, value: Any) -> Any:
        """Spellings that mean the same: "none", a choice in other letters' case."""
        if (
            isinstance(value, bool)
            and bool not in self.types
            and (int in self.types or float in self.types)
        ):
            return str(value).lower()  # Python takes True for 1; we want "not a number".
        if not isinstance(value, str):
            return value
        if self.is_none(value):
            return None
        choices = (c for kind in self.types if get_origin(kind) is Literal for c in get_args(kind))
        by_lower_case = {str(choice).lower(): choice for choice in choices}
        return by_lower_case.get(value.strip().lower(), value)


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else f"{number:g}"


@functools.cache
def settings_of(section: type[Section], name: str = "") -> tuple[Setting, ...]:
    """The definitions of a section's settings, in the order in which they are declared."""
    return tuple(_describe(name, key, info) for key, info in section.model_fields.items())


def _describe(section: str, name: str, info: FieldInfo) -> Setting:
    extra = info.json_schema_extra
    assert isinstance(extra, dict), f"{section}.{name} was not declared with setting()"
    members, metadata = _members(info.annotation)
    choices = tuple(
        str(text) for kind in members if get_origin(kind) is Literal for text in get_args(kind)
    )
    limits = _limits([*info.metadata, *metadata])
    return Setting(
        section=section,
        name=name,
        kind=str(extra["kind"]) or " or ".join(_kind_words(kind) for kind in members),
        types=tuple(members),
        choices=choices,
        optional=type(None) in _members(info.annotation, keep_none=True)[0],
        required=info.is_required(),
        default=None if info.is_required() else info.get_default(call_default_factory=True),
        description=info.description or "",
        why=str(extra["why"]),
        unit=str(extra["unit"]),
        **limits,
    )


def _members(annotation: Any, *, keep_none: bool = False) -> tuple[list[Any], list[Any]]:
    """The types of a union, ``Annotated`` taken off, and what the annotations said."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        members, more = _members(inner, keep_none=keep_none)
        return members, [*metadata, *more]
    if origin in (Union, types.UnionType):
        pairs = [_members(member, keep_none=keep_none) for member in get_args(annotation)]
        return [m for members, _ in pairs for m in members], [m for _, more in pairs for m in more]
    return ([] if annotation is type(None) and not keep_none else [annotation]), []


def _limits(metadata: list[Any]) -> dict[str, Any]:
    """Bounds among ``Annotated`` metadata, where a nested ``Field`` holds its own list."""
    flat = [
        m for item in metadata for m in (item.metadata if isinstance(item, FieldInfo) else [item])
    ]
    limits: dict[str, Any] = {}
    for item in flat:
        match item:
            case Ge(ge=low):
                limits |= {"low": low}
            case Gt(gt=low):
                limits |= {"low": low, "open_low": True}
            case Le(le=high):
                limits |= {"high": high}
            case Lt(lt=high):
                limits |= {"high": high, "open_high": True}
    return limits


def _kind_words(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        return ", ".join(str(text) for text in get_args(kind))
    if origin is list:
        return "list of texts"
    if origin is dict:
        return "table"
    return KINDS[kind]


def explain(setting: Setting | None, details: Sequence[Any]) -> tuple[str, str]:
    """What is wrong with one value, and what to do about it.

    Args:
        setting: what the value is for; ``None`` where there is no such setting.
        details: of pydantic's error.
    """
    own_words = [detail for detail in details if detail["type"] == "value_error"]
    detail = (own_words or list(details))[0]
    value = detail["input"]
    if own_words:
        pair = setting is not None and setting.kind == "two numbers"
        return str(detail["ctx"]["error"]), "" if pair else number_hint(value)
    if setting is None:
        return "is not known", "leave it out"
    if detail["type"] == "missing":
        return "is missing", ""
    if detail["type"] in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        unit = f" {setting.unit}" if setting.unit and not setting.unit.startswith("share") else ""
        return (
            f"{str(value).strip()} is out of range",
            f"give a {setting.kind} {setting.range}{unit}",
        )
    if detail["type"] == "finite_number":
        return f"{shown(value)} is not a finite number", "give a number"
    if setting.choices and {int, float} & set(setting.types) and isinstance(value, str):
        what = f"{shown(value)} is not a {setting.kind}"
        number = number_hint(value, whole=float not in setting.types)
        return what, number or did_you_mean(value.lower(), setting.choices)
    if setting.choices and isinstance(value, str):
        choices = {choice.lower(): choice for choice in setting.choices}
        names = f"choose from {', '.join(setting.choices)}"
        return (
            f"{shown(value)} is not known",
            f"{did_you_mean(value.lower(), choices)} {names}".lstrip(),
        )
    if setting.kind == "true or false":
        return f"{shown(value)} is neither true nor false", "write true or false"
    article = "" if setting.choices else "a "
    whole = setting.kind.startswith("whole number")
    hint = number_hint(value, whole=whole) if {int, float} & set(setting.types) else ""
    return f"{shown(value)} is not {article}{setting.kind}", hint


def shown(value: Any) -> str:
    """A value as the user wrote it, cut where it is long."""
    text = (
        repr(value)
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
    return text if len(text) <= 80 else f"{text[:77]}…"
