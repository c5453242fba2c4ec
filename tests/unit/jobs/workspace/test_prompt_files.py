"""Prompts and wildcards kept in a workspace: nothing is lost, and the preview is what is drawn."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.config.sample_prompts import sample_prompts
from lorasmith.core.errors import UserError
from lorasmith.jobs.curating.changes import ConflictError
from lorasmith.jobs.workspace.prompt_files import (
    MOST_BYTES,
    draw_command,
    expand_prompts,
    prompt_files,
    read_prompt_file,
    remove_prompt_file,
    rename_prompt_file,
    write_prompt_file,
)
from lorasmith.prompts.wildcards import Wildcards
from lorasmith.sampling.from_dataset import drawings_of_file
from lorasmith.sampling.request import ImageRequest, with_wildcards


def test_a_file_is_made_read_changed_renamed_and_removed(tmp_path: Path) -> None:
    made = write_prompt_file(tmp_path, "wildcards", "people/hair", "red\n# note\n\nblue\n")
    assert (tmp_path / "wildcards/people/hair.txt").read_text() == "red\n# note\n\nblue\n"
    (listed,) = prompt_files(tmp_path)
    assert (listed.kind, listed.name, listed.lines) == ("wildcards", "people/hair", 2)
    again = read_prompt_file(tmp_path, "wildcards", "people/hair")
    assert again == made
    changed = write_prompt_file(tmp_path, "wildcards", "people/hair", "green", made.version)
    assert changed.version != made.version
    renamed = rename_prompt_file(tmp_path, "wildcards", "people/hair", "hair")
    assert (renamed.text, renamed.version) == ("green", changed.version)
    kept = remove_prompt_file(tmp_path, "wildcards", "hair", changed.version)
    assert kept.read_text() == "green"
    assert prompt_files(tmp_path) == []


def test_what_was_changed_elsewhere_is_not_written_over(tmp_path: Path) -> None:
    made = write_prompt_file(tmp_path, "prompts", "ten", "a cat")
    place = Path(made.path)
    place.write_text("a dog")
    for change in (
        lambda: write_prompt_file(tmp_path, "prompts", "ten", "a hat", made.version),
        lambda: write_prompt_file(tmp_path, "prompts", "ten", "a hat"),
        lambda: remove_prompt_file(tmp_path, "prompts", "ten", made.version),
    ):
        with pytest.raises(ConflictError):
            change()
    write_prompt_file(tmp_path, "prompts", "other", "a bird")
    with pytest.raises(ConflictError):
        rename_prompt_file(tmp_path, "prompts", "other", "ten")
    place.unlink()
    with pytest.raises(ConflictError, match="not there any more"):
        write_prompt_file(tmp_path, "prompts", "ten", "a hat", made.version)
    assert sorted(path.name for path in place.parent.iterdir()) == ["other.txt"]


def test_a_file_that_cannot_be_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write_prompt_file(tmp_path, "prompts", "ten", "a cat")

    def fail(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError):
        write_prompt_file(tmp_path, "prompts", "ten", "a dog", made.version)
    assert Path(made.path).read_text() == "a cat"


def test_line_ends_and_marks_of_other_editors_stay(tmp_path: Path) -> None:
    place = tmp_path / "wildcards" / "a.txt"
    place.parent.mkdir()
    place.write_bytes(b"\xef\xbb\xbfred\r\nblue\r\n")
    found = read_prompt_file(tmp_path, "wildcards", "a")
    assert found.text == "red\nblue\n"
    write_prompt_file(tmp_path, "wildcards", "a", "red\ngreen\n", found.version)
    assert place.read_bytes() == b"\xef\xbb\xbfred\r\ngreen\r\n"


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "/etc/a", "a/../../b", "a\\b", "a\0b", "con", "a:b", ".a", "-a", "a/ b",
     "a" * 300],
)  # fmt: skip
def test_names_lead_nowhere_else(tmp_path: Path, name: str) -> None:
    for kind in ("prompts", "wildcards"):
        with pytest.raises(UserError):
            write_prompt_file(tmp_path, kind, name, "x")
    assert list(tmp_path.rglob("*.txt")) == []


def test_wildcards_have_names_that_prompts_can_say(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="end a wildcard's name"):
        write_prompt_file(tmp_path, "wildcards", "a__b", "x")
    write_prompt_file(tmp_path, "prompts", "a__b", "x")
    (tmp_path / "wildcards").mkdir()
    (tmp_path / "wildcards" / "(odd).txt").write_text("x")
    assert prompt_files(tmp_path)[-1].problem


def test_what_is_no_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "a.txt").write_bytes(b"\xff\xfe\x00")
    (listed,) = prompt_files(tmp_path)
    assert (listed.lines, listed.problem) == (None, "is not text in UTF-8")
    with pytest.raises(UserError, match="UTF-8"):
        read_prompt_file(tmp_path, "prompts", "a")
    with pytest.raises(UserError, match="are the most"):
        write_prompt_file(tmp_path, "prompts", "b", "x" * (MOST_BYTES + 1))


LIST = """# ten
a {red|blue} __thing__ --n __thing__ --w 64 --s 4
a cat --d 7

a dog --x 3
a __nothing__
"""


def test_a_preview_is_what_generate_draws(tmp_path: Path) -> None:
    write_prompt_file(tmp_path, "wildcards", "thing", "hat\ncap\n{big|small} hood")
    text = "".join(line for line in LIST.splitlines(True) if "--x" not in line)
    text = text.replace("__nothing__", "__thing__")
    made = write_prompt_file(tmp_path, "prompts", "ten", text)
    wildcards = Wildcards(tmp_path / "wildcards")
    drawings = drawings_of_file(Path(made.path), ImageRequest("", seed=5), tmp_path, count=3)
    requests = [with_wildcards(drawing.request, wildcards) for drawing in drawings]
    found = expand_prompts(tmp_path, text, seed=5, count=3)
    assert found.lines == 3
    assert [(one.prompt, one.negative, one.seed) for one in found.prompts] == [
        (request.prompt, request.negative, request.seed) for request in requests
    ]
    first = found.prompts[0]
    assert first.options == {"width": 64, "steps": 4}
    (sample,) = sample_prompts(first.sample)
    assert (sample.prompt, sample.negative) == (first.prompt, first.negative)
    assert (sample.width, sample.steps) == (64, 4)


def test_a_sample_says_all_that_its_line_says(tmp_path: Path) -> None:
    """Also what is so by itself in a drawing: a training's own samples may be set otherwise."""
    usual = ImageRequest("")
    text = f"a cat --d 7 --l 0 --s {usual.steps}"
    one, two = expand_prompts(tmp_path, f"{text}\na cat").prompts
    assert one.options == {"steps": usual.steps, "cfg": 0.0}
    (sample,) = sample_prompts(one.sample)
    assert (sample.seed, sample.cfg, sample.steps) == (7, 0, usual.steps)
    assert (two.sample, two.options) == ("a cat", {})


def test_lines_that_cannot_be_drawn_say_why(tmp_path: Path) -> None:
    write_prompt_file(tmp_path, "wildcards", "thing", "hat")
    found = expand_prompts(tmp_path, LIST)
    assert {one.line: one.problem for one in found.prompts if one.problem} == {
        5: "unknown option --x (known are --n, --w, --h, --d, --s, --l, --ss)",
        6: f"__nothing__: there is no such wildcard in {tmp_path / 'wildcards'}"
        " (did you mean __thing__?)",
    }


def test_a_wildcard_is_tried_while_it_is_written(tmp_path: Path) -> None:
    found = expand_prompts(tmp_path, "a __new__", edited=("new", "# no\nhat\n"))
    assert [one.prompt for one in found.prompts] == ["a hat"]
    assert prompt_files(tmp_path) == []


@given(st.text(max_size=60), st.integers(0, 99))
def test_any_text_is_previewed(text: str, seed: int) -> None:
    found = expand_prompts(Path("nowhere"), text, seed=seed, count=2)
    lines = [line.strip() for line in text.splitlines()]
    assert found.lines == sum(bool(line) and line[0] != "#" for line in lines)
    assert len(found.prompts) == 2 * found.lines


def test_the_command_names_the_list(tmp_path: Path) -> None:
    write_prompt_file(tmp_path, "prompts", "my list", "a")
    assert draw_command(tmp_path, "my list") == (
        f"lorasmith generate --prompts '{tmp_path}/prompts/my list.txt'"
    )
    write_prompt_file(tmp_path, "wildcards", "a", "a")
    assert draw_command(tmp_path, "my list").split(" --prompts")[0] == (
        f"lorasmith generate --wildcard-dir {tmp_path}/wildcards"
    )
