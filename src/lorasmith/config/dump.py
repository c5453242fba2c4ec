"""Settings to TOML. Reading the text back gives equal settings."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from lorasmith.config.fields import NONE, Section, settings_of
from lorasmith.config.schema import TrainSettings, sections
from lorasmith.core.terminal import escaped

VERSION = 2
"""Of the settings file's form; :mod:`lorasmith.config.load` brings older ones up to it."""


def dump_toml(
    settings: TrainSettings, *, base: Path | None = None, only: Container[str] | None = None
) -> str:
    """Every setting as it is, defaults too; what is not set is left out.

    Args:
        only: the paths of those to write, such as what was given; in place of all.
        base: write paths from the root, so that the file means the same in every folder; this is
            the one that relative paths are in. Otherwise they stay as given.
    """
    blocks = [f"version = {VERSION}\n"]
    for name in sections():
        section: Section = getattr(settings, name)
        wanted = [
            item.name
            for item in settings_of(type(section))
            if item.name != "folders" and (only is None or f"{name}.{item.name}" in only)
        ]
        if wanted:
            blocks.append("\n".join([f"[{name}]", *_lines(section, wanted, base)]) + "\n")
    for folder in settings.data.folders:
        names = [item.name for item in settings_of(type(folder))]
        lines = _lines(folder, names, base)
        blocks.append("\n".join(["[[data.folders]]", *lines]) + "\n")
    return "\n".join(blocks)


def _lines(section: Section, names: Container[str], base: Path | None) -> list[str]:
    lines = []
    for item in settings_of(type(section)):
        if item.name not in names:
            continue
        value = getattr(section, item.name)
        if value is None:
            if item.default is None and item.name not in section.model_fields_set:
                continue
            value = NONE
        if isinstance(value, Section):  # A folder's own: what it does not say is the run's.
            values = value.model_dump(exclude_unset=True)
            value = {key: NONE if one is None else one for key, one in values.items()}
        if base is not None:
            value = _from_root(base.absolute(), item.name, value)
        lines.append(f"{item.name} = {toml_value(value)}")
    return lines


def _from_root(base: Path, name: str, value: Any) -> Any:
    # model.path is a text that may name a file, a hub id or the demo model.
    if isinstance(value, Path) or (
        name == "path" and isinstance(value, str) and value != "demo" and (base / value).exists()
    ):
        return base / value
    return value


def toml_value(value: Any) -> str:
    """One value in TOML's syntax."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        # JSON's escapes are TOML's, which wants DEL escaped too.
        return escaped(json.dumps(str(value), ensure_ascii=False))
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, Section):
        value = value.model_dump(exclude_unset=True, exclude_none=True)
    if isinstance(value, Mapping):
        pairs = (f"{_key(str(key))} = {toml_value(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    assert value is None, f"{type(value)} has no form in TOML"
    return toml_value("None")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)
