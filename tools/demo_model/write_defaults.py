"""Writes the settings that suit the demo model into its file's metadata.

    python -m tools.demo_model.write_defaults

They stand in ``defaults.toml`` beside this file. Only the file's header changes; the tensors stay,
to the last byte.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorasmith.core.errors import SettingsError
from lorasmith.core.files import atomic_path, parse_toml
from lorasmith.models.open import DEFAULTS_KEY, DEMO
from lorasmith.training.setup.base_defaults import OF_KINDS, read_entry

TABLE = Path(__file__).with_name("defaults.toml")
# Tensors begin at a multiple of it, as safetensors has it.
ALIGNMENT = 8


def defaults_entry(table: Path = TABLE) -> str:
    """The entry that the table stands for, one line of JSON.

    Raises:
        SettingsError: it names what is no setting, or not one for a base to say.
    """
    sections = parse_toml(table.read_text(encoding="utf-8"))
    kinds = {name: _flat(one) for name, one in sections.pop(OF_KINDS, {}).items()}
    text = json.dumps({**_flat(sections), **({OF_KINDS: kinds} if kinds else {})})
    _, problems = read_entry(text, str(table))
    for kind in kinds:
        problems += read_entry(text, str(table), kind)[1]
    if problems:
        raise SettingsError(problems)
    return text


def _flat(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Values by setting."""
    return {f"{name}.{key}": value for name, one in sections.items() for key, value in one.items()}


def write_entry(path: Path, entry: str) -> None:
    """Put the entry into a safetensors file's metadata, in place of one that is there."""
    with open(path, "rb") as file, atomic_path(path) as part, open(part, "wb") as out:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
        header["__metadata__"] = {**header.get("__metadata__", {}), DEFAULTS_KEY: entry}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % ALIGNMENT)
        out.write(struct.pack("<Q", len(text)) + text)
        shutil.copyfileobj(file, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--model", type=Path, default=DEMO, help="the file to write into")
    args = parser.parse_args()
    write_entry(args.model, defaults_entry(args.table))
    print(f"{args.model}: {defaults_entry(args.table)}")


if __name__ == "__main__":
    main()
