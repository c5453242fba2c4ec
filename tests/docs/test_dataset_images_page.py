"""The commands of docs/dataset-images.md run, in the page's order, on files of its names."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tests.docs.test_docs import command_lines

from lorasmith.cli.main import cli
from lorasmith.jobs.dataset.changes import UndoRequest
from lorasmith.jobs.request import run

PAGE = Path(__file__).parents[2] / "docs" / "dataset-images.md"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    numbers = np.random.default_rng(0)
    for folder in ("pictures", "photos"):
        (tmp_path / folder).mkdir()
        for number, size in enumerate([(1400, 700), (600, 900), (600, 900)]):
            small = numbers.integers(0, 256, (5, 5, 3), dtype=np.uint8)
            image = Image.new("RGB", size, "skyblue")
            image.paste(Image.fromarray(small).resize((200, 200), 1), (100 + 90 * number, 300))
            image.save(tmp_path / folder / f"{number}.png")
            (tmp_path / folder / f"{number}.txt").write_text("zorp, left hand")
    Image.new("RGB", (640, 480), "red").save(tmp_path / "pictures" / "scan.tiff")
    return tmp_path


@pytest.mark.slow
def test_its_commands(files: Path) -> None:
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    lines = list(command_lines(PAGE.read_text(encoding="utf-8")))
    assert len(lines) >= 10
    entries = 0
    for line in lines:
        words = shlex.split(line)[1:]
        exports = words[1] == "export"
        result = CliRunner().invoke(cli, words if exports else [*words, "--yes"])
        assert result.exit_code == 0, f"{line}\n{result.output}"
        if "--dry-run" not in words and not exports:
            assert "take it back with" in result.output, f"{line}\n{result.output}"
            entries += 1
    assert Image.open(files / "sheet.png").width > 300
    assert {path.suffix for path in (files / "photos").iterdir() if path.is_file()} == {
        ".jpg",
        ".txt",
    }
    assert (files / "pictures" / "0-masklabel.png").is_file()
    for folder in ("pictures", "photos"):
        run(UndoRequest(folder=files / folder, count=entries))
    after = {
        path: path.read_bytes()
        for path in files.rglob("*")
        if path.is_file()
        and ".lorasmith" not in path.parts
        and path.relative_to(files).parts[0] in ("pictures", "photos")
    }
    assert Image.open(files / "for-onetrainer" / "0_tile1.png").size[0] <= 1024
    assert not (files / "for-datasets").exists()
    assert after == before


def test_every_option_of_the_crops_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for option in ("to", "focus", "resolution", "resize", "upscale", "margin", "trim", "record",
                   "preview", "faces", "quality"):  # fmt: skip
        assert f"--{option}" in text
