"""What a plan refuses, and what it says."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from tests.crashes import contents

from lorasmith.core.errors import DatasetError, Problem, Stopped
from lorasmith.core.events import Controls
from lorasmith.core.progress import TextConsole
from lorasmith.curation.changes.journal import Journal
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.changes.plan_view import render
from lorasmith.curation.changes.trash import STORE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.txt").write_text(f"zorp, hat, {name}", encoding="utf-8")
    return folder


def text_of(plan: Plan, most: int | None = 20) -> str:
    file = io.StringIO()
    TextConsole(file=file, width=80, color_system=None).print(render(plan, most))
    return file.getvalue()


def test_all_collisions_are_told_and_nothing_is_changed(folder: Path) -> None:
    before = contents(folder)
    plan = Plan("x", [folder])
    plan.move(folder / "a.txt", folder / "b.txt")
    plan.move(folder / "c.txt", folder / "b.txt")
    plan.remove(folder.parent / "elsewhere.txt")
    plan.write_text(folder / ("n" * 300), None, b"x")
    plan.remove(folder / STORE / "journal.sqlite")
    with pytest.raises(DatasetError) as info:
        plan.apply()
    text = "\n".join(map(str, info.value.problems))
    for message in (
        "b.txt: is there already",
        "c.txt: would become b.txt, as a.txt would",
        "elsewhere.txt: lies outside of the dataset",
        "longer than 255 bytes",
        "keeps the earlier contents",
    ):
        assert message in text
    assert contents(folder) == before
    assert not (folder / STORE).exists()


def test_where_one_image_fails_nothing_is_changed(folder: Path) -> None:
    before = contents(folder)

    def fail(path: Path) -> None:
        raise DatasetError.of("a.png", "it is truncated")

    plan = Plan("x", [folder])
    plan.remove(folder / "a.txt")
    plan.write_file(folder / "new.png", lambda path: _fill(path), what="made")
    plan.write_file(folder / "other.png", fail, what="made")
    with pytest.raises(DatasetError, match="truncated"):
        plan.apply()
    assert contents(folder) == before
    assert not any((folder / STORE / "staging").iterdir())


def _fill(path: Path) -> None:
    path.write_bytes(b"x" * 100)


def test_a_stop_before_the_first_change(folder: Path) -> None:
    before = contents(folder)
    controls = Controls()
    plan = Plan("x", [folder])
    plan.remove(folder / "a.txt")
    for number in range(5):
        plan.write_file(folder / f"{number}.png", _fill, what="made")
    with pytest.raises(Stopped):
        plan.apply(lambda _: controls.stop(), controls)
    assert contents(folder) == before


def test_two_images_may_share_a_caption(folder: Path) -> None:
    plan = Plan("x", [folder])
    data = (folder / "a.txt").read_bytes()
    for _ in range(2):
        plan.write_text(folder / "a.txt", data, b"new")
    assert plan.apply().counts == {"write": 1}


def test_what_is_shown(folder: Path) -> None:
    plan = Plan("x", [folder])
    for name in "abc":
        data = (folder / f"{name}.txt").read_bytes()
        plan.write_text(folder / f"{name}.txt", data, data.replace(b"hat", b"red hat, bow"))
    plan.move(folder / "d.png", folder / "e.png")
    text = text_of(plan, most=2)
    assert "a.txt\n  zorp, [-hat,-] {+red hat, bow,+} a" in text
    assert "and 2 more files (--all shows them)" in text
    rows = {tuple(line.split()) for line in text.splitlines()}
    assert {("bow", "0", "3"), ("hat", "3", "0"), ("red", "hat", "0", "3")} <= rows
    assert text.rstrip().endswith("3 files changed, 1 file moved")
    assert plan.tag_counts() == [("bow", 0, 3), ("hat", 3, 0), ("red hat", 0, 3)]


def test_ends_of_lines_are_no_part_of_tags(folder: Path) -> None:
    plan = Plan("x", [folder])
    plan.write_text(folder / "a.txt", b"zorp, hat\r\n", b"zorp\r\n")
    plan.write_text(folder / "b.txt", b"zorp\nhat\n", b"zorp, x\nhat, x\n")
    text = text_of(plan)
    assert "a.txt\n  zorp [-hat-]\n" in text
    assert "b.txt\n  zorp, {+x+}\nhat, {+x+}\n" in text


def test_what_is_too_long_for_a_caption_is_counted_not_compared(folder: Path) -> None:
    before = ", ".join(f"tag {n}" for n in range(100_000)).encode()
    plan = Plan("x", [folder])
    plan.write_text(folder / "a.txt", before, before.replace(b"tag 7, ", b"") + b", hat, cap")
    assert "  100,000 tags, of which 1 go; 2 come\n" in text_of(plan)


def test_of_many_warnings_some_are_shown(folder: Path) -> None:
    plan = Plan("x", [folder])
    plan.warnings += [Problem(f"{n}.png", "is odd") for n in range(25)]
    text = text_of(plan)
    assert "19.png" in text
    assert "20.png" not in text
    assert "and 5 more warnings (--all shows them)" in text
    assert "24.png" in text_of(plan, most=None)


def test_control_characters_are_shown_not_obeyed(folder: Path) -> None:
    plan = Plan("x", [folder])
    plan.write_text(folder / "a.txt", (folder / "a.txt").read_bytes(), b"\x1b[2Jzorp")
    assert "\x1b" not in text_of(plan)


def test_json_says_all(folder: Path) -> None:
    plan = Plan("x", [folder])
    plan.write_text(folder / "a.txt", (folder / "a.txt").read_bytes(), b"b")
    plan.remove(folder / "c.txt")
    changes = plan.to_json()["changes"]
    assert changes[0] == {
        "change": "write",
        "path": str(folder / "a.txt"),
        "before": "zorp, hat, a",
        "after": "b",
    }
    assert changes[1] == {"change": "remove", "path": str(folder / "c.txt")}


def test_a_caption_that_is_a_link_becomes_a_file(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere.txt"
    elsewhere.write_bytes(b"zorp")
    (folder / "link.txt").symlink_to(elsewhere)
    before = contents(folder)
    plan = Plan("x", [folder])
    plan.write_text(folder / "link.txt", b"zorp", b"zorp, hat")
    plan.apply()
    assert not (folder / "link.txt").is_symlink()
    assert (folder / "link.txt").read_bytes() == b"zorp, hat"
    assert elsewhere.read_bytes() == b"zorp"
    with Journal(folder) as journal:
        journal.undo()
    assert (folder / "link.txt").readlink() == elsewhere
    assert contents(folder) == before


def test_no_link_is_led_astray(folder: Path) -> None:
    (folder / "link.txt").symlink_to("a.txt")
    (folder / "dead.txt").symlink_to("nothing.txt")
    for change in ("target goes", "target moves", "link moves", "both move"):
        plan = Plan("x", [folder])
        if change == "target goes":
            plan.remove(folder / "a.txt")
        if change in ("target moves", "both move"):
            plan.move(folder / "a.txt", folder / "z.txt")
        if change in ("link moves", "both move"):
            plan.move(folder / "link.txt", folder / "inner" / "link.txt")
        with pytest.raises(DatasetError, match=r"link.txt: is a symbolic link to a.txt"):
            plan.check()
    plan = Plan("x", [folder])
    plan.move(folder / "a.txt", folder / "inner" / "a.txt")
    plan.move(folder / "link.txt", folder / "inner" / "link.txt")
    plan.move(folder / "dead.txt", folder / "inner" / "dead.txt")
    plan.apply()
    assert (folder / "inner" / "link.txt").read_text("utf-8") == "zorp, hat, a"
