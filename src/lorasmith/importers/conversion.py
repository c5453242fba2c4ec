"""What a reader finds in another program's file, and the settings that it becomes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lorasmith.config.dump import VERSION, toml_value
from lorasmith.config.fields import NONE
from lorasmith.config.load import Override, refuse_picture
from lorasmith.config.schema import all_settings
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.files import parse_json, parse_toml


@dataclass(frozen=True, slots=True)
class Given:
    """One argument as someone wrote it.

    Args:
        raw: a text from a command line, or a value from TOML or JSON.
        where: ``--network_dim`` or ``run.json: network_dim``: how messages name its place.
        is_content: ``raw`` is what the file that the argument names would hold.
    """

    raw: Any
    where: str
    is_content: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """An argument that became no setting: done ``always``, ``dropped``, or ``noted`` in general."""

    kind: Literal["always", "dropped", "noted"]
    what: str
    why: str


@dataclass(slots=True)
class Source:
    """
    Args:
        kind: what it was, as people call it.
        given: arguments by sd-scripts' names.
        sdxl: they are for SDXL.
        problems: what could not be read.
        remarks: what was read and is no argument.
        incomplete: part of it is among the problems, so nothing else can be called missing.
        tables: data sets that stand in the file itself, as ``--dataset_config`` would hold them.
        tables_in: that file, as messages call it.
        partial: it says only what it changes of another file, so no default is meant.
        untold: settings that it can say nothing of, so that none of sd-scripts' defaults is meant.
    """

    kind: str
    given: dict[str, Given] = field(default_factory=dict)
    sdxl: bool = False
    problems: list[Problem] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    incomplete: bool = False
    tables: dict[str, Any] | None = None
    tables_in: str = "datasets"
    partial: bool = False
    untold: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Derived:
    """One setting's value.

    Args:
        source: the arguments that it comes from, as written, or sd-scripts' default.
        origin: its place, for messages about the setting.
        note: what was done on the way, where the value is not simply the argument's.
    """

    value: Any
    source: str
    origin: str
    note: str = ""


@dataclass(slots=True)
class Conversion:
    """
    Args:
        settings: path -> value, in the order of the settings.
        problems: what cannot be honoured or is wrong; with any of them nothing should be trained.
    """

    settings: dict[str, Derived] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def values(self) -> dict[str, Any]:
        return {path: setting.value for path, setting in self.settings.items()}

    def overrides(self) -> list[Override]:
        """The settings as :func:`lorasmith.config.load.load_settings` takes them."""
        return [
            Override(
                path, NONE if setting.value is None else toml_value(setting.value), setting.origin
            )
            for path, setting in self.settings.items()
        ]

    def sort(self) -> None:
        order = {path: place for place, path in enumerate(all_settings())}
        self.settings = dict(sorted(self.settings.items(), key=lambda item: order[item[0]]))

    def by_section(self) -> Iterator[tuple[str, Mapping[str, Derived]]]:
        """(``adapter``, {``rank``: …}) in order."""
        sections: dict[str, dict[str, Derived]] = {}
        for path, setting in self.settings.items():
            section, _, name = path.partition(".")
            sections.setdefault(section, {})[name] = setting
        yield from sections.items()


_TITLES = {
    "noted": "To know:",
    "always": "Done in any case:",
    "dropped": "Not carried over:",
}


def conversion_lines(result: Conversion) -> Iterator[str]:
    """For people: every setting with what it comes from, and every remark."""
    yield "sd-scripts' arguments as settings:"
    lines = [
        (f"{path} = {toml_value(NONE if setting.value is None else setting.value)}", setting)
        for path, setting in result.settings.items()
    ]
    width = min(48, max((len(text) for text, _ in lines), default=0))
    for text, setting in lines:
        note = f"  ({setting.note})" if setting.note else ""
        yield f"  {text:<{width}}  <- {setting.source}{note}"
    yield from remark_lines(result)


def remark_lines(result: Conversion) -> Iterator[str]:
    """For people: every remark under its title."""
    for title, remarks in _remarks_by_title(result):
        yield title
        yield from (f"  {remark}" for remark in remarks)


def _remarks_by_title(result: Conversion) -> Iterator[tuple[str, list[str]]]:
    for kind, title in _TITLES.items():
        remarks = [f"{each.what}: {each.why}" for each in result.remarks if each.kind == kind]
        if remarks:
            yield title, remarks


def to_toml(result: Conversion, heading: str) -> str:
    """The settings file; with problems left in it as comments.

    Args:
        heading: what it was made of, one line.
    """
    blocks = ["\n".join(_introduction(result, heading)), f"version = {VERSION}"]
    folders: list[str] = []
    for section, settings in result.by_section():
        lines = [f"[{section}]"]
        for name, setting in settings.items():
            if name == "folders":
                folders = [_folder(each, setting) for each in setting.value]
            else:
                value = NONE if setting.value is None else setting.value
                lines.append(f"{name} = {toml_value(value)}  # {_comment(setting)}")
        if len(lines) > 1:
            blocks.append("\n".join(lines))
        if section == "data":
            blocks += folders
    return "\n\n".join(blocks) + "\n"


def _folder(values: dict[str, object], setting: Derived) -> str:
    lines = [f"[[data.folders]]  # {_comment(setting)}"]
    return "\n".join([*lines, *(f"{key} = {toml_value(value)}" for key, value in values.items())])


def _comment(setting: Derived) -> str:
    return _one_line(f"{setting.source} ({setting.note})" if setting.note else setting.source)


def _introduction(result: Conversion, heading: str) -> Iterator[str]:
    yield f"# {_one_line(heading)}"
    groups = [("Refused, and not in this file:", [str(each) for each in result.problems])]
    groups += _remarks_by_title(result)
    for title, lines in groups:
        if lines:
            yield "#"
            yield f"# {title}"
            yield from (f"#   {_one_line(line)}" for line in lines)


def _one_line(text: str) -> str:
    """A comment must not end early, nor hold what TOML does not allow in one."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)


def read_text(path: Path, *, code_page: str | None = None) -> str:
    """A text file in UTF-8, or in UTF-16 as Windows PowerShell writes it.

    Args:
        code_page: what it is read as where it is neither; bytes that mean nothing there become
            U+FFFD.

    Raises:
        SettingsError: there is none, or it is no text.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: the name holds a zero byte.
        what = "there is no such file" if not os.path.exists(path) else "cannot be read"
        raise SettingsError.of(path, what, "give the path of a file") from error
    return decode_text(path, data, code_page=code_page)


def decode_text(path: Path, data: bytes, *, code_page: str | None = None) -> str:
    """:func:`read_text` for what a file holds; ``path`` is what messages call it."""
    refuse_picture(path, data)
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if code_page and encoding != "utf-16" and b"\0" not in data:
            return data.decode(code_page, errors="replace")
        raise SettingsError.of(path, "is not text in UTF-8", "save it as UTF-8") from error


def read_table(path: Path) -> dict[str, Any]:
    """A TOML file, or a JSON file where the name says so.

    Raises:
        SettingsError: it cannot be read, or holds no table.
    """
    text = read_text(path)
    try:
        table = parse_json(text) if path.suffix.lower() == ".json" else parse_toml(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise SettingsError.of(path, f"is not {kind}: {error}", "correct it") from error
    if not isinstance(table, dict):
        raise SettingsError.of(path, "holds no table", "give a file of settings")
    return table
