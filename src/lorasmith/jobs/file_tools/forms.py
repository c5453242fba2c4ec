"""The tools for LoRA files as forms: fields from their requests, and the command of what is filled
in. No torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

from lorasmith.config.fields import Setting, settings_of
from lorasmith.jobs.file_tools.figures import ToolRequest
from lorasmith.jobs.forms import FormRecord, SettingRecord, setting_record
from lorasmith.jobs.lora_files import (
    BakeRequest,
    ConvertRequest,
    ExtractRequest,
    MergeRequest,
    ResizeRequest,
)
from lorasmith.jobs.request import JobRequest, option_name, shown_as
from lorasmith.lora_tools.inputs import split_source

Verb = Literal["resize", "merge", "extract", "bake", "convert"]
Names = Literal["", "file", "new", "model", "loras"]
Place = Callable[[Names, str], str]
"""Given what a text names, and the text, where that is."""

TOOLS: dict[Verb, type[ToolRequest]] = {
    "resize": ResizeRequest,
    "merge": MergeRequest,
    "extract": ExtractRequest,
    "bake": BakeRequest,
    "convert": ConvertRequest,
}
AT_ONCE: frozenset[Verb] = frozenset({"resize", "merge", "convert"})
"""What takes seconds for most files, and needs no base model."""

_NAMES: dict[str, Names] = {
    "source": "file", "preview": "file", "out": "new", "model": "model", "base": "model",
    "tuned": "model", "sources": "loras",
}  # fmt: skip
_FIRST = {
    "resize": ("rank", "retain", "size_mb"),
    "merge": ("method", "rank"),
    "extract": ("rank", "retain", "type"),
    "bake": (),
    "convert": ("to", "preview"),
}


class ToolField(SettingRecord):
    """An option of a tool.

    Args:
        flag: as the command line and messages call it: ``--rank``, ``OUT``.
        required: it must be said.
        default_text: what holds where nothing is said and the default does not say it.
        names: what it names: a "file" to read, a "new" file, a "model", "loras" each with its
            strengths; "" of what is no path.
    """

    flag: str
    required: bool
    default_text: str
    names: Names


class ToolForm(FormRecord):
    """
    Args:
        at_once: it is quick enough to be waited for.
        fields: ``simple`` are those that most people set.
    """

    verb: Verb
    description: str
    at_once: bool
    fields: list[ToolField]


def tool_forms() -> list[ToolForm]:
    """Of every tool that writes a file."""
    return [
        ToolForm(
            verb=verb,
            description=inspect.getdoc(request) or "",
            at_once=verb in AT_ONCE,
            fields=[
                option_field(request, item, _NAMES.get(item.name, ""), item.name in _FIRST[verb])
                for item in settings_of(request)
                if item.name != "dry_run"
            ],
        )
        for verb, request in TOOLS.items()
    ]


def option_field(request: type[JobRequest], item: Setting, names: Names, first: bool) -> ToolField:
    """An option as a form has it.

    Args:
        first: most people set it.
    """
    record = setting_record(item).model_dump()
    return ToolField(
        **record | {"simple": item.required or first},
        flag=option_name(request, item.name),
        required=item.required,
        default_text=shown_as(request, item.name)["default_text"],
        names=names,
    )


def tool_request(
    verb: Verb,
    values: Mapping[str, Any],
    *,
    dry_run: bool,
    place: Place = lambda names, text: text,
) -> ToolRequest:
    """The request of a form.

    Args:
        values: by field; ``None`` and "" leave one as it is by itself.
        place: may raise a UserError.

    Raises:
        SettingsError: with everything that is wrong, each under its field's name.
    """
    return TOOLS[verb].read({**placed(values, _NAMES, place), "dry_run": dry_run})


def given_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of a form, without what leaves a field as it is by itself."""
    return {name: value for name, value in values.items() if value not in (None, "", [])}


def placed(values: Mapping[str, Any], names: Mapping[str, Names], place: Place) -> dict[str, Any]:
    """The given values of a form, with the paths and models that they name in their places.

    Args:
        names: what fields name.
    """

    def at(kind: Names, text: str) -> str:
        if kind != "loras":
            return place(kind, text)
        # Where the path ends must not hang on which files there are: one may lie outside.
        path, specs = split_source(text, is_file=lambda name: False)
        return ":".join([place("loras", str(path)), *specs])

    found = given_values(values)
    for name, kind in names.items():
        match found.get(name):
            case None:
                continue
            case list(several):
                found[name] = [at(kind, str(each)) for each in several]
            case value:
                found[name] = at(kind, str(value))
    return found
