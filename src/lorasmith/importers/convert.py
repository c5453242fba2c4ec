"""Arguments of sd-scripts to settings: the one engine behind all readers.

:func:`convert_here` also looks whether the folders of images are here, and hold what sd-scripts
looks for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorasmith.config.load import load_settings
from lorasmith.core.errors import Problem, SettingsError
from lorasmith.data.images import SUFFIXES
from lorasmith.data.layout import REG_NAMES
from lorasmith.importers.conversion import Conversion, Derived, Given, Remark, Source
from lorasmith.importers.named_files import named_path
from lorasmith.importers.sd_scripts.argument import MISSING, Argument, ConversionBuilder
from lorasmith.importers.sd_scripts.datasets import datasets
from lorasmith.importers.sd_scripts.table import ARGUMENTS

OF_DATA = ("data.", "captions.", "buckets.", "augment.")


def convert(
    given: Mapping[str, Given],
    *,
    sdxl: bool = False,
    tables: Mapping[str, Any] | None = None,
    tables_in: str = "datasets",
    complete: bool = True,
) -> Conversion:
    """What a run of sd-scripts with these arguments is as settings, with sd-scripts' defaults.

    Args:
        given: arguments by name, as read by one of the readers.
        sdxl: they are of ``sdxl_train_network.py``.
        tables: ``[general]`` and ``[[datasets]]``, where they are no file of their own.
        tables_in: where those stand, as messages call it.
        complete: a run is to be started, so nothing may be missing.

    Returns:
        The settings, and with them everything that is wrong; nothing is raised.
    """
    making = ConversionBuilder(given, ARGUMENTS, sdxl=sdxl, complete=complete)
    datasets(making, tables, tables_in)
    for row in ARGUMENTS.values():
        _by_itself(making, row)
    for rule in dict.fromkeys(row.rule for row in ARGUMENTS.values() if row.rule):
        rule(making)
    making.result.sort()
    return making.result


def convert_source(source: Source, *, complete: bool = True) -> Conversion:
    """:func:`convert` for what a reader found, with what it could not read."""
    if source.incomplete and not source.given:
        return Conversion(problems=list(source.problems), remarks=list(source.remarks))
    given, only_data = source.given, source.tables is not None and not source.given
    if only_data or source.partial:
        given = {"network_module": Given("networks.lora", ""), **source.given}
    result = convert(
        given,
        sdxl=source.sdxl,
        tables=source.tables,
        tables_in=source.tables_in,
        complete=complete,
    )
    if only_data or source.partial:  # The rest would be defaults, which nobody asked for.
        result.settings = {
            path: setting
            for path, setting in result.settings.items()
            if (only_data and path.startswith(OF_DATA))
            or setting.origin.startswith(f"{source.tables_in}:")
        }
    for path in source.untold:
        result.settings.pop(path, None)
    if source.incomplete:
        result.problems = [problem for problem in result.problems if problem.what != MISSING]
    result.problems[:0] = source.problems
    result.remarks[:0] = source.remarks
    return result


def _by_itself(m: ConversionBuilder, row: Argument) -> None:
    """What becomes of an argument that no rule decides."""
    if row.fate == "setting" and not row.rule:
        m.put_plain(row)
    if row.fate == "setting" or row.name not in m.given or row.name == "cache_latents":
        return
    if row.fate == "refused":
        if not row.asks_for_nothing(m.value(row.name)):
            m.refuse(row.name, row.why, row.hint)
    elif row.fate == "always":
        m.always(row.name, row.why)
    elif row.fate == "dropped" and m.has(row.name):
        m.drop(row.name, row.why)


# The folders of images that a run names.

_NUMBERED = re.compile(r"(\d+)(?:_.*)?\Z", re.DOTALL)


def convert_here(
    source: Source, *, complete: bool = True, given: Collection[str] = ()
) -> Conversion:
    """The conversion of a run, with what is wrong with the folders that it names.

    Args:
        complete: it is to be started as it is. Otherwise nothing need be said of images, and
            folders of which none is here are another machine's.
        given: settings that come from elsewhere and take the places of the file's.
    """
    result = convert_source(source, complete=complete)
    for path in given:
        result.settings.pop(path, None)
    if "data.path" in given:
        result.settings.pop("data.folders", None)
    _check(result, complete)
    result.sort()
    return result


def refuse_wrong(result: Conversion) -> None:
    """
    Raises:
        SettingsError: with everything that cannot be honoured, and what is wrong in the rest.
    """
    if not result.problems:
        return
    problems = list(result.problems)
    try:
        load_settings(None, result.overrides())
    except SettingsError as error:
        problems += error.problems
    raise SettingsError(problems)


def _check(result: Conversion, complete: bool) -> None:
    named = []
    for text, setting in _named(result):
        try:
            named.append((named_path(text), setting))
        except SettingsError as error:
            for each in error.problems:
                why = f"{each.what}, so nobody looked what is there"
                result.remarks.append(Remark("noted", setting.source, why))
    here = complete or any(os.path.exists(path) for path, _ in named)
    for path, setting in named:
        if os.path.isdir(path):
            continue
        what = "is a file, not a folder" if os.path.exists(path) else "there is no such folder"
        if here:
            hint = f"correct it{_alike(path)}"
            result.problems.append(Problem(setting.origin, f"{path}: {what}", hint))
        else:
            result.remarks.append(Remark("noted", setting.source, f"{what} on this machine"))
    _check_reg(result)
    _check_image_dirs(result)
    _leave_reg_beside(result)


def _named(result: Conversion) -> list[tuple[str, Derived]]:
    """Every folder of images, as written."""
    settings = result.settings
    folders = [
        (str(settings[path].value), settings[path])
        for path in ("data.path", "data.reg")
        if path in settings
    ]
    if setting := settings.get("data.folders"):
        folders += [(str(each["path"]), setting) for each in setting.value]
    return folders


def _alike(path: Path) -> str:
    start = path.name.casefold()[:3]
    near = [each.name for each in _entries(path.parent) if each.name.casefold().startswith(start)]
    return f"; there is {', '.join(near[:3])}" if near and start else ""


def _check_reg(result: Conversion) -> None:
    """sd-scripts takes a folder without ``N_name`` folders of images for none."""
    setting = result.settings.get("data.reg")
    if setting is None:
        return
    path = _openable(setting.value)
    if path is None or not os.path.isdir(path) or _numbered(path):
        return
    if _has_images(path) and _repeats(path):
        result.problems.append(
            Problem(
                setting.origin,
                f"{path} is an N_name folder itself, and sd-scripts would use none of its pictures",
                f"give the folder that it is in, {path.parent}",
            )
        )
        return
    del result.settings["data.reg"]
    why = "holds no N_name folder with pictures, so there are none; sd-scripts takes it so"
    result.remarks.append(Remark("dropped", setting.source, why))


def _check_image_dirs(result: Conversion) -> None:
    """A folder of a data-set file is the one with the images, not the one around it."""
    setting = result.settings.get("data.folders")
    for each in setting.value if setting is not None else ():
        path = _openable(each["path"])
        inner = [folder.name for folder, _ in _numbered(path)] if path is not None else []
        if path is not None and setting is not None and inner and not _has_images(path):
            what = f"{path} holds no pictures itself, but folders of them: {', '.join(inner[:3])}"
            hint = f"name them one by one, as in {path / inner[0]}"
            result.problems.append(Problem(setting.origin, what, hint))


def _leave_reg_beside(result: Conversion) -> None:
    """A ``reg`` folder among the ``N_name`` folders means nothing to sd-scripts."""
    data = result.values.get("data.path")
    if data is None or "data.reg" in result.settings:
        return
    path = _openable(data)
    if path is None:
        return
    folders = _numbered(path)
    beside = [entry for entry in _entries(path) if entry.name.casefold() in REG_NAMES]
    if not folders or not beside:
        return
    setting = result.settings.pop("data.path")
    value: list[dict[str, Any]] = [
        {"path": str(folder), "repeats": repeats} for folder, repeats in folders
    ]
    why = f"one by one, since {beside[0]} is not to be taken for regularisation pictures"
    result.settings["data.folders"] = replace(setting, value=value, note=why)


def _numbered(folder: Path) -> list[tuple[Path, int]]:
    """The ``N_name`` folders with images, and N."""
    return [
        (entry, repeats)
        for entry in _entries(folder)
        if (repeats := _repeats(entry)) and _has_images(entry)
    ]


def _repeats(folder: Path) -> int:
    match = _NUMBERED.match(folder.name)
    return int(match[1]) if match and len(match[1]) < 10 else 0


def _has_images(folder: Path) -> bool:
    return any(each.suffix.lower() in SUFFIXES for each in _entries(folder))


def _entries(folder: Path) -> list[Path]:
    opened = _openable(folder)
    try:
        return sorted(opened.iterdir()) if opened is not None else []
    except (OSError, ValueError):
        return []


def _openable(text: object) -> Path | None:
    try:
        return named_path(str(text))
    except SettingsError:  # Told where it is looked at first.
        return None
