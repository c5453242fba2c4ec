"""What the demo model says of the settings that suit it."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
from tools.demo_model.write_defaults import TABLE, defaults_entry, write_entry

from lorasmith.config.load import load_settings
from lorasmith.core.errors import SettingsError
from lorasmith.core.files import read_safetensors_header
from lorasmith.models.open import DEFAULTS_KEY, DEMO, open_checkpoint
from lorasmith.training.setup.base_defaults import suit


def data_of(path: Path) -> bytes:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert length % 8 == 0
    return content[8 + length :]


def test_the_model_says_what_the_table_says() -> None:
    """After a change of the table: python -m tools.demo_model.write_defaults."""
    assert read_safetensors_header(DEMO).metadata[DEFAULTS_KEY] == defaults_entry()


def test_its_name_alone_is_enough() -> None:
    checkpoint = open_checkpoint("demo")
    alone = suit(load_settings(None, ["model=demo"]), checkpoint)
    assert alone == suit(load_settings(None, preset="demo"), checkpoint)
    assert not alone.warnings
    assert alone.settings.optimizer.lr > 1e-3


@pytest.mark.parametrize("entry", ["{}", '{"optimizer.lr": 1}' * 40, "ü"])
def test_only_the_header_changes(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "base.safetensors"
    shutil.copyfile(DEMO, path)
    write_entry(path, entry)
    before, after = read_safetensors_header(DEMO), read_safetensors_header(path)
    assert after.metadata == {**before.metadata, DEFAULTS_KEY: entry}
    assert list(after.tensors) == list(before.tensors)
    assert data_of(path) == data_of(DEMO)
    write_entry(path, defaults_entry())
    assert path.read_bytes() == DEMO.read_bytes()


def test_a_table_with_mistakes_is_not_written(tmp_path: Path) -> None:
    table = tmp_path / "defaults.toml"
    table.write_text(TABLE.read_text(encoding="utf-8") + '\n[save]\noutput = "x"\n')
    with pytest.raises(SettingsError, match="not for a base model to say"):
        defaults_entry(table)
