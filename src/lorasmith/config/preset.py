"""Presets: settings for a kind of subject, kept as TOML files in the package."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lorasmith.errors import SettingsError

FOLDER = Path(__file__).parent / "presets"


@dataclass(frozen=True, slots=True)
class Preset:
    """
    Args:
        title: what it is for, in a few words.
        explains: why its settings are as they are.
        values: settings by section.
    """

    name: str
    title: str
    explains: str
    values: dict[str, Any]


def preset_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_preset(name: str) -> Preset:
    """
    Raises:
        SettingsError: there is no such preset.
    """
    names = preset_names()
    if name not in names:
        close = get_close_matches(name.lower(), names, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise SettingsError.of(
            "--preset", f"there is no preset {name!r}", f"{hint}there are {', '.join(names)}"
        )
    values = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    about = values.pop("preset")
    return Preset(name, about["title"], about["explains"], values)
