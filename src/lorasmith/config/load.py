"""Settings from presets, a TOML file and the command line; later ones win.

Paths in a TOML file are relative to the folder in which the command is run, like those on the
command line, so that a file can be moved without changing what it means.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lorasmith.config.checks import table as checks
from lorasmith.config.checks.table import missing_data
from lorasmith.config.dump import VERSION, dump_toml
from lorasmith.config.fields import Setting
from lorasmith.config.messages import place, to_problems
from lorasmith.config.presets import read_preset
from lorasmith.config.schema import TrainSettings, all_settings, sections
from lorasmith.config.values import AUTO, optimizer_args
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.core.files import parse_toml
from lorasmith.core.text import did_you_mean

__all__ = ["Override", "dump_toml", "load_settings"]


def _nothing_found_out(values: dict[str, Any]) -> dict[str, Any]:
    """Of before triggers were found and put in front of captions, base models said what suits
    them, and their output was kept by default."""
    captions, model = values.get("captions", {}), values.get("model", {})
    if isinstance(captions, dict):
        captions = {"trigger_in_front": False, **captions}
        captions["trigger"] = captions.get("trigger") or AUTO
    if isinstance(model, str):
        model = {"path": model}
    if isinstance(model, dict):
        model = {"defaults": False, **model}
    kept = values.get("preservation", {"enabled": False})
    return {**values, "captions": captions, "model": model, "preservation": kept}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _nothing_found_out}
"""From a file's version to the next one: what to do with its values."""


@dataclass(frozen=True, slots=True)
class Override:
    """One value from the command line.

    Args:
        path: the setting, ``optimizer.lr``.
        text: its value in TOML's syntax; texts need no quotes.
        origin: the option it came from, as messages name it.
    """

    path: str
    text: str
    origin: str = "--set"


@dataclass(slots=True)
class _Layers:
    """Values by section, and for each path the layer that it came from last."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def add(self, values: Mapping[str, Any], origin: str) -> None:
        for name, content in values.items():
            shorthand = sections()[name].shorthand if name in sections() else None
            if shorthand is not None and isinstance(content, str):
                content = {shorthand: content}
            if not isinstance(content, Mapping):
                self.values[name], self.origins[name] = content, origin
                continue
            if not isinstance(self.values.get(name), dict):
                self.values[name] = {}
            for key, value in content.items():
                self.values[name][key] = value
                self.origins[f"{name}.{key}"] = origin
            self.origins.setdefault(name, origin)


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """
    Args:
        origins: of each setting that was given: "preset demo", the file, the option.
    """

    settings: TrainSettings
    origins: Mapping[str, str]


def load_settings(
    toml: Path | None = None,
    overrides: Mapping[str, str] | Sequence[str | Override] = (),
    preset: str | None = None,
    *,
    for_training: bool = False,
) -> TrainSettings:
    """As :func:`load_with_origins`, without them."""
    return load_with_origins(toml, overrides, preset, for_training=for_training).settings


def load_with_origins(
    toml: Path | None = None,
    overrides: Mapping[str, str] | Sequence[str | Override] = (),
    preset: str | None = None,
    *,
    for_training: bool = False,
) -> LoadedSettings:
    """The settings of a run: defaults, then ``preset``, then ``toml``, then ``overrides``.

    Args:
        overrides: texts ``section.key=value``, a mapping of path to value, or :class:`Override`.
        for_training: also require what every run needs, such as images.

    Raises:
        SettingsError: with everything that is wrong in any of them.
    """
    layers, problems = _Layers(), []
    readers: list[Callable[[], tuple[Mapping[str, Any], str]]] = []
    if preset is not None:
        readers.append(lambda: (read_preset(preset).values, f"preset {preset}"))
    if toml is not None:
        readers.append(lambda: (read_toml(toml), str(toml)))
    for read in readers:
        try:
            layers.add(*read())
        except SettingsError as error:
            problems += error.problems
    unread = bool(problems)
    parsed, more = parse_overrides(overrides)
    problems += more
    for override in parsed:
        _apply(override, layers)
    settings, bad = _validate(layers)
    problems += bad.values()
    together = checks.contradictions(settings)
    if for_training and not unread:
        together += missing_data(settings)
    spoilt = {path.partition(".")[0] for path in bad}
    problems += [
        _with_origin(problem, layers.origins)
        for problem in together
        if problem.where.partition(".")[0] not in spoilt
    ]
    if problems:
        raise SettingsError(problems)
    return LoadedSettings(settings, layers.origins)


def _with_origin(problem: Problem, origins: Mapping[str, str]) -> Problem:
    """A contradiction between several layers, or with a default, came from none of them."""
    if problem.where not in origins or "." not in problem.where:
        return problem
    return Problem(place(problem.where, origins), problem.what, problem.hint)


def _validate(layers: _Layers) -> tuple[TrainSettings, dict[str, Problem]]:
    """The settings, and by path what is wrong; where something is, defaults stand in its place.

    So what contradicts each other can be said together with what is wrong on its own.
    """
    try:
        return TrainSettings.model_validate(layers.values), {}
    except ValidationError as error:
        problems = to_problems(error, layers.origins)
        spoilt = {detail["loc"][:2] for detail in error.errors()}
    sound = {
        name: content
        if not isinstance(content, dict)
        else {key: value for key, value in content.items() if (name, key) not in spoilt}
        for name, content in layers.values.items()
        if (name,) not in spoilt
    }
    return TrainSettings.model_validate(sound), problems


def refuse_picture(path: Path, data: bytes) -> None:
    """
    Args:
        data: the file's bytes, whose beginning tells a picture of the usual formats.

    Raises:
        SettingsError: it is a picture, where settings are to be read.
    """
    is_webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    if is_webp or data.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8")):
        what = "is a picture, not a settings file"
        raise SettingsError.of(path, what, f"give the folder that it lies in: {path.parent}")


def read_toml(path: Path, data: bytes | None = None) -> dict[str, Any]:
    """A settings file's values in the present form.

    Args:
        data: what it holds, where it is not on this disk.

    Raises:
        SettingsError: it is missing, no TOML, or of a newer version; says the line.
    """
    path = Path(path)
    try:
        data = path.read_bytes() if data is None else data
    except OSError as error:
        raise SettingsError(_unreadable(path, error)) from error
    refuse_picture(path, data)
    # UTF-16 is what `>` writes in Windows PowerShell.
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise SettingsError.of(
            path, "is not text in UTF-8", "save it as UTF-8, or give a .toml file"
        ) from error
    try:
        values = parse_toml(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(_syntax_problem(path, text, str(error))) from error
    # A copy of a preset is a good start for a file; what it says of itself is no setting.
    about = values.pop("preset", {})
    if not isinstance(about, dict):
        what = "is not a setting: a preset is chosen on the command line"
        hint = f"remove this line, and add --preset {about} there"
        raise SettingsError.of(f"{path}: preset", what, hint)
    return _migrate(path, values)


def _unreadable(path: Path, error: OSError) -> Problem:
    if path.is_dir():
        return Problem(str(path), "is a folder, not a settings file", "use --data for pictures")
    if path.exists():
        return Problem(str(path), f"cannot be read: {error.strerror}", "mend its permissions")
    beside = sorted(path.parent.glob("*")) if path.parent.is_dir() else []
    paths = {p.name: str(p) for p in beside if p.suffix == ".toml" or p.is_dir()}
    hint = did_you_mean(path.name, paths, "give a folder of pictures, or the path of a .toml file")
    return Problem(str(path), "there is no such file or folder", hint)


def _syntax_problem(path: Path, text: str, message: str) -> Problem:
    match = re.search(r"\(at line (\d+), column (\d+)\)", message)
    lines = text.splitlines()
    number = int(match[1]) if match else len(lines)
    line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    what = message.partition(" (at ")[0]
    hint = "mend this line"
    if "\\" in line:
        hint = "write Windows paths in single quotes: 'C:\\pictures'"
    elif re.search(r"=\s*[^\W\d]", line) and not re.search(r"=\s*(true|false)\b", line):
        hint = 'put texts in quotes: name = "text"'
    elif re.search(r"=\s*[-+\d.]", line):
        hint = "write numbers as 0.0001 or 1e-4"
    elif line.startswith("["):
        hint = "write a section as [name], and each only once"
    return Problem(f"{path}, line {number}", f"is not TOML: {what}: {line}", hint)


def _migrate(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    version = values.pop("version", VERSION)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise SettingsError.of(f"{path}: version", f"{version!r} is not a version", "remove it")
    if version > VERSION:
        raise SettingsError.of(
            f"{path}: version",
            f"{version} is of a newer lorasmith; this one reads up to {VERSION}",
            "update lorasmith",
        )
    for step in range(version, VERSION):
        values = MIGRATIONS[step](values)
    return values


def parse_overrides(
    overrides: Mapping[str, Any] | Iterable[str | Override],
) -> tuple[list[Override], list[Problem]]:
    """Texts ``section.key=value`` taken apart, and what is wrong with them."""
    if isinstance(overrides, Mapping):
        return [Override(path, str(text)) for path, text in overrides.items()], []
    parsed, problems = [], []
    for item in overrides:
        if isinstance(item, Override):
            parsed.append(item)
            continue
        path, equals, text = item.partition("=")
        if equals and path.strip():
            parsed.append(Override(path.strip(), text.strip()))
        else:
            problems.append(
                Problem(
                    f"--set {item}",
                    "has no value",
                    "write section.key=value, as in optimizer.lr=1e-4",
                )
            )
    return parsed, problems + _said_twice(parsed)


def _said_twice(overrides: Sequence[Override]) -> list[Problem]:
    """An option and ``--set`` for one setting have no order; two different values are a mistake."""
    by_path: dict[str, dict[str, str]] = {}
    for override in overrides:
        by_path.setdefault(override.path, {})[override.origin] = override.text
    return [
        Problem(path, f"is given differently by {_list_of(texts)}", "keep one of them")
        for path, texts in by_path.items()
        if len(set(texts.values())) > 1
    ]


def _list_of(texts: Mapping[str, str]) -> str:
    return " and ".join(f"{origin} ({text})" for origin, text in texts.items())


def _apply(override: Override, layers: _Layers) -> None:
    section, _, name = override.path.partition(".")
    if not name:
        shorthand = sections()[section].shorthand if section in sections() else None
        value: Any = override.text if shorthand else parse_value(override.text, None)
        layers.add({section: value}, override.origin)
        return
    table = all_settings().get(f"{section}.{name.partition('.')[0]}")
    if table is not None and table.is_table and "." in name:
        # --set optimizer.args.d_coef=2 adds to the arguments that are there.
        name, _, key = name.partition(".")
        present = layers.values.get(section, {})
        before = present.get(name, {}) if isinstance(present, dict) else {}
        layers.add({section: {name: {**_as_table(before), key: override.text}}}, override.origin)
        return
    setting = all_settings().get(override.path)
    layers.add({section: {name: parse_value(override.text, setting)}}, override.origin)


def _as_table(value: Any) -> dict[str, Any]:
    try:
        return optimizer_args(value)
    except ValueError:  # Said again, with its place, when the whole is validated.
        return {}


def parse_value(text: str, setting: Setting | None) -> Any:
    """A command-line text as TOML would read it, or as the text that it is.

    ``1e-4`` is a number, ``[512, 768]`` a list, ``a b`` a text; for settings that are texts,
    ``123`` is one too.
    """
    text = text.strip()
    if setting is not None and setting.is_none(text):
        return None
    bare = setting is not None and (
        setting.is_text or (setting.is_list and not text.startswith("["))
    )
    if bare and not text.startswith(('"', "'")):
        return text
    try:
        parsed = parse_toml(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text
