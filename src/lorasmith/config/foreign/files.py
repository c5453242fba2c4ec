"""Any file of another trainer: what it is, told from its name and contents, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorasmith.config.foreign.arguments import ARGUMENTS
from lorasmith.config.foreign.argv import flat, read_argv
from lorasmith.config.foreign.easy_scripts import (
    is_easy_json,
    is_easy_toml,
    read_easy_json,
    read_easy_toml,
)
from lorasmith.config.foreign.gui_json import is_gui_json, read_gui_json
from lorasmith.config.foreign.result import Remark
from lorasmith.config.foreign.scripts import CODE_PAGE, SUFFIXES, language_of, read_script
from lorasmith.config.foreign.source import Source
from lorasmith.config.foreign.tables import read_table, read_text
from lorasmith.config.schema import sections
from lorasmith.errors import SettingsError

KINDS = (
    "a script (.sh, .ps1, .bat), sd-scripts' TOML, kohya_ss' JSON, or TOML or JSON of "
    "LoRA_Easy_Training_Scripts"
)


def read_file(path: Path) -> Source:
    """What a file asks sd-scripts for.

    Raises:
        SettingsError: it cannot be read, or is nothing that is known here.
    """
    suffix = path.suffix.lower()
    if suffix in (".toml", ".json"):
        return _table(read_table(path), path)
    script = suffix in SUFFIXES
    try:
        text, is_utf8 = read_text(path), True
    except SettingsError:
        text, is_utf8 = read_text(path, code_page=CODE_PAGE if script else None), False
    if not script and "train_network" not in text:
        raise SettingsError.of(path, "is not known", f"give {KINDS}")
    source = read_script(text, path, language_of(path, text))
    if not is_utf8 and any(not str(given.raw).isascii() for given in source.given.values()):
        why = "it is not UTF-8, and was read as Windows' Western letters; check those beyond a to z"
        source.remarks.append(Remark("noted", path.name, why))
    return source


def _table(table: dict[str, Any], path: Path) -> Source:
    name = path.name
    if path.suffix.lower() == ".json":
        if is_gui_json(table):
            return read_gui_json(table, name)
        if is_easy_json(table):
            return read_easy_json(table, name)
    elif is_easy_toml(table):
        return read_easy_toml(table, name)
    if "datasets" in table:
        return Source("a data-set file of sd-scripts", tables=dict(table), tables_in=name)
    if _is_ours(table):
        raise SettingsError.of(path, "is lorasmith's own already", "use `lorasmith train` with it")
    source = Source("a configuration file of sd-scripts", given=flat(table, name))
    if not set(source.given) & set(ARGUMENTS):
        raise SettingsError.of(path, "holds nothing that is known", f"give {KINDS}")
    if "config_file" in source.given:
        more = read_argv([f"--config_file={source.given.pop('config_file').raw}"])
        source.given = {**more.given, **source.given}
        source.problems += more.problems
        source.given.pop("config_file", None)
    return source


def _is_ours(table: Mapping[str, Any]) -> bool:
    own = [name for name in table if name in sections() or name == "version"]
    given = flat(dict(table), "")
    return bool(own) and not set(given) & set(ARGUMENTS)
