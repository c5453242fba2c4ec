"""One rule for all verbs: 0 where all that was asked is done, 2 where something was left out; and
the rest is done all the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tests.crashes import contents

from lorasmith.cli.dataset import VERBS
from lorasmith.cli.main import cli

CHANGING = {
    "edit": ["edit", "set", "--add", "x"],
    "captions": ["captions", "set", "--to", "caption"],
    "captions --set": ["captions", "set", "--set", "x", "--overwrite"],
    "captions --embed": ["captions", "set", "--embed"],
    "tag": ["tag", "set", "--tagger", "demo", "--mode", "append", "--general", "0.01"],
    "rename": ["rename", "set", "--prefix", "z"],
    "sort": ["sort", "set", "tag:hat -> hats"],
    "crop": ["crop", "set"],
    "preprocess": ["preprocess", "set"],
    "crop --record": ["crop", "set", "--record"],
    "resize": ["resize", "set", "--longest", "64"],
    "split": ["split", "set", "--tiles", "2"],
    "flip": ["flip", "set"],
    "convert": ["convert", "set", "--to", "avif"],
    "masks": ["masks", "set"],
    "export": ["export", "set", "--into", "out", "--layout", "onetrainer", "--format", "webp"],
    "import": ["import", "set", "--into", "out"],
    "init": ["init", "out", "--from", "set"],
}
# These have no file to leave out (regularize draws), or need a server or a site; caption and gather
# are in tests of their own.
OTHERS = {"dedupe", "regularize", "caption", "gather", "check", "audit", "preview", "stats"}
JOURNAL = {"undo", "redo", "history"}

LONG, LINK, DAMAGED, TAKEN = "name gets too long", "dead caption", "damaged", "name is taken"
BAD: dict[str, str] = {
    "edit": LINK,
    "captions": LONG,
    "captions --set": LINK,
    "captions --embed": DAMAGED,
    "rename": TAKEN,
    "crop --record": LONG,
    "masks": LONG,
    "flip": LONG,
    "split": LONG,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("a", "b"):
        image = Image.effect_noise((160, 128), 50).convert("RGB")
        image.paste("red" if name == "a" else "blue", (20, 20, 60, 60))
        image.save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text("zorp, hat", encoding="utf-8")
    return folder


def files() -> dict[str, bytes]:
    """Without what is remembered of them."""
    return {name: data for name, data in contents(Path()).items() if ".lorasmith" not in name}


def run(words: list[str]) -> Result:
    options = [] if words[0] == "export" else ["--yes"]
    return CliRunner().invoke(cli, ["dataset", *words, *options])


def spoil(folder: Path, how: str) -> str:
    """One image more, which cannot be dealt with; its name."""
    stem = "n" * 250 if how == LONG else "c"
    image = folder / f"{stem}.png"
    shutil.copy(folder / "a.png", image)
    (folder / f"{stem}.txt").write_text("zorp, hat", encoding="utf-8")
    if how == DAMAGED:
        image.write_bytes(image.read_bytes()[:200])
    if how == LINK:
        (folder / f"{stem}.txt").unlink()
        (folder / f"{stem}.txt").symlink_to("nothing.txt")
    if how == TAKEN:  # the third of the new names
        (folder / "z_003.txt").write_text("somebody's", encoding="utf-8")
    return image.name


def test_no_verb_is_forgotten() -> None:
    verbs = {verb for group in VERBS.values() for verb in group}
    assert {key.partition(" ")[0] for key in CHANGING} | OTHERS | JOURNAL == verbs


@pytest.mark.parametrize("case", CHANGING)
def test_all_of_it_done(folder: Path, case: str) -> None:
    before = files()
    result = run(CHANGING[case])
    assert result.exit_code == 0, result.output
    assert "left out" not in result.output
    assert files() != before


@pytest.mark.parametrize("case", [case for case in CHANGING if case != "sort"])
def test_one_image_left_out(folder: Path, case: str) -> None:
    words = CHANGING[case]
    name = spoil(folder, BAD.get(case, DAMAGED))
    before = files()
    if words[0] != "export":
        dry = CliRunner().invoke(cli, ["dataset", *words, "--dry-run"])
        assert dry.exit_code == 2
        assert files() == before
    result = run(words)
    assert result.exit_code == 2, result.output
    assert Path(name).stem in result.output
    assert os.fspath(folder) not in result.output.replace(f"undo {folder}", "")
    assert (folder / name).read_bytes() == before[f"set/{name}"]
    after = files()
    assert any(after[path] != before.get(path) for path in after), "the others are done"
