"""Presets: settings for a kind of subject, kept as TOML files in the package.

A file's ``[preset]`` table tells what it is for and why its settings are as they are; the rest is a
settings file. A comment behind a setting is the preset's own reason for it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lorasmith.config.checks import table as checks
from lorasmith.config.messages import to_problems
from lorasmith.config.schema import TrainSettings, all_settings
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.files import parse_toml

FOLDER = Path(__file__).parent / "presets"

WIDTH = 100


@dataclass(frozen=True, slots=True)
class Preset:
    """
    Args:
        title: what it is for, in a few words.
        explains: why its settings are as they are.
        values: settings by section.
        text: the file's own.
    """

    name: str
    title: str
    explains: str
    values: dict[str, Any]
    text: str


def preset_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_preset(name: str) -> Preset:
    """
    Raises:
        SettingsError: there is no such preset, or a setting in it is wrong.
    """
    names = preset_names()
    if name not in names:
        near = _near(name, names)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise SettingsError.of(
            "--preset", f"there is no preset {name!r}", f"{hint}there are {', '.join(names)}"
        )
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    values = parse_toml(text)
    about = values.pop("preset")
    _check(name, values)
    return Preset(name, about["title"], about["explains"].strip(), values, text)


def _near(name: str, names: list[str]) -> list[str]:
    """Names that are spelled alike, else those that have a word of it, else such titles."""
    slug = name.strip().lower().replace("_", "-")
    if close := get_close_matches(slug, names, n=1):
        return close
    words = [word for word in re.split(r"\W+", slug) if len(word) > 1]
    by_name = [each for each in names if any(w in each or each in w for w in words)]
    if by_name:
        return by_name
    titles = {each: read_preset(each).title.lower() for each in names}
    return [each for each, title in titles.items() if any(w in title for w in words)]


def _check(name: str, values: dict[str, Any]) -> None:
    """Raises SettingsError where the preset does not fit the settings as they are now."""
    try:
        problems = checks.contradictions(TrainSettings.model_validate(values))
    except ValidationError as error:
        problems = list(to_problems(error, {}).values())
    if problems:
        where = f"preset {name}: "
        raise SettingsError(Problem(where + p.where, p.what, p.hint) for p in problems)


def explained(preset: Preset) -> str:
    """The preset as a settings file with a comment to each line; reading it gives its values.

    The comment is the preset's own reason, else what the setting is.
    """
    heading = [f"# lorasmith train --preset {preset.name}", "#", f"# {preset.title}.", "#"]
    heading += textwrap.wrap(
        preset.explains, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )
    return "\n".join([*heading, *_commented(preset.text), ""])


def _commented(text: str) -> Iterator[str]:
    section, is_shown = "", False
    # Strings over several lines are in the [preset] table alone, which is told above.
    for line in re.sub(r'"""(.|\n)*?"""', '""', text).splitlines():
        if header := re.fullmatch(r"\[([\w.]+)\]", line.strip()):
            section = header[1]
            is_shown = section.partition(".")[0] != "preset"
            if is_shown:
                yield ""
                yield line
        elif is_shown and line.strip():
            yield from _line(section, line)


def _line(section: str, line: str) -> list[str]:
    key = line.partition("=")[0].strip()
    if "#" in line or not key:
        return [line]
    setting = all_settings().get(f"{section}.{key}")
    # Tables within a section are arguments of what it names.
    comment = setting.description if setting is not None else "argument of the optimizer"
    if len(line) + 4 + len(comment) <= WIDTH:
        return [f"{line}  # {comment}"]
    return [
        *textwrap.wrap(comment, WIDTH, initial_indent="# ", subsequent_indent="# "),
        line,
    ]
