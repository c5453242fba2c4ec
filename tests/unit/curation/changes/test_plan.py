"""What a plan refuses, and what it says."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from tests.crashes import contents

from lorasmith.core.errors import DatasetError, Problem, Stopped
from lorasmith.core.events import Controls
from lorasmith.core.progress import TextConsole
from lorasmith.curation.changes import plan as plan_module
from lorasmith.curation.changes.feasible import infeasible
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


def test_mistakes_of_the_command_forbid_all_of_it(folder: Path) -> None:
    before = contents(folder)
    plan = Plan("x", [folder])
    plan.remove(folder / "a.txt")
    plan.remove(folder.parent / "elsewhere.txt")
    plan.remove(folder / STORE / "journal.sqlite")
    with pytest.raises(DatasetError) as info:
        plan.apply()
    text = "\n".join(map(str, info.value.problems))
    assert "elsewhere.txt: lies outside of the dataset" in text
    assert "keeps the earlier contents" in text
    assert contents(folder) == before
    assert not (folder / STORE).exists()


def test_what_cannot_be_done_is_left_out_and_named(folder: Path) -> None:
    before = contents(folder)
    long, odd = "n" * 252, os.fsdecode(b"\xff")
    plan = Plan("x", [folder])
    plan.move(folder / "a.txt", folder / "b.txt")
    plan.write_text(folder / f"{odd}.txt", None, b"x")
    for name in ("d", long):
        with plan.together(folder / f"{name}.png"):
            plan.write_file(folder / f"{name}_flip.png", _fill, what="made")
            plan.write_text(folder / f"{name}_f.txt", None, b"x")
    plan.move(folder / "c.txt", folder / "e.txt")
    plan.apply()
    told = "\n".join(map(str, plan.skipped))
    assert "a.txt: would become b.txt, which is there already (rename one of them)" in told
    assert f"{long}.png: " in told
    assert "would have 261 bytes; a name has 255 at most (give it a shorter name)" in told
    assert "not UTF-8" in told
    assert len(plan.skipped) == 3
    assert contents(folder).keys() == {"a.txt", "b.txt", "e.txt", "d_flip.png", "d_f.txt"}
    with Journal(folder) as journal:
        journal.undo()
    assert contents(folder) == before


def test_what_was_to_make_room_stays_and_so_do_those_behind_it(folder: Path) -> None:
    before = contents(folder)
    plan = Plan("x", [folder])
    plan.move(folder / "a.txt", folder / "b.txt")
    plan.move(folder / "b.txt", folder / "c.txt")
    plan.check()
    assert not plan.changes
    assert len(plan.skipped) == 2
    plan.apply()
    assert contents(folder) == before


def test_two_that_would_get_one_name_both_keep_theirs(folder: Path) -> None:
    plan = Plan("x", [folder])
    plan.move(folder / "a.txt", folder / "z.txt")
    plan.move(folder / "c.txt", folder / "z.txt")
    plan.check()
    assert not plan.changes
    assert "would become z.txt, as c.txt would" in str(plan.skipped[0])


def test_what_was_checked_a_moment_ago_is_not_checked_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(
        plan_module, "infeasible", lambda *args: calls.append(1) or infeasible(*args)
    )
    plan = Plan("x", [folder])
    plan.move(folder / "a.txt", folder / "d.txt")
    plan.check()
    count = len(calls)
    plan.apply()
    assert len(calls) == count
    plan = Plan("x", [folder])
    plan.move(folder / "b.txt", folder / "e.txt")
    plan.check()
    plan.move(folder / "c.txt", folder / "f.txt")
    count = len(calls)
    plan.apply()
    assert len(calls) > count
    monkeypatch.setattr(plan_module, "_FRESH", -1.0)
    plan = Plan("x", [folder])
    plan.move(folder / "e.txt", folder / "g.txt")
    plan.check()
    (folder / "g.txt").write_text("somebody's", encoding="utf-8")
    plan.apply()
    assert "g.txt, which is there already" in str(plan.skipped[0])


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


MOVES = {
    "target moves": {"a.txt": "z.txt"},
    "target moves into a folder": {"a.txt": "inner/a.txt"},
    "link moves": {"link.txt": "inner/l.txt"},
    "both move": {"a.txt": "z.txt", "link.txt": "inner/link.txt"},
    "both move likewise": {"a.txt": "inner/a.txt", "link.txt": "inner/link.txt"},
    "names change places": {"a.txt": "link.txt", "link.txt": "a.txt"},
}


@pytest.mark.parametrize("case", MOVES)
def test_links_go_on_leading_where_they_led(folder: Path, case: str) -> None:
    elsewhere = folder.parent / "elsewhere.txt"
    elsewhere.write_text("elsewhere", encoding="utf-8")
    (folder / "other").mkdir()
    links = {
        "link.txt": "a.txt",
        "absolute.txt": str(folder / "a.txt"),
        "other/up.txt": "../a.txt",
        "out.txt": "../elsewhere.txt",
        "dead.txt": "nothing.txt",
    }
    for name, text in links.items():
        (folder / name).symlink_to(text)
    before = contents(folder)
    plan = Plan("x", [folder])
    moves = {**MOVES[case], "out.txt": "other/out.txt", "dead.txt": "other/dead.txt"}
    for source, target in moves.items():
        plan.move(folder / source, folder / target)
    plan.apply()
    assert not plan.skipped
    places = {name: folder / moves.get(name, name) for name in links}
    assert all(path.is_symlink() for path in places.values())
    for name in ("link.txt", "absolute.txt", "other/up.txt"):
        assert places[name].read_text("utf-8") == "zorp, hat, a"
        assert places[name].resolve() == (folder / moves.get("a.txt", "a.txt")).resolve()
        assert places[name].readlink().is_absolute() == (name == "absolute.txt")
    assert places["out.txt"].read_text("utf-8") == "elsewhere"
    assert elsewhere.read_text("utf-8") == "elsewhere"
    with Journal(folder) as journal:
        journal.undo()
    for name, text in links.items():
        assert os.readlink(folder / name) == text
    assert contents(folder) == before


def test_what_a_link_leads_to_does_not_go_without_it(folder: Path) -> None:
    (folder / "link.txt").symlink_to("a.txt")
    plan = Plan("x", [folder])
    plan.remove(folder / "a.txt")
    plan.remove(folder / "b.txt")
    plan.apply()
    assert "a.txt: is what the symbolic link link.txt leads to" in str(plan.skipped[0])
    assert (folder / "link.txt").read_text("utf-8") == "zorp, hat, a"
    assert not (folder / "b.txt").exists()
    plan = Plan("x", [folder])
    plan.remove(folder / "a.txt")
    plan.remove(folder / "link.txt")
    plan.apply()
    assert contents(folder).keys() == {"c.txt"}


def test_names_are_shown_within_the_dataset_and_on_one_line(folder: Path) -> None:
    name = "a\nDo it? \x1b[2J.txt"
    (folder / name).write_text("x", encoding="utf-8")
    plan = Plan("x", [folder])
    plan.move(folder / name, folder / "b.txt")
    plan.move(folder / "c.txt", folder / f"d{name}")
    plan.warnings.append(Problem(str(folder / name), f"is {name}"))
    plan.leave_out_infeasible()
    text = text_of(plan)
    assert "\x1b" not in text
    assert "left out: a␊Do it? ␛[2J.txt: would become b.txt" in text
    assert "c.txt -> da␊Do it? ␛[2J.txt" in text
    assert str(folder) not in text
    assert not any(line.startswith("Do it") for line in text.splitlines())
