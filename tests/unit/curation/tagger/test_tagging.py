from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lorasmith.core.errors import DatasetError
from lorasmith.curation.collection import open_collection
from lorasmith.curation.tagger.choose import TagRules
from lorasmith.curation.tagger.labels import WD14_FILE, Labels
from lorasmith.curation.tagger.scores import ImageScores, Scored
from lorasmith.curation.tagger.tagging import MODES, images_to_tag, plan_tags, tagged_caption

LABELS = Labels(("smile", "long_hair", "hat"), ("general",) * 3, Path("x"), WD14_FILE)
TAGS = ["smile", "long hair"]


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [
        ("if-empty", None, b"smile, long hair\n"),
        ("if-empty", b"", b"smile, long hair\n"),
        ("if-empty", b" \r\n", b"smile, long hair\r\n"),
        ("if-empty", codecs.BOM_UTF8, codecs.BOM_UTF8 + b"smile, long hair\n"),
        ("if-empty", b"a hat", b"a hat"),
        ("append", None, b"smile, long hair\n"),
        ("append", b"zorp,  hat ,\r\n", b"zorp,  hat,  smile,  long hair ,\r\n"),
        ("append", b"zorp, Long_Hair", b"zorp, Long_Hair, smile"),
        ("append", b"zorp, (smile:1.2), long hair\n", b"zorp, (smile:1.2), long hair\n"),
        ("append", b"one\n\ntwo\n", b"one, smile, long hair\n\ntwo, smile, long hair\n"),
        ("append", "\ufeffé".encode("utf-16-le"), "\ufeffé, smile, long hair".encode("utf-16-le")),
        ("append", b"caf\xe9", b"caf\xe9, smile, long hair"),
        ("prepend", b"zorp, smile", b"long hair, zorp, smile"),
        ("replace", b"zorp, hat\r\nsecond\r\n", b"smile, long hair\r\n"),
        ("replace", b"zorp", b"smile, long hair"),
    ],
)
def test_captions_before_and_after(mode: str, before: bytes | None, after: bytes) -> None:
    assert tagged_caption(before, TAGS, mode) == after


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1))
def test_what_is_there_stays_byte_for_byte(text: str) -> None:
    """Whatever it is: the old caption is the beginning, or the end, up to commas and spaces."""
    before = text.encode()
    for mode in ("append", "prepend"):
        after = tagged_caption(before, ["\u0394 tag"], mode)
        line = after.decode()
        assert line.replace("\u0394 tag", "", 1).replace(",", "").split() == (
            text.replace(",", "").split()
        ) or not text.strip(" ,")
        assert tagged_caption(after, ["\u0394 tag"], mode) == after  # not twice


def test_a_caption_that_is_no_text_is_refused() -> None:
    with pytest.raises(DatasetError, match="not a text file"):
        tagged_caption(b"\0\1\2PNG", TAGS, "append")


def make_set(folder: Path, captions: dict[str, str | None]) -> Path:
    folder.mkdir()
    for name, caption in captions.items():
        Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
        if caption is not None:
            (folder / f"{name}.txt").write_text(caption, encoding="utf-8")
    return folder


def scored(folder: Path, **scores: Sequence[float]) -> Scored:
    rows = {
        folder / f"{name}.png": ImageScores.of(np.array(values, np.float32))
        for name, values in scores.items()
    }
    return Scored(LABELS, rows)


def test_only_pictures_without_captions(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", {"a": None, "b": "kept", "c": " \n"})
    collection = open_collection(folder)
    chosen = images_to_tag(collection.images, "if-empty")
    assert [image.path.name for image in chosen] == ["a.png", "c.png"]
    rows = dict.fromkeys("abc", (0.9, 0.5, 0.1))
    plan = plan_tags(collection, scored(folder, **rows))
    assert {change.path.name for change in plan.changes} == {"a.txt", "c.txt"}
    plan.apply()
    assert (folder / "a.txt").read_text() == "smile, long hair\n"
    assert (folder / "b.txt").read_text() == "kept"
    assert (folder / "c.txt").read_text() == "smile, long hair\n"


@pytest.mark.parametrize("mode", MODES)
def test_the_same_again_changes_nothing(tmp_path: Path, mode: str) -> None:
    folder = make_set(tmp_path / "set", {"a": None, "b": "hat, zorp\n"})
    rows = dict.fromkeys("ab", (0.9, 0.5, 0.1))
    for changes in (True, False):
        collection = open_collection(folder)
        plan = plan_tags(collection, scored(folder, **rows), mode=mode)
        assert bool(plan.changes) == changes
        plan.apply()


def test_thresholds_are_moved_without_the_model(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", {"a": None})
    collection = open_collection(folder)
    results = scored(folder, a=[0.9, 0.5, 0.1])
    for limit, text in ((0.6, "smile\n"), (0.05, "smile, long hair, hat\n")):
        plan = plan_tags(collection, results, TagRules({"general": limit}))
        (change,) = plan.changes
        assert change.after == text.encode()


def test_pictures_for_which_no_tag_is_found_are_said(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", {"a": "old", "b": "old", "c": None})
    rows = dict.fromkeys("abc", (0.1, 0.1, 0.1))
    plan = plan_tags(open_collection(folder), scored(folder, **rows), mode="replace")
    assert not plan.changes
    (warning,) = plan.warnings
    assert "no tag reaches its threshold, nor for 2 more pictures" in warning.what


def test_two_pictures_of_one_caption(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", {"a": None})
    Image.new("RGB", (8, 8)).save(folder / "a.jpg")
    results = scored(folder, a=[0.9, 0.1, 0.1])
    results.scores[folder / "a.jpg"] = ImageScores.of(np.array([0.1, 0.1, 0.9], np.float32))
    plan = plan_tags(open_collection(folder), results)
    plan.check()
    (change,) = plan.changes
    (warning,) = plan.warnings
    assert change.after in (b"smile\n", b"hat\n")
    assert "shares a.txt with" in warning.what


def test_a_caption_that_cannot_be_changed_is_a_problem_of_the_plan(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", {"a": "\x00\x01", "b": None})
    rows = dict.fromkeys("ab", (0.9, 0.5, 0.1))
    plan = plan_tags(open_collection(folder), scored(folder, **rows), mode="append")
    (problem,) = plan.problems
    assert problem.where == str(folder / "a.txt")
    with pytest.raises(DatasetError):
        plan.apply()
    assert not (folder / "b.txt").exists()
