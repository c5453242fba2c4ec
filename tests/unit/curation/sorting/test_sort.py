from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lorasmith.core.errors import DatasetError, UserError
from lorasmith.curation.changes.journal import Journal
from lorasmith.curation.collection import Collection, open_collection
from lorasmith.curation.filter_language.grammar import FilterError
from lorasmith.curation.sorting.sort import SortSession, folder_name, plan_sort


def put(path: Path, caption: str = "", grey: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (grey, grey, grey)).save(path)
    if caption:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def files(folder: Path) -> dict[str, bytes]:
    """By path below the folder; without those of the journal."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".lorasmith" not in path.parts
    }


def undo(folder: Path) -> None:
    with Journal(folder) as journal:
        journal.undo()


def test_the_first_rule_that_takes_an_image_has_it(tmp_path: Path) -> None:
    put(tmp_path / "a.png", "zorp, hat")
    put(tmp_path / "b.png", "zorp, dog")
    put(tmp_path / "c.png", "dog, hat")
    put(tmp_path / "d.png")
    before = files(tmp_path)
    plan = plan_sort(
        open_collection(tmp_path), ["tag:hat -> hats", "tag:dog -> img/10_dog", "tag:x -> x"]
    )
    assert [str(warning) for warning in plan.warnings] == [
        "tag:x -> x: takes no picture",
        "1 picture is taken by no rule, and left alone",
    ]
    assert plan.notes == ["hats: 2 pictures", "img/10_dog: 1 picture"]
    plan.apply()
    names = ["d.png", "hats/a.png", "hats/a.txt", "hats/c.png", "hats/c.txt"]
    assert list(files(tmp_path)) == [*names, "img/10_dog/b.png", "img/10_dog/b.txt"]
    undo(tmp_path)
    assert files(tmp_path) == before


def test_all_that_belongs_to_an_image_goes_along(tmp_path: Path) -> None:
    put(tmp_path / "5_x" / "a.png", "hat")
    Image.new("L", (32, 32)).save(tmp_path / "5_x" / "a-masklabel.png")
    (tmp_path / "5_x" / "a.png.json").write_text("{}", encoding="utf-8")
    (tmp_path / "5_x" / "a_sdxl.npz").write_bytes(b"cache")
    put(tmp_path / "5_x" / "masks" / "b.png")
    put(tmp_path / "5_x" / "b.png", "hat")
    put(tmp_path / "5_x" / "c.png", "dog")
    plan_sort(open_collection(tmp_path), ["tag:hat -> 10_hat"]).apply()
    assert list(files(tmp_path)) == [
        "10_hat/a-masklabel.png", "10_hat/a.png", "10_hat/a.png.json", "10_hat/a.txt",
        "10_hat/a_sdxl.npz", "10_hat/b.png", "10_hat/b.txt", "10_hat/masks/b.png",
        "5_x/c.png", "5_x/c.txt",
    ]  # fmt: skip
    images = open_collection(tmp_path)
    assert {image.name: mask.parent.name for image, mask in images.masks.items()} == {
        "a.png": "10_hat", "b.png": "masks",
    }  # fmt: skip


def test_names_that_are_taken_get_a_number(tmp_path: Path) -> None:
    """With their captions: a second a.txt would be the caption of both."""
    put(tmp_path / "1" / "a.png", "hat, one", 10)
    put(tmp_path / "2" / "a.jpg", "hat, two", 20)
    put(tmp_path / "3" / "A.png", "hat, three", 30)
    put(tmp_path / "hats" / "a.webp", "hat, there", 40)
    put(tmp_path / "hats" / "a_2.png", "hat, number", 50)
    plan_sort(open_collection(tmp_path), ["tag:hat -> hats"]).apply()
    captions = {image.path.name: image.caption for image in open_collection(tmp_path).images}
    assert captions == {
        "a.webp": "hat, there",
        "a_2.png": "hat, number",
        "a_3.png": "hat, one",
        "a_4.jpg": "hat, two",
        "A_5.png": "hat, three",
    }


def test_images_of_one_name_stay_together(tmp_path: Path) -> None:
    put(tmp_path / "x" / "a.png", "hat")
    put(tmp_path / "x" / "a.jpg")
    put(tmp_path / "hats" / "a.png", "hat, there")
    plan_sort(open_collection(tmp_path), ["tag:hat -> hats"]).apply()
    assert list(files(tmp_path / "hats")) == ["a.png", "a.txt", "a_2.jpg", "a_2.png", "a_2.txt"]


def test_a_shared_caption_is_copied_for_the_one_that_goes(tmp_path: Path) -> None:
    put(tmp_path / "a.png", "hat")
    put(tmp_path / "a.jpg")
    plan_sort(open_collection(tmp_path), ["name:*.png -> one"]).apply()
    assert list(files(tmp_path)) == ["a.jpg", "a.txt", "one/a.png", "one/a.txt"]
    undo(tmp_path)
    plan_sort(open_collection(tmp_path), ["name:*.png -> one", "name:*.jpg -> two"]).apply()
    assert list(files(tmp_path)) == ["one/a.png", "one/a.txt", "two/a.jpg", "two/a.txt"]


def test_what_is_there_already_does_not_move(tmp_path: Path) -> None:
    put(tmp_path / "hats" / "a.png", "hat")
    plan = plan_sort(open_collection(tmp_path), ["tag:hat -> hats/"])
    assert not plan.changes
    assert not plan.warnings


def test_rings_of_folders(tmp_path: Path) -> None:
    put(tmp_path / "1" / "a.png", "two", 1)
    put(tmp_path / "2" / "a.png", "one", 2)
    before = files(tmp_path)
    plan_sort(open_collection(tmp_path), ["tag:one -> 1", "tag:two -> 2"]).apply()
    after = files(tmp_path)
    assert after["1/a.png"] == before["2/a.png"]
    assert after["2/a.txt"] == before["1/a.txt"]
    assert len(after) == 4


def test_every_rule_that_is_wrong_is_told(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    rules = ["no arrow", "tga:x -> a", "tag:x -> ../a", "tag:x -> ", "ok -> fine"]
    with pytest.raises(UserError) as info:
        plan_sort(open_collection(tmp_path), rules)
    assert len(info.value.problems) == 4
    with pytest.raises(DatasetError, match="no rule"):
        plan_sort(open_collection(tmp_path), [])
    with pytest.raises(FilterError):
        plan_sort(open_collection(tmp_path), ["a -> b"], where="(")


@pytest.mark.parametrize(
    ("text", "folder"), [(" a/b/ ", "a/b"), ("a\\b", "a/b"), (".", ""), ("./10_x y", "10_x y")]
)
def test_folders(text: str, folder: str) -> None:
    assert folder_name(text) == folder


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "/a",
        "..",
        "a/../b",
        "C:\\a",
        ".lorasmith/x",
        "a\0",
        "a\nb",
        "x. /y",
        ".git",
        "masks",
        "a/mask",
        "aux",
        "a/Con.x",
        "what?",
    ],
)
def test_no_folders(text: str) -> None:
    with pytest.raises(DatasetError):
        folder_name(text)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    put(tmp_path / "a.png", "hat")
    before = files(tmp_path)
    plan = plan_sort(open_collection(tmp_path), ["tag:hat -> a.txt/deep"])
    with pytest.raises(DatasetError, match="is a file, not a folder"):
        plan.apply()
    assert files(tmp_path) == before


NAMES = st.sampled_from(["a.png", "a.jpg", "a_2.png", "b.png", "A.webp"])


@pytest.mark.slow
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sets(st.tuples(st.sampled_from(["1", "2", "hats"]), NAMES), min_size=1, max_size=8),
    st.lists(st.sampled_from(["name:a -> hats", "name:png -> 1", " -> 2", "name:b -> ."])),
)
def test_no_image_is_lost_and_undo_gives_all_back(
    tmp_path_factory: pytest.TempPathFactory, places: set[tuple[str, str]], rules: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("sort")
    for number, (place, name) in enumerate(sorted(places)):
        put(folder / place / name, f"caption {place} {name.split('.')[0]}", number * 20)
    before = files(folder)
    images = {image.path.read_bytes(): image.caption for image in open_collection(folder).images}
    plan = plan_sort(open_collection(folder), rules or [" -> 1"])
    plan.apply()
    after = {image.path.read_bytes(): image.caption for image in open_collection(folder).images}
    assert after == images
    if plan.changes:
        undo(folder)
    assert files(folder) == before


# One by one


def session_of(folder: Path, **targets: str) -> tuple[Collection, SortSession]:
    images = open_collection(folder)
    return images, SortSession(images, targets)


def test_a_session(tmp_path: Path) -> None:
    for name in "abcd":
        put(tmp_path / f"{name}.png", f"caption of {name}")
    before = files(tmp_path)
    _, session = session_of(tmp_path, good="10_good", bad="bad")
    assert session.current is not None
    assert session.current.path.name == "a.png"
    session.choose("bad")
    assert session.undo()
    session.choose("good")
    session.delete()
    session.skip()
    assert (session.left, session.done, session.deleted) == (1, 3, 1)
    assert session.counts() == {"good": 1, "bad": 0}
    assert files(tmp_path) == before  # nothing happens until it is applied
    session.choose("good")
    assert session.current is None
    session.apply()
    assert list(files(tmp_path)) == [
        "10_good/a.png", "10_good/a.txt", "10_good/d.png", "10_good/d.txt", "c.png", "c.txt",
    ]  # fmt: skip
    undo(tmp_path)
    assert files(tmp_path) == before


def test_undo_at_the_beginning_and_deciding_at_the_end(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    _, session = session_of(tmp_path, x="x")
    assert not session.undo()
    session.skip()
    with pytest.raises(DatasetError, match="every picture"):
        session.skip()
    assert session.plans() == []


def test_targets_have_names_of_their_own_within_the_dataset(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    _, session = session_of(tmp_path, x="x")
    session.add_target("y", "deep/y")
    assert session.targets == {"x": tmp_path / "x", "y": tmp_path / "deep" / "y"}
    for name, folder in (("x", "z"), ("", "z"), ("z", "../z")):
        with pytest.raises(DatasetError):
            session.add_target(name, folder)
    with pytest.raises(DatasetError, match="there are x, y"):
        session.choose("z")


def test_going_on_later(tmp_path: Path) -> None:
    for name in "abcd":
        put(tmp_path / f"{name}.png")
    _, session = session_of(tmp_path, x="x")
    session.choose("x")
    session.delete()
    session.skip()
    value = session.to_json()
    (tmp_path / "b.png").unlink()
    put(tmp_path / "0.png")
    again = SortSession.from_json(open_collection(tmp_path), value)
    assert (again.done, again.left, again.counts()) == (2, 2, {"x": 1})
    assert again.current is not None
    assert again.current.path.name == "0.png"


def test_several_sources_into_one_dataset(tmp_path: Path) -> None:
    """Copied to the target before it leaves its source; each dataset can take it back."""
    put(tmp_path / "one" / "a.png", "one", 1)
    put(tmp_path / "two" / "a.png", "two", 2)
    put(tmp_path / "two" / "b.png", "three", 3)
    before = files(tmp_path)
    images = open_collection([tmp_path / "one", tmp_path / "two"])
    session = SortSession(images, {"good": "good", "away": tmp_path / "elsewhere"})
    session.choose("good")
    session.choose("good")
    session.choose("away")
    session.apply()
    after = files(tmp_path)
    assert list(after) == [
        "elsewhere/b.png", "elsewhere/b.txt",
        "one/good/a.png", "one/good/a.txt", "one/good/a_2.png", "one/good/a_2.txt",
    ]  # fmt: skip
    assert after["one/good/a_2.png"] == before["two/a.png"]
    for source in ("one", "two", "elsewhere"):
        undo(tmp_path / source)
    assert files(tmp_path) == before


def test_a_caption_shared_with_an_image_that_goes_moves(tmp_path: Path) -> None:
    put(tmp_path / "a.png", "hat")
    put(tmp_path / "a.jpg")
    _, session = session_of(tmp_path, x="x")
    assert session.current is not None
    assert session.current.path.name == "a.jpg"
    session.delete()
    session.choose("x")
    session.apply()
    assert list(files(tmp_path)) == ["x/a.png", "x/a.txt"]
