from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from lorasmith.core.errors import DatasetError
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import open_collection
from lorasmith.curation.edit.new_captions import Mode, NewCaptions, with_caption


def make_set(folder: Path, captions: dict[str, str | None]) -> Path:
    folder.mkdir()
    for name, caption in captions.items():
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
        if caption is not None:
            (folder / f"{name}.txt").write_text(caption, encoding="utf-8")
    return folder


def planned(folder: Path, mode: Mode) -> Plan:
    collection = open_collection(folder)
    plan = Plan("new", collection.roots)
    captions = NewCaptions(collection.images, mode, plan)
    for image in captions.images:
        captions.write(image, "new", lambda old: f"{old} + new")
    return plan


def texts(plan: Plan) -> dict[str, str]:
    return {change.path.name: (change.after or b"").decode() for change in plan.changes}


def test_what_is_empty(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", {"a": None, "b": "old", "c": " \n", "d": ""})
    assert texts(planned(folder, "if-empty")) == {
        "a.txt": "new\n",
        "c.txt": "new\n",
        "d.txt": "new\n",
    }
    assert texts(planned(folder, "append"))["b.txt"] == "old + new"
    assert texts(planned(folder, "replace"))["b.txt"] == "new"


def write_table(folder: Path) -> Path:
    rows = [{"file_name": f"{name}.png", "text": f"of {name}"} for name in "ab"]
    path = folder / "metadata.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_captions_in_a_table_are_captions(tmp_path: Path) -> None:
    """Training reads them where an image has none of its own, which would hide them."""
    folder = make_set(tmp_path / "set", {"a": None, "b": "own", "c": None})
    table = write_table(folder)
    plan = planned(folder, "if-empty")
    assert texts(plan) == {"c.txt": "new\n"}
    (warning,) = plan.warnings
    assert (warning.where, warning.what) == (
        str(table),
        "holds the captions of 1 picture, which keep them",
    )
    assert texts(planned(folder, "append")) == {
        "a.txt": "of a + new\n",
        "b.txt": "own + new",
        "c.txt": "new\n",
    }
    assert texts(planned(folder, "replace"))["a.txt"] == "new\n"


def test_two_images_of_one_caption(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", {"a": None})
    Image.new("RGB", (8, 8)).save(folder / "a.jpg")
    plan = planned(folder, "if-empty")
    plan.check()
    assert texts(plan) == {"a.txt": "new\n"}
    (warning,) = plan.warnings
    assert "shares a.txt with" in warning.what


def test_a_caption_that_is_no_text_is_left_alone(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", {"a": "\x00\x01", "b": None})
    plan = planned(folder, "append")
    (problem,) = plan.skipped
    assert problem.where == str(folder / "a.txt")
    plan.apply()
    assert (folder / "a.txt").read_bytes() == b"\x00\x01"
    assert (folder / "b.txt").exists()
    with pytest.raises(DatasetError, match="not a text file"):
        with_caption(b"\0\1\2PNG", "new", "append", str)


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [
        ("if-empty", None, b"new\n"),
        ("if-empty", b"", b"new\n"),
        ("if-empty", b" \r\n", b"new\r\n"),
        ("if-empty", b"\xef\xbb\xbf", b"\xef\xbb\xbfnew\n"),
        ("if-empty", b"old", b"old"),
        ("append", b"one\n\ntwo\r\n", b"one + new\n\ntwo + new\r\n"),
        ("append", b"caf\xe9", b"caf\xe9 + new"),
        ("append", "\ufeffé".encode("utf-16-le"), "\ufeffé + new".encode("utf-16-le")),
        ("replace", b"zorp, hat\r\nsecond\r\n", b"new\r\n"),
        ("replace", b"zorp", b"new"),
    ],
)
def test_files_before_and_after(mode: Mode, before: bytes | None, after: bytes) -> None:
    assert with_caption(before, "new", mode, lambda old: f"{old} + new") == after
