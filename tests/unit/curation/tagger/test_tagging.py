from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.tiny_taggers import write_tagger

from lorasmith.curation.collection import open_collection
from lorasmith.curation.edit.new_captions import MODES
from lorasmith.curation.tagger.choose import TagRules
from lorasmith.curation.tagger.model import Tagger, open_tagger
from lorasmith.curation.tagger.tagging import plan_tags, with_tags

TAGS = ["smile", "long hair"]


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [
        ("append", "zorp,  hat ,", "zorp,  hat,  smile,  long hair ,"),
        ("append", "zorp, Long_Hair", "zorp, Long_Hair, smile"),
        ("append", "zorp, (smile:1.2), long hair", "zorp, (smile:1.2), long hair"),
        ("prepend", "zorp, smile", "long hair, zorp, smile"),
    ],
)
def test_tags_that_are_missing_in_any_spelling(mode: str, before: str, after: str) -> None:
    assert with_tags(before, TAGS, mode) == after


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1))
def test_what_is_there_stays(text: str) -> None:
    """Whatever it is, up to commas and spaces around it."""
    for mode in ("append", "prepend"):
        after = with_tags(text, ["\u0394 tag"], mode)
        left = after.replace("\u0394 tag", "", 1).replace(",", "").split()
        assert left == text.replace(",", "").split()
        assert with_tags(after, ["\u0394 tag"], mode) == after  # not twice


@pytest.fixture
def tagger(tmp_path: Path) -> Tagger:
    """Tags by the means of blue, green and red."""
    return open_tagger(str(write_tagger(tmp_path / "wd", ("blue", "long_green", "red"))))


def make_set(folder: Path, **captions: str | None) -> Path:
    """Images of blue 0.9, green 0.5, red 0.1."""
    folder.mkdir()
    for number, (name, caption) in enumerate(captions.items()):
        Image.new("RGB", (8, 8), (26, 127 + number, 230)).save(folder / f"{name}.png")
        if caption is not None:
            (folder / f"{name}.txt").write_text(caption, encoding="utf-8")
    return folder


def test_only_pictures_without_captions(tmp_path: Path, tagger: Tagger) -> None:
    folder = make_set(tmp_path / "set", a=None, b="kept", c=" \n")
    plan = plan_tags(open_collection(folder), tagger)
    plan.apply()
    assert (folder / "a.txt").read_text() == "blue, long green\n"
    assert (folder / "b.txt").read_text() == "kept"
    assert (folder / "c.txt").read_text() == "blue, long green\n"


@pytest.mark.parametrize("mode", MODES)
def test_the_same_again_changes_nothing(tmp_path: Path, tagger: Tagger, mode: str) -> None:
    folder = make_set(tmp_path / "set", a=None, b="hat, zorp\n")
    for changes in (True, False):
        plan = plan_tags(open_collection(folder), tagger, mode=mode)
        assert bool(plan.changes) == changes
        plan.apply()


def test_thresholds_are_moved_without_the_model(tmp_path: Path, tagger: Tagger) -> None:
    folder = make_set(tmp_path / "set", a=None)
    again = Tagger(tagger.files)
    for limit, text, one in ((0.6, b"blue\n", tagger), (0.05, b"blue, long green, red\n", again)):
        plan = plan_tags(open_collection(folder), one, TagRules({"general": limit}))
        (change,) = plan.changes
        assert change.after == text
    assert again._backend is None


def test_only_those_of_a_filter(tmp_path: Path, tagger: Tagger) -> None:
    folder = make_set(tmp_path / "set", a="zorp", b="hat", c="zorp")
    plan = plan_tags(open_collection(folder), tagger, where="tag:zorp", mode="append")
    assert [change.path.name for change in plan.changes] == ["a.txt", "c.txt"]


def test_pictures_for_which_no_tag_is_found_are_said(tmp_path: Path, tagger: Tagger) -> None:
    folder = make_set(tmp_path / "set", a="old", b="old", c=None)
    rules = TagRules({"general": 0.99})
    plan = plan_tags(open_collection(folder), tagger, rules, mode="replace")
    assert not plan.changes
    (warning,) = plan.warnings
    assert "no tag reaches its threshold, nor for 2 more pictures" in warning.what


def test_damaged_pictures_are_said(tmp_path: Path, tagger: Tagger) -> None:
    folder = make_set(tmp_path / "set", a=None, b=None)
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:50])
    plan = plan_tags(open_collection(folder), tagger)
    assert [change.path.name for change in plan.changes] == ["b.txt"]
    (warning,) = plan.skipped
    assert warning.where == str(folder / "a.png")
