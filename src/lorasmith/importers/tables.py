"""TOML and JSON files of other programs, read as tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lorasmith.core.errors import SettingsError
from lorasmith.core.files import parse_json, parse_toml


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
