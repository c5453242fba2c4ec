"""Any file of another trainer: what it is, told from what it holds, and what it says."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorasmith.config.schema import all_settings, sections
from lorasmith.core.errors import SettingsError
from lorasmith.core.files import parse_json, parse_toml
from lorasmith.importers.conversion import Remark, Source, decode_text, read_text
from lorasmith.importers.easy_scripts import (
    is_easy_json,
    is_easy_toml,
    read_easy_json,
    read_easy_toml,
)
from lorasmith.importers.kohya_gui import is_gui_json, read_gui_json
from lorasmith.importers.lora_file import read_lora_file
from lorasmith.importers.other_programs import kind_of, kind_of_text
from lorasmith.importers.scripts.read import CODE_PAGE, SUFFIXES, language_of, read_script
from lorasmith.importers.sd_scripts.argv import known_of, read_argv
from lorasmith.importers.sd_scripts.table import ARGUMENTS

KINDS = (
    "a script (.sh, .ps1, .bat), sd-scripts' TOML, kohya_ss' JSON, TOML or JSON of "
    "LoRA_Easy_Training_Scripts, or a LoRA file"
)

# What any run says; a file with none of it is of something else.
_TELLING = (
    *("pretrained_model_name_or_path", "train_data_dir", "network_module", "dataset_config"),
    *("network_dim", "learning_rate", "unet_lr", "optimizer_type", "max_train_epochs"),
    *("max_train_steps", "network_args", "output_name", "lr_scheduler", "train_batch_size"),
)


def read_file(path: Path, data: bytes | None = None) -> Source:
    """What a file asks sd-scripts for.

    Args:
        data: what it holds, where it is not on this disk; a LoRA must be.

    Raises:
        SettingsError: it cannot be read, or is nothing that asks for a training.
    """
    if data is None and _is_safetensors(path):
        return read_lora_file(path)
    text, is_utf8 = _read(path, data)
    content = _content(text, path)
    if content is None:
        return _script(text, path, is_utf8=is_utf8)
    if isinstance(content, dict) and not _is_theirs(content) and _has_sections(content):
        raise SettingsError.of(path, "is lorasmith's own already", "use `lorasmith train` with it")
    return _table(content, path)


def _has_sections(table: Mapping[str, Any]) -> bool:
    return any(isinstance(table.get(name), Mapping) for name in sections())


def is_lorasmiths(path: Path, data: bytes | None = None) -> bool:
    """Whether ``lorasmith train`` is to read a file itself, and explain the mistakes in it.

    Args:
        data: what it holds, where it is not on this disk.
    """
    if data is None and _is_safetensors(path):
        return False
    text, _ = _read(path, data)
    try:
        content = _content(text, path)
    except SettingsError:
        return path.suffix.lower() == ".toml"
    return isinstance(content, dict) and text.lstrip()[:1] != "{" and not _is_theirs(content)


def _is_theirs(table: Mapping[str, Any]) -> bool:
    """Whether a table is another program's; one argument of sd-scripts may be a mistake in ours."""
    if kind_of(table) is not None or is_easy_toml(table) or is_easy_json(table):
        return True
    if is_gui_json(table) or isinstance(table.get("datasets"), list) or _is_preset(table):
        return True
    entries = [
        (f"{section}.{name}", name)
        for section, content in table.items()
        for name in (content if isinstance(content, Mapping) else {section: content})
    ]
    ours = sum(path in all_settings() for path, _ in entries)
    theirs = {name for path, name in entries if path not in all_settings() and name in ARGUMENTS}
    certain = bool(theirs & set(_TELLING[:4]))
    return len(theirs) >= max(ours, 1 if certain else 2) and bool(theirs & set(_TELLING))


def _is_preset(table: Mapping[str, Any]) -> bool:
    """A preset of lora-scripts: what it says of itself, and arguments."""
    return isinstance(table.get("metadata"), Mapping) and isinstance(table.get("data"), Mapping)


def _read(path: Path, data: bytes | None) -> tuple[str, bool]:
    """A file's text, and whether it is UTF-8, as all but scripts must be."""

    def text(code_page: str | None) -> str:
        if data is None:
            return read_text(path, code_page=code_page)
        return decode_text(path, data, code_page=code_page)

    try:
        return text(None), True
    except SettingsError:
        if path.suffix.lower() not in SUFFIXES:
            raise
        return text(CODE_PAGE), False


def _is_safetensors(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except (OSError, ValueError):
        return False
    return len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] < 1 << 30


def _content(text: str, path: Path) -> Any:
    """What a file of JSON or TOML holds, whatever its name; ``None`` for another kind.

    Raises:
        SettingsError: it is the one or the other, and broken.
    """
    suffix = path.suffix.lower()
    start = text.lstrip()[:1]
    if start == "{" or (start == "[" and suffix == ".json"):
        return _json(text, path)
    try:
        table = parse_toml(text)
    except (ValueError, RecursionError) as error:
        if start == "[" and suffix != ".toml":
            try:
                return parse_json(text)
            except (ValueError, RecursionError):
                pass
        if suffix in (".toml", ".json") and not _names_the_script(text):
            _refuse_known(kind_of_text(text), path)
            what = f"is not {suffix[1:].upper()}: {error}"
            raise SettingsError.of(path, what, "correct it") from error
        return None
    return None if suffix in SUFFIXES or (_names_the_script(text) and not table) else table


def _json(text: str, path: Path) -> Any:
    try:
        content = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError.of(path, f"is not JSON: {error}", "correct it") from error
    if not isinstance(content, dict | list):
        raise SettingsError.of(path, "holds no table", "give a file of settings")
    return content


def _names_the_script(text: str) -> bool:
    return "train_network" in text


def _refuse_known(kind: tuple[str, str] | None, path: Path) -> None:
    if kind is not None:
        raise SettingsError.of(path, f"is {kind[0]}", kind[1])


def _script(text: str, path: Path, *, is_utf8: bool) -> Source:
    if path.suffix.lower() not in SUFFIXES and not _names_the_script(text):
        _refuse_known(kind_of_text(text), path)
        raise SettingsError.of(path, "is not known", f"give {KINDS}")
    source = read_script(text, path, language_of(path, text))
    if not is_utf8 and any(not str(given.raw).isascii() for given in source.given.values()):
        why = "it is not UTF-8, and was read as Windows' Western letters; check those beyond a to z"
        source.remarks.append(Remark("noted", path.name, why))
    return source


def _table(table: Any, path: Path) -> Source:
    name = path.name
    if isinstance(table, Mapping):
        if is_gui_json(table):
            return read_gui_json(table, name)
        if is_easy_json(table):
            return read_easy_json(table, name)
    _refuse_known(kind_of(table), path)
    if not isinstance(table, dict):
        raise SettingsError.of(path, "holds no table", "give a file of settings")
    if is_easy_toml(table):
        return read_easy_toml(table, name)
    if isinstance(table.get("datasets"), list):
        return Source("a data-set file of sd-scripts", tables=dict(table), tables_in=name)
    preset = _is_preset(table)
    table = table["data"] if preset else table
    kind = "a preset of lora-scripts" if preset else "a configuration file of sd-scripts"
    source = Source(kind, tables_in=name, partial=preset)
    source.given = known_of(table, name, source)
    telling = (*_TELLING, "resolution") if preset else _TELLING
    if not set(source.given) & set(telling):
        raise SettingsError.of(path, "holds nothing that is known", f"give {KINDS}")
    if "config_file" in source.given:
        more = read_argv([f"--config_file={source.given.pop('config_file').raw}"])
        source.given = {**more.given, **source.given}
        source.problems += more.problems
        source.remarks += more.remarks
        source.given.pop("config_file", None)
    return source
