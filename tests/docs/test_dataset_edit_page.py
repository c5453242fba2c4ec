"""The page on edits: its commands run, its table is of all operations, and what stands beside each
old script does what that script is said to do."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from tests.docs.test_docs import ROOT, command_lines

from lorasmith.cli.main import cli
from lorasmith.core.errors import UserError
from lorasmith.curation.edit.operations import OPERATIONS
from lorasmith.curation.images.image_metadata import embedded_caption
from lorasmith.jobs.dataset.captions import CaptionsRequest

PAGE = (ROOT / "docs" / "dataset-edit.md").read_text(encoding="utf-8")


def lorasmith(command: str) -> None:
    result = CliRunner().invoke(cli, ["dataset", *shlex.split(command), "--yes"])
    assert result.exit_code == 0, result.output


def write(folder: Path, files: dict[str, str | None]) -> None:
    """Texts, and images where it is ``None``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if text is None:
            Image.new("RGB", (32, 32), "red").save(folder / name)
        else:
            (folder / name).write_text(text, encoding="utf-8")


def contents(folder: Path) -> dict[str, str | None]:
    return {
        path.name: path.read_text(encoding="utf-8") if path.suffix == ".txt" else None
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


def test_the_tables_have_every_option() -> None:
    for name in OPERATIONS:
        assert f"`--{name}" in PAGE, name
    for field in CaptionsRequest.model_fields:
        option = {"text": "set"}.get(field, field.replace("_", "-"))
        assert field == "folders" or f"--{option}" in PAGE, field


def test_the_commands_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    captions = "boots, red footwear, red boots, red_hat, highres, outdoors"
    write(tmp_path / "pictures" / "10_zorp girl", {"a.png": None, "a.txt": captions, "b.png": None})
    lines = list(command_lines(PAGE))
    assert len(lines) > 10
    for line in lines:
        result = CliRunner().invoke(cli, shlex.split(line, comments=True)[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
    names = contents(tmp_path / "pictures" / "10_zorp girl")
    assert list(names) == [
        *("yumoto_hakone_001.caption", "yumoto_hakone_001.png"),
        *("yumoto_hakone_002.caption", "yumoto_hakone_002.png"),
    ]


# Written from what the guides and the scripts' own page say of them, not from what is done here.
TAGS = "1girl, red hair, blue eyes, smile"
SCRIPTS: dict[str, tuple[str, str, str]] = {
    "Insert": ("edit DIR --add zorp --at front", TAGS, f"zorp, {TAGS}"),
    "Append": ("edit DIR --add outdoors", TAGS, f"{TAGS}, outdoors"),
    "Remover": ("edit DIR --remove smile", TAGS, "1girl, red hair, blue eyes"),
    "Remover by position": ("edit DIR --remove-at 2", TAGS, "1girl, blue eyes, smile"),
    "Replacer": ("edit DIR --replace smile=grin", TAGS, "1girl, red hair, blue eyes, grin"),
    "ReplacerRaw": ("edit DIR --replace-text red=dark", TAGS, "1girl, dark hair, blue eyes, smile"),
    "ReplacerIdx": ("edit DIR --swap 1 3", TAGS, "blue eyes, red hair, 1girl, smile"),
    "Front2Back": ("edit DIR --rotate", TAGS, "red hair, blue eyes, smile, 1girl"),
    "Formatter": ("edit DIR --format", " 1girl,,  smile , hat,", "1girl, smile, hat"),
    "Folder2Name": ("edit DIR --folder-name", TAGS, f"zorp girl, {TAGS}"),
    "CleanTags, PruneColor": (
        "edit DIR --prune colours",
        "1girl, red hair, long hair, blue eyes, closed eyes, red dress",
        "1girl, long hair, closed eyes, red dress",
    ),
    "GenerateTxt": ("captions DIR --set 'zorp, solo'", "", "zorp, solo"),
    "Cleanse": ("captions DIR --set '' --overwrite", TAGS, ""),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_old_script_of_captions(script: str, tmp_path: Path) -> None:
    command, before, after = SCRIPTS[script]
    folder = tmp_path / "10_zorp girl"
    write(folder, {"a.png": None, "a.txt": before})
    lorasmith(command.replace("DIR", shlex.quote(str(folder))))
    assert contents(folder) == {"a.png": None, "a.txt": after}


def test_empty_caption(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": None, "b.png": None, "b.txt": "hat"})
    lorasmith(f"captions {tmp_path} --set ''")
    assert contents(tmp_path) == {"a.png": None, "a.txt": "", "b.png": None, "b.txt": "hat"}


def test_targeted_delete(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": None, "a.txt": "1girl, bad", "b.png": None, "b.txt": "1girl"})
    lorasmith(f"edit {tmp_path} --where tag:bad --delete-images")
    assert contents(tmp_path) == {"b.png": None, "b.txt": "1girl"}


def test_trim_digits(tmp_path: Path) -> None:
    write(tmp_path, {"sword.png": None, "00012-0-sword.txt": TAGS})
    lorasmith(f"rename {tmp_path} --trim-digits")
    assert contents(tmp_path) == {"sword.png": None, "sword.txt": TAGS}


def test_rename_all_and_caption_all(tmp_path: Path) -> None:
    write(tmp_path, {"b.jpg": None, "b.txt": "hat", "a.png": None, "a.txt": "smile"})
    lorasmith(f"rename {tmp_path} --prefix yumoto_hakone")
    lorasmith(f"edit {tmp_path} --trigger yumoto_hakone")
    lorasmith(f"captions {tmp_path} --embed")
    assert contents(tmp_path) == {
        "yumoto_hakone_001.png": None,
        "yumoto_hakone_001.txt": "yumoto_hakone, smile",
        "yumoto_hakone_002.jpg": None,
        "yumoto_hakone_002.txt": "yumoto_hakone, hat",
    }
    for name, text in (("001.png", "smile"), ("002.jpg", "hat")):
        data = (tmp_path / f"yumoto_hakone_{name}").read_bytes()
        assert embedded_caption(data) == f"yumoto_hakone, {text}"


def test_copy_metadata(tmp_path: Path) -> None:
    write(tmp_path / "raw", {"a.png": None, "a.txt": "from a camera"})
    write(tmp_path / "small", {"a.jpg": None})
    lorasmith(f"captions {tmp_path / 'raw'} --embed")
    lorasmith(f"captions {tmp_path / 'small'} --copy-metadata {tmp_path / 'raw'}")
    assert embedded_caption((tmp_path / "small" / "a.jpg").read_bytes()) == "from a camera"


def test_every_script_of_the_table_is_tested() -> None:
    table = PAGE[PAGE.index("| script |") :]
    names = re.findall(r"^\| ([A-Z]\w+(?:, \w+)*|\w+_all NAME) \|", table, re.MULTILINE)
    others = {
        *("EmptyCaption", "TargetedDelete", "TrimDigits", "CopyMetadata"),
        *("rename_all NAME", "caption_all NAME"),
    }
    assert {*SCRIPTS, *others} >= set(names)
    assert len(names) == 18


def test_mistakes_raise_for_programs() -> None:
    with pytest.raises(UserError):
        CaptionsRequest.read({"folders": ["a"], "merg": "b"})
