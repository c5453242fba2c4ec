"""What a form of settings is made from: definitions, presets, and the files of other trainers."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict

from lorasmith.config.fields import Setting, settings_of
from lorasmith.config.load import read_toml
from lorasmith.config.optimizers import OPTIMIZERS
from lorasmith.config.presets import preset_names, read_preset
from lorasmith.config.schema import IN_GUIDES, all_settings, sections
from lorasmith.config.sections.data import FolderSettings
from lorasmith.jobs.runs.logs import plain_text, plain_value
from lorasmith.jobs.runs.records import ProblemRecord, problem_records

Input = Literal["number", "integer", "switch", "choice", "text", "path", "list", "table"]


class FormRecord(BaseModel):
    model_config = ConfigDict(frozen=True)


class SettingRecord(FormRecord):
    """One setting.

    Args:
        path: as on the command line, ``optimizer.lr``.
        kind: of value, in words.
        input: what to enter it with; what else than that it may be says ``kind``.
        choices: all that it may be, or, with ``input`` other than "choice", words beside numbers.
        suggestions: some of what it may be.
        optional: whether it may be "none", ``None`` in JSON.
        range: in words; ``low`` and ``high`` are its ends, excluded where ``open_low``,
            ``open_high``.
        default: JSON-ready.
        simple: whether guides name it.
    """

    section: str
    name: str
    path: str
    description: str
    kind: str
    input: Input
    unit: str
    choices: list[str]
    suggestions: list[str]
    optional: bool
    range: str
    low: float | None
    high: float | None
    open_low: bool
    open_high: bool
    default: Any
    why: str
    simple: bool


class SectionRecord(FormRecord):
    name: str
    description: str
    settings: list[SettingRecord]


class SettingsForm(FormRecord):
    """Every setting by section; ``folder`` are those of one of ``data.folders``."""

    sections: list[SectionRecord]
    folder: list[SettingRecord]


class PresetRecord(FormRecord):
    """Settings for a kind of subject; ``summary`` says which, ``values`` are by path, and
    ``explains`` says why they are so."""

    name: str
    summary: str
    explains: str
    values: dict[str, Any]


class ImportNote(FormRecord):
    """What became of one thing in a file.

    Args:
        kind: "setting", or of what became none: "always" done, "dropped", "noted".
        setting: its path, "" of what became none.
        source: as the file has it.
    """

    kind: str
    setting: str
    source: str
    note: str


class ImportedSettings(FormRecord):
    """Settings of a file, by path, JSON-ready; with problems, those that it does have."""

    values: dict[str, Any]
    notes: list[ImportNote]
    problems: list[ProblemRecord]


def settings_form() -> SettingsForm:
    """All settings of a training."""
    return SettingsForm(
        sections=[
            SectionRecord(
                name=name,
                description=" ".join((inspect.getdoc(section) or "").split()),
                settings=[setting_record(item) for item in settings_of(section, name)],
            )
            for name, section in sections().items()
        ],
        folder=[setting_record(item) for item in settings_of(FolderSettings)],
    )


def setting_record(item: Setting) -> SettingRecord:
    """A definition as a form takes it."""
    return SettingRecord(
        section=item.section,
        name=item.name,
        path=item.path,
        description=item.description,
        kind=item.kind,
        input=_input(item),
        unit=item.unit,
        choices=list(item.choices),
        suggestions=list(OPTIMIZERS) if item.path == "optimizer.name" else [],
        optional=item.optional,
        range=item.range,
        low=item.low,
        high=item.high,
        open_low=item.open_low,
        open_high=item.open_high,
        default=_default(item),
        why=item.why,
        simple=item.path in IN_GUIDES,
    )


def _default(item: Setting) -> Any:
    value = item.default
    return str(value) if isinstance(value, Path) else plain_value(value)


def _input(item: Setting) -> Input:
    plain = [kind for kind in item.types if get_origin(kind) is not Literal]
    if item.is_table:
        return "table"
    if item.is_list:
        return "list"
    if not plain:
        return "choice"
    if Path in plain:
        return "path"
    if plain == [bool]:
        return "choice" if item.choices else "switch"
    if float in plain:
        return "number"
    return "integer" if int in plain and str not in plain and len(plain) == 1 else "text"


def presets() -> list[PresetRecord]:
    """All presets."""
    return [
        PresetRecord(
            name=preset.name,
            summary=preset.title,
            explains=preset.explains,
            values=_flat(preset.values),
        )
        for preset in map(read_preset, preset_names())
    ]


def _flat(tables: dict[str, Any]) -> dict[str, Any]:
    """Values by path; a bare text stands for a section's first setting."""
    values: dict[str, Any] = {}
    for name, content in tables.items():
        shorthand = sections()[name].shorthand if name in sections() else None
        if isinstance(content, dict):
            values |= {f"{name}.{key}": plain_value(value) for key, value in content.items()}
        elif shorthand is not None:
            values[f"{name}.{shorthand}"] = plain_value(content)
    return values


def import_settings(path: Path, data: bytes | None = None) -> ImportedSettings:
    """The settings that a file asks for: one of lorasmith's, or what ``lorasmith convert-config``
    reads.

    Args:
        data: what it holds, where it is not on this disk; a LoRA must be.

    Raises:
        SettingsError: it cannot be read, or holds no settings.
    """
    # What reads scripts of other trainers is seldom asked for, and large.
    from lorasmith.importers.convert import convert_here
    from lorasmith.importers.detect import is_lorasmiths, read_file

    if is_lorasmiths(path, data):
        table = read_toml(path, data)
        values = _flat(table)
        unknown = [key for key in values if key not in all_settings()]
        notes = [
            ImportNote(kind="dropped", setting="", source=plain_text(key), note="is not a setting")
            for key in unknown
        ]
        values = {key: one for key, one in values.items() if key not in unknown}
        return ImportedSettings(values=values, notes=notes, problems=[])
    result = convert_here(read_file(path, data), complete=False)
    notes = [
        ImportNote(kind="setting", setting=key, source=plain_text(one.source), note=one.note)
        for key, one in result.settings.items()
    ]
    notes += [
        ImportNote(kind=one.kind, setting="", source=plain_text(one.what), note=plain_text(one.why))
        for one in result.remarks
    ]
    return ImportedSettings(
        values={key: _plain(one.value) for key, one in result.settings.items()},
        notes=notes,
        problems=problem_records(result.problems),
    )


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else plain_value(value)
