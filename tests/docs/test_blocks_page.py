"""The table of presets in docs/blocks.md is the program's own."""

from __future__ import annotations

import re
from pathlib import Path

from lorasmith.config.load import load_settings
from lorasmith.formats.block_weights import (
    BASE,
    BLOCKS,
    INPUTS,
    MIDDLE,
    OUTPUTS,
    PRESETS,
    learning_weights,
    parse,
)
from lorasmith.models.open import open_checkpoint
from lorasmith.training.kinds.table import kind_of

PAGE = Path(__file__).parents[2] / "docs" / "blocks.md"
SHORT = {0.0: "·", 1.0: "1", 0.5: "½", -1.0: "x"}


def presets_table() -> str:
    """One row a preset, one character a block."""
    numbers = "".join(block[-1] for block in INPUTS)
    lines = [
        f"preset  BASE  IN {' ' * (len(INPUTS) - 2)} M00  OUT",
        f"              {numbers}      {numbers}",
    ]
    for name in PRESETS:
        weights = parse(name, special=lambda letter, block: -1.0)
        cells = {block: SHORT[weight] for block, weight in weights.items()}
        side_in, side_out = ("".join(cells[b] for b in side) for side in (INPUTS, OUTPUTS))
        lines.append(f"{name:<8}{cells[BASE]:<6}{side_in}  {cells[MIDDLE]}   {side_out}")
    return "\n".join(line.rstrip() for line in lines)


def test_the_page_shows_the_presets() -> None:
    assert presets_table() in PAGE.read_text(encoding="utf-8"), "\n" + presets_table()


def test_its_settings_are_valid(tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) >= 2
    for number, example in enumerate(examples):
        toml = tmp_path / f"{number}.toml"
        toml.write_text(example, encoding="utf-8")
        settings = load_settings(toml)
        kind_of(settings).planned(settings, open_checkpoint("demo"))


def test_its_ways_to_write_weights_are_read() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*`)[^|]*\|", text.partition("| written |")[2], re.MULTILINE)
    written = [piece for row in rows for piece in re.findall(r'`"([^"`…]+)"`', row)]
    assert len(written) >= 6
    for piece in written:
        assert set(learning_weights(piece)) == set(BLOCKS)
