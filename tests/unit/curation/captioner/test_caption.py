"""Captions of a captioner into a dataset: what is planned, kept, and left as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lorasmith.core.errors import DatasetError, Problem, RunError, Stopped
from lorasmith.core.events import Controls, Event, Notice, Progress
from lorasmith.curation.captioner.answers import Answer, KeptAnswers
from lorasmith.curation.captioner.caption import joined, plan_captions
from lorasmith.curation.changes.plan import Plan
from lorasmith.curation.collection import open_collection
from lorasmith.curation.edit.new_captions import Join, with_caption
from lorasmith.data.caption_files import decode

NAMES = ("a", "b", "c", "d", "e")


class Told:
    """A captioner that says what it is told of images, by their width."""

    def __init__(self, *texts: str, batch: int = 2, finished: bool = True) -> None:
        self.texts, self.batch, self.finished = texts, batch, finished
        self.batches: list[int] = []
        self.stop_after = 99

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"told": "yes"}

    def answers(self, images: Sequence[Image.Image], controls: Controls) -> list[Answer | Problem]:
        self.batches.append(len(images))
        if len(self.batches) > self.stop_after:
            controls.stop()
            controls.check("stopped; goes on there")
        texts = [self.texts[image.width - 10] for image in images]
        return [
            Problem("", text, "") if text.startswith("!") else Answer(text, self.finished)
            for text in texts
        ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images 10, 11, … px wide; b has a caption."""
    folder = tmp_path / "set"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        Image.new("RGB", (10 + number, 9), "red").save(folder / f"{name}.png")
    (folder / "b.txt").write_bytes(b"mine\r\n")
    return folder


def plan(folder: Path, captioner: Told, **options: Any) -> Plan:
    return plan_captions(open_collection(folder), captioner, **options)


def captions(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_bytes().decode() for path in sorted(folder.glob("*.txt"))}


TEXTS = ("red cat.", "blue cat.", "a hat.", "a star.", "the sky.")


def test_only_images_without_a_caption(folder: Path) -> None:
    captioner = Told(*TEXTS)
    plan(folder, captioner).apply()
    assert captions(folder) == {
        "a": "red cat.\n",
        "b": "mine\r\n",
        "c": "a hat.\n",
        "d": "a star.\n",
        "e": "the sky.\n",
    }
    assert captioner.batches == [2, 2]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("append", "mine, blue cat.\r\n"),
        ("prepend", "blue cat. mine\r\n"),
        ("replace", "blue cat.\r\n"),
        ("if-empty", "mine\r\n"),
    ],
)
def test_what_becomes_of_a_caption_that_is_there(folder: Path, mode: Any, expected: str) -> None:
    plan(folder, Told(*TEXTS), mode=mode).apply()
    assert captions(folder)["b"] == expected
    assert captions(folder)["a"] == "red cat.\n"


def test_an_empty_caption_file_counts_as_none(folder: Path) -> None:
    (folder / "b.txt").write_bytes(b"\n")
    plan(folder, Told(*TEXTS)).apply()
    assert captions(folder)["b"] == "blue cat.\n"


def test_prefix_suffix_and_forbidden_words(folder: Path) -> None:
    made = plan(
        folder, Told(*TEXTS), prefix="zorp,", suffix="On a wall.", blacklist=["red"], mode="replace"
    )
    made.apply()
    assert captions(folder)["a"] == "zorp, cat. On a wall.\n"


def test_tags(folder: Path) -> None:
    told = Told("1girl, hat\nhat, Red Hat", "mine, sky", "x", "x", "x")
    plan(folder, told, style="tags", prefix="zorp", mode="append").apply()
    assert captions(folder)["a"] == "zorp, 1girl, hat, Red Hat\n"
    assert captions(folder)["b"] == "mine, zorp, sky\r\n"


def test_empty_captions_are_listed_and_not_written(folder: Path) -> None:
    made = plan(folder, Told("red cat.", "x", "", "<think>so", "red"), blacklist=["red"])
    assert [Path(warning.where).name for warning in made.skipped] == ["c.png", "d.png", "e.png"]
    made.apply()
    assert set(captions(folder)) == {"a", "b"}


def test_loops_are_cut_and_counted(folder: Path) -> None:
    events: list[Event] = []
    loop = "a cat on a mat on a mat on a mat on a"
    plan(folder, Told(loop, *TEXTS[1:], finished=False), observer=events.append).apply()
    assert captions(folder)["a"] == "a cat on a mat\n"
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert notices == ["1 caption repeated itself and was cut"]


def test_what_breaks_off_loses_its_last_sentence(folder: Path) -> None:
    plan(folder, Told("A cat. A dog on", *TEXTS[1:], finished=False)).apply()
    assert captions(folder)["a"] == "A cat.\n"


def test_what_could_not_be_captioned_is_listed(folder: Path) -> None:
    (folder / "c.png").write_bytes(b"no picture")
    made = plan(folder, Told("!refused", *TEXTS[1:]))
    problems = {Path(warning.where).name: warning.what for warning in made.skipped}
    assert problems["a.png"] == "!refused"
    assert "text, not a picture" in problems["c.png"]
    made.apply()
    assert set(captions(folder)) == {"b", "d", "e"}


def test_what_refuses_every_image_is_not_asked_for_all(folder: Path) -> None:
    captioner = Told(*["!no images"] * 5, batch=1)
    with pytest.raises(RunError, match="every picture: !no images"):
        plan(folder, captioner, mode="replace")
    assert len(captioner.batches) == 3
    assert plan(folder, Told("!a", "!b", "!a", "!a", "!a", batch=1), mode="replace").skipped


def test_after_a_stop_the_next_call_goes_on(folder: Path) -> None:
    captioner = Told(*TEXTS)
    captioner.stop_after = 1
    with pytest.raises(Stopped):
        plan(folder, captioner)
    assert captions(folder) == {"b": "mine\r\n"}
    events: list[Event] = []
    again = Told(*TEXTS)
    plan(folder, again, observer=events.append).apply()
    assert again.batches == [2]
    assert set(captions(folder)) == set(NAMES)
    assert [event.done for event in events if isinstance(event, Progress)][:2] == [0, 2]
    assert any("2 pictures" in event.text for event in events if isinstance(event, Notice))


def test_what_was_answered_is_asked_once_whatever_is_done_with_it(folder: Path) -> None:
    first = Told(*TEXTS)
    plan(folder, first, mode="replace")
    (folder / "a.png").rename(folder / "z.png")
    second = Told(*["other"] * 5)
    plan(folder, second, mode="replace", prefix="zorp,").apply()
    assert second.batches == []
    assert captions(folder)["z"] == "zorp, red cat.\n"
    plan(folder, second, mode="replace", fresh=True).apply()
    assert sum(second.batches) == 5
    assert captions(folder)["z"] == "other\n"


def test_another_prompt_is_asked_anew(folder: Path, monkeypatch) -> None:
    plan(folder, Told(*TEXTS), mode="replace")
    monkeypatch.setattr(Told, "identity", {"told": "no"})
    other = Told(*TEXTS)
    plan(folder, other, mode="replace")
    assert sum(other.batches) == 5


def test_a_line_that_a_kill_broke_off_spoils_no_other(tmp_path: Path) -> None:
    kept = KeptAnswers(tmp_path, {"model": 1})
    kept.add("x", Answer("one"))
    with open(kept.path, "a") as file:
        file.write('{"image": "y", "te')
    KeptAnswers(tmp_path, {"model": 1}).add("z", Answer("two", finished=False))
    again = KeptAnswers(tmp_path, {"model": 1})
    assert (again.get("x"), again.get("y")) == (Answer("one"), None)
    assert again.get("z") == Answer("two", finished=False)
    assert len(KeptAnswers(tmp_path, {"model": 2})) == 0


def test_a_table_of_all_captions(folder: Path) -> None:
    table = folder / "metadata.jsonl"
    table.write_text(
        '{"file_name": "x.png", "text": "other"}\nnot a row\n{"file_name": "c.png", "n": 1}\n'
    )
    plan(folder, Told(*TEXTS), jsonl=table).apply()
    lines = table.read_text().splitlines()
    assert lines[1] == "not a row"
    rows = [json.loads(line) for line in lines if line != "not a row"]
    assert {row["file_name"]: row["text"] for row in rows} == {
        "x.png": "other", "a.png": "red cat.", "b.png": "mine", "c.png": "a hat.",
        "d.png": "a star.", "e.png": "the sky.",
    }  # fmt: skip
    assert rows[1]["n"] == 1
    assert not plan(folder, Told(*TEXTS), jsonl=table).changes


def test_a_table_outside_of_the_dataset_is_refused(folder: Path) -> None:
    with pytest.raises(DatasetError, match="outside of the dataset"):
        plan(folder, Told(*TEXTS), jsonl=folder.parent / "x.jsonl").apply()


def test_two_images_of_one_caption_file(folder: Path) -> None:
    Image.new("RGB", (14, 9)).save(folder / "a.webp")
    made = plan(folder, Told(*TEXTS))
    assert ["shares a.txt" in warning.what for warning in made.warnings] == [True]
    made.apply()
    assert captions(folder)["a"] in ("red cat.\n", "the sky.\n")


def test_a_caption_file_that_is_no_text_is_left_alone(folder: Path) -> None:
    (folder / "b.txt").write_bytes(b"\0\1\2 cap")
    made = plan(folder, Told(*TEXTS), mode="replace")
    assert ["not a text file" in problem.what for problem in made.skipped] == [True]
    made.apply()
    assert (folder / "b.txt").read_bytes() == b"\0\1\2 cap"
    assert captions(folder)["a"]


def test_of_a_recorded_crop_that_part_alone_is_shown(folder: Path) -> None:
    picture = Image.new("RGB", (40, 30), "red")
    picture.paste("blue", (10, 5, 22, 14))
    picture.save(folder / "a.png")
    record = folder / "a.crop.json"
    record.write_text('{"box": [10, 5, 22, 14], "size": [40, 30]}')
    captioner = Told(*TEXTS)
    plan(folder, captioner).apply()
    # Twelve pixels wide, as the third of the images.
    assert captions(folder)["a"] == "a hat.\n"
    (folder / "a.txt").unlink()
    record.write_text('{"box": [10, 5, 23, 14], "size": [40, 30]}')
    plan(folder, captioner).apply()
    assert captions(folder)["a"] == "a star.\n"
    (folder / "a.txt").unlink()
    record.write_text('{"box": [10, 5, 23, 14], "size": [41, 30]}')
    made = plan(folder, captioner)
    assert ["record the crop again" in warning.hint for warning in made.skipped] == [True]


def test_large_images_are_shown_small(folder: Path) -> None:
    sizes: list[tuple[int, int]] = []

    class Looking(Told):
        def answers(
            self, images: Sequence[Image.Image], controls: Controls
        ) -> list[Answer | Problem]:
            sizes.extend(image.size for image in images)
            return [Answer("x")] * len(images)

    Image.new("RGB", (400, 100)).save(folder / "a.png")
    plan(folder, Looking(), side=100)
    assert sizes[0] == (100, 25)
    assert sizes[1] == (12, 9)


def join(new: str, mode: Any) -> Join:
    return partial(joined, new=new, mode=mode, style="descriptive")


@pytest.mark.parametrize("mode", ["append", "prepend"])
@given(
    before=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip),
    ending=st.sampled_from(["", "\n", "\r\n", "\n\n"]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_what_was_there_keeps_its_bytes(before: str, ending: str, mark: bytes, mode: Any) -> None:
    data = mark + (before + ending).encode()
    after = with_caption(data, "zzz new", mode, join("zzz new", mode))
    text = decode(after)[0]
    assert after.startswith(mark)
    assert text.endswith(ending)
    assert text.count("zzz new") == sum(1 for line in before.splitlines() if line.strip())
    for line in before.splitlines():
        if line.strip():
            assert line.strip().strip(" ,") in text


def test_appending_twice_is_the_same_as_once() -> None:
    once = with_caption(b"mine", "a cat", "append", join("a cat", "append"))
    assert once == b"mine, a cat"
    assert with_caption(once, "a cat", "append", join("a cat", "append")) == once
