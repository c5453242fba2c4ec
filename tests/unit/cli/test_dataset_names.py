"""Names of files are shown on one line, whatever stands in them: none must look like output."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from lorasmith.cli.main import cli

WORDS = {
    "stats": ["stats", "set"],
    "stats --find": ["stats", "set", "--find", "hat"],
    "stats --position": ["stats", "set", "--position", "9", "--all"],
    "check": ["check", "set"],
    "export": ["export", "set", "--into", "out"],
    "edit": ["edit", "set", "--add", "x", "--create", "--dry-run"],
    "edit without captions": ["edit", "set", "--add", "x", "--dry-run"],
    "rename": ["rename", "set", "--prefix", "q", "--dry-run"],
    "sort": ["sort", "set", "tag:hat -> hats", "--dry-run"],
    "dedupe": ["dedupe", "set", "--dry-run"],
    "convert": ["convert", "set", "--to", "webp", "--dry-run"],
    "flip": ["flip", "set", "--dry-run"],
    "import": ["import", "set", "--into", "out", "--dry-run"],
}


@pytest.mark.parametrize("case", WORDS)
def test_names_are_on_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "set" / "5_a\nINJECTED"
    folder.mkdir(parents=True)
    image = folder / "b\nINJECTED\x1b[31m.png"
    Image.effect_noise((160, 128), 50).convert("RGB").save(image)
    shutil.copy(image, folder / "c\nINJECTED.png")
    image.with_suffix(".txt").write_text("zorp, hat", encoding="utf-8")
    (folder / "d\nINJECTED.png").write_bytes(image.read_bytes()[:200])
    shutil.copytree(folder, tmp_path / "set" / "5_b")
    result = CliRunner().invoke(cli, ["dataset", *WORDS[case]])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "INJECTED" in result.output
    assert not [line for line in result.output.splitlines() if line.startswith("INJECTED")]
    assert "\x1b[31m" not in result.output
