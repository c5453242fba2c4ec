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
        run(UndoRequest(folders=[files / folder], count=entries))
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


def their_crop(image: Image.Image) -> Image.Image:
    """What PrepJPG.py keeps: the middle, in the first of its shapes that is no wider than the
    image is, to even numbers of pixels."""
    shapes = (1.0, 1.1333, 1.2857, 1.4615, 1.6667, 1.9091, 2.2, 2.5556, 3.0)
    long, short = max(image.size), min(image.size)
    shape = next(shape for shape in shapes if shape >= long / short)
    sides = long, round(long / shape)
    width, height = sides if image.width > image.height else sides[::-1]
    width, height = width - width % 2, height - height % 2
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def error(path: Path, image: Image.Image) -> float:
    """Mean difference of 255."""
    with Image.open(path) as other:
        return float(np.abs(np.asarray(other, int) - np.asarray(image, int)).mean())


@pytest.mark.slow
def test_other_peoples_scripts_do_the_same(tmp_path: Path) -> None:
    """On the same files; sizes of PrepJPG's shapes, to which it and we crop by few pixels."""
    numbers = np.random.default_rng(0)
    images = {}
    for name, size in (("wide", (1220, 840)), ("tall", (900, 1290)), ("square", (700, 700))):
        small = Image.fromarray(numbers.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        images[name] = small.resize(size, Image.Resampling.BICUBIC)

    def ours(*words: str) -> Path:
        folder = tmp_path / words[0]
        folder.mkdir()
        for name, image in images.items():
            image.save(folder / f"{name}.png")
        arguments = ["dataset", words[0], str(folder), *words[1:], "--yes"]
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, result.output
        return folder

    masks, flipped, jpegs = (
        ours("masks", "--from", "grey"),
        ours("flip"),
        ours("convert", "--to", "jpg", "--quality", "100"),
    )
    cropped = ours("crop", "--to", "bucket", "--resolution", "1024", "--focus", "center")
    for name, image in images.items():
        with Image.open(masks / f"{name}-masklabel.png") as mask:
            assert mask.tobytes() == image.convert("L").tobytes()
        with Image.open(flipped / f"{name}_flip.png") as mirrored:
            assert mirrored.tobytes() == image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes()
        image.save(tmp_path / "theirs.jpg", optimize=True, quality=100)
        assert error(jpegs / f"{name}.jpg", image) <= error(tmp_path / "theirs.jpg", image)
        with Image.open(cropped / f"{name}.png") as part:
            theirs = their_crop(image).size
            assert part.width / part.height == pytest.approx(theirs[0] / theirs[1], rel=0.01)


def test_every_option_of_the_crops_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for option in ("to", "aspects", "focus", "resolution", "resize", "upscale", "margin", "trim",
                   "record", "preview", "faces", "quality"):  # fmt: skip
        assert f"--{option}" in text
