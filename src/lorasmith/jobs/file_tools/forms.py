"""The tools for LoRA files as forms: fields from their requests, and the command of what is filled
in. No torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from lorasmith.config.fields import Setting, settings_of
from lorasmith.core.errors import Problem, UserError
from lorasmith.core.file_names import shell_word
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
    place: Callable[[Names, str], str] = lambda names, text: text,
) -> ToolRequest:
    """The request of a form.

    Args:
        values: by field; ``None`` and "" leave one as it is by itself.
        place: given what a path is of and the path, where it is; may raise a UserError.

    Raises:
        SettingsError: with everything that is wrong, each under its field's name.
    """
    kind = TOOLS[verb]
    found: dict[str, Any] = {}
    for name, value in values.items():
        if value in (None, "", []):
            continue
        names = _NAMES.get(name, "")
        if names == "loras" and isinstance(value, list):
            found[name] = [_placed(str(each), place) for each in value]
        else:
            found[name] = place(names, str(value)) if names else value
    return kind.read({**found, "dry_run": dry_run})


def _placed(text: str, place: Callable[[Names, str], str]) -> str:
    # Where the path ends must not hang on which files there are: one may lie outside.
    path, specs = split_source(text, is_file=lambda name: False)
    return ":".join([place("loras", str(path)), *specs])


def words_of(request: JobRequest) -> list[str]:
    """The command after ``lorasmith``; a dry run's is that of the real one."""
    kind = type(request)
    words, options = [], []
    for item in settings_of(kind):
        value = getattr(request, item.name)
        if item.name == "dry_run" or not request.given(item.name):
            continue
        if not item.required and value == item.default:
            continue
        each = list(map(str, value)) if isinstance(value, list) else [str(value)]
        flag = option_name(kind, item.name)
        if shown_as(kind, item.name)["positional"]:
            words += each
        elif value is True:
            options.append(flag)
        else:
            for text in each:
                options += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    if any(word.startswith("-") for word in words):
        return [request.verb, *options, "--", *words]
    return [request.verb, *words, *options]


def command_line(request: JobRequest) -> str:
    """What does the same in a shell."""
    return " ".join(map(shell_word, ["lorasmith", *words_of(request)]))


def inspect_line(path: Path) -> str:
    words = ["lorasmith", "inspect", *(["--"] if str(path).startswith("-") else []), str(path)]
    return " ".join(map(shell_word, words))


def named_fields(verb: Verb, error: UserError) -> list[Problem]:
    """An error's problems, under the names of the fields that they are about."""
    kind = TOOLS[verb]
    fields = {option_name(kind, name): name for name in kind.model_fields}
    return [
        Problem(fields.get(each.where, each.where), each.what, each.hint)
        for each in dict.fromkeys(error.problems)
    ]
