"""Edits of files: what changes, what does not, and what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from tests.crashes import check_every_kill

from lorasmith.core.errors import DatasetError
from lorasmith.curation.changes.journal import Journal
from lorasmith.curation.collection import open_collection
from lorasmith.curation.edit.captions import plan_embed
from lorasmith.curation.edit.plan_edit import plan_deletion, plan_edit
from lorasmith.curation.edit.rename import plan_rename


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "img" / "5_zorp girl"
    images.mkdir(parents=True)
    captions = {"a": b"hat,  smile\r\n", "b": b"\xef\xbb\xbfred hat, solo", "c": None}
    for name, caption in captions.items():
        Image.new("RGB", (32, 32)).save(images / f"{name}.png")
        if caption is not None:
            (images / f"{name}.txt").write_bytes(caption)
    return images


def edit(folder: Path, *operations: str, where: str = "", create: bool = False) -> list[str]:
    """Apply; the warnings."""
    plan = plan_edit(open_collection(folder), operations, where, create=create)
    plan.apply()
    return [f"{Path(each.where).name}: {each.what}; {each.hint}" for each in plan.warnings]


def test_only_what_changes_is_written(folder: Path) -> None:
    plan = plan_edit(open_collection(folder), ["remove=solo"])
    assert [change.path.name for change in plan.changes] == ["b.txt"]
    edit(folder, "remove=solo")
    assert (folder / "b.txt").read_bytes() == b"\xef\xbb\xbfred hat"
    assert (folder / "a.txt").read_bytes() == b"hat,  smile\r\n"


def test_spacing_and_line_ends_stay(folder: Path) -> None:
    edit(folder, "trigger=zorp", "add=x")
    assert (folder / "a.txt").read_bytes() == b"zorp,  hat,  smile,  x\r\n"


def test_a_filter_chooses(folder: Path) -> None:
    edit(folder, "add=x", where="tag:hat")
    assert (folder / "a.txt").read_bytes() == b"hat,  smile,  x\r\n"
    assert (folder / "b.txt").read_bytes() == b"\xef\xbb\xbfred hat, solo"


def test_images_are_chosen_by_themselves(folder: Path) -> None:
    collection = open_collection(folder)
    some = [collection.images[1], collection.images[0]]
    plan = plan_edit(collection, ["add=x"], "tag:hat", images=some)
    assert [change.path.name for change in plan.changes] == ["a.txt"]
    assert plan.command == "edit --add x --where tag:hat (2 pictures)"
    assert not plan_edit(collection, ["add=x"], images=[]).changes
    gone = plan_deletion(collection, "", images=some[:1])
    assert [change.path.name for change in gone.changes] == ["b.png", "b.txt"]


def test_images_without_a_caption_get_one_when_it_is_asked_for(folder: Path) -> None:
    (warning,) = edit(folder, "folder-name")
    assert "c.png: has no caption file" in warning
    assert "--create" in warning
    assert not (folder / "c.txt").exists()
    assert not edit(folder, "folder-name", create=True)
    assert (folder / "c.txt").read_bytes() == b"zorp girl"
    assert (folder / "a.txt").read_bytes() == b"zorp girl,  hat,  smile\r\n"


def test_a_caption_in_a_table_is_edited_into_a_file(folder: Path) -> None:
    (folder / "metadata.jsonl").write_text('{"file_name": "c.png", "text": "a cat, hat"}\n')
    (warning,) = edit(folder, "rotate")
    assert "c.png: has its caption in a table" in warning
    assert not edit(folder, "replace=hat=cap", create=True)
    assert (folder / "c.txt").read_bytes() == b"a cat, cap"
    assert (folder / "metadata.jsonl").exists()


def test_kinds_of_tags_that_side_cars_name(folder: Path) -> None:
    post = {"tag_string_artist": "some_one", "tag_string_copyright": "a_game", "tag_string": "x"}
    (folder / "a.png.json").write_text(json.dumps(post))
    (folder / "a.txt").write_bytes(b"some one, hat, a_game")
    (folder / "b.txt").write_bytes(b"Some_One, solo")
    assert not [each for each in edit(folder, "prune=artist,series") if "side-cars" in each]
    assert (folder / "a.txt").read_bytes() == b"hat"
    assert (folder / "b.txt").read_bytes() == b"solo"
    (warning, *_) = edit(folder, "prune=species")
    assert "nor side-cars said which tags are of kind species" in warning


def test_undo_brings_every_byte_back(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    edit(folder, "trigger=zorp", "sort=count", "underscores", create=True)
    assert len({path.name for path in folder.iterdir()}) == len(before) + 1
    with Journal(open_collection(folder).root) as journal:
        journal.undo(1)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_several_lines_are_said_and_may_be_joined(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"1girl\nhat\nsmile\n")
    warnings = edit(folder, "add=x")
    assert any("a.txt: has several lines" in warning for warning in warnings)
    assert (folder / "a.txt").read_bytes() == b"1girl, x\nhat, x\nsmile, x\n"
    edit(folder, "remove=x", "join-lines", "add=y", "at=front")
    assert (folder / "a.txt").read_bytes() == b"y, 1girl, hat, smile\n"


def test_two_images_of_one_caption_edit_it_once(folder: Path) -> None:
    Image.new("RGB", (32, 32)).save(folder / "a.jpg")
    edit(folder, "rotate")
    assert (folder / "a.txt").read_bytes() == b"smile,  hat\r\n"


def test_a_tag_that_no_caption_has_is_said(folder: Path) -> None:
    warnings = edit(folder, "remove=red_hat, smlie")
    assert any('no caption has "red_hat"; did you mean red hat?' in each for each in warnings)
    assert any('no caption has "smlie"; did you mean smile?' in each for each in warnings)


def test_counts_are_of_the_whole_collection(folder: Path) -> None:
    (folder / "b.txt").write_bytes(b"solo, smile")
    edit(folder, "sort=count", where="tag:hat")
    assert (folder / "a.txt").read_bytes() == b"smile,  hat\r\n"


def test_tags_of_a_download_program_are_guessed_at(folder: Path) -> None:
    (folder / "a.txt").rename(folder / "a.png.txt")
    (folder / "a.png.txt").write_text("zorp\nhat\n")
    (warning,) = [each for each in edit(folder, "add=x") if "several lines" in each]
    assert "a.png.txt" in warning
    assert "`dataset import` makes captions of them" in warning


def test_what_is_no_text_is_left_alone_and_said(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"\x00\x01\x02hat")
    warnings = edit(folder, "add=x")
    assert any("a.txt: is not text" in warning for warning in warnings)
    assert (folder / "a.txt").read_bytes() == b"\x00\x01\x02hat"


def test_a_file_with_broken_bytes_is_left_out_and_named(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfhat \xff")
    plan = plan_edit(open_collection(folder), ["add=x"])
    plan.apply()
    assert "a.txt: it holds bytes that are not UTF-8" in str(plan.skipped[0])
    assert (folder / "a.txt").read_bytes() == b"\xef\xbb\xbfhat \xff"
    assert (folder / "b.txt").read_bytes() == b"\xef\xbb\xbfred hat, solo, x"


def test_another_encoding_is_said(folder: Path) -> None:
    (folder / "a.txt").write_bytes("café, hat".encode("cp1252"))
    (warning,) = [each for each in edit(folder, "add=帽子") if "a.txt" in each]
    assert "becomes UTF-8" in warning
    assert (folder / "a.txt").read_bytes() == "café, hat, 帽子".encode()


def test_a_general_folder_gives_no_name(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "pictures" / "a.png")
    (tmp_path / "pictures" / "a.txt").write_bytes(b"hat")
    (warning,) = edit(tmp_path / "pictures", "folder-name")
    assert "pictures: is a general name" in warning


def test_images_go_to_the_trash_with_their_files(folder: Path) -> None:
    Image.new("L", (32, 32)).save(folder / "a-masklabel.png")
    Image.new("RGB", (32, 32)).save(folder / "b.jpg")
    collection = open_collection(folder)
    plan = plan_deletion(collection, "tag:hat or name:b.png")
    plan.apply()
    # b.jpg still needs the caption.
    assert sorted(path.name for path in folder.iterdir()) == ["b.jpg", "b.txt", "c.png"]
    with pytest.raises(DatasetError, match="every picture"):
        plan_deletion(collection, " ")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["edit", "delete", "embed", "rename"])
def test_a_kill_leaves_old_or_new(folder: Path, verb: str) -> None:
    root = folder.parents[1]

    def action() -> None:
        collection = open_collection(root)
        if verb == "edit":
            plan_edit(collection, ["trigger=zorp", "folder-name"], create=True).apply()
        elif verb == "delete":
            plan_deletion(collection, "captioned").apply()
        elif verb == "embed":
            plan_embed(collection, collection.images, "captions --embed").apply()
        else:
            plan_rename(collection, collection.images, "b", "rename").apply()

    assert check_every_kill(root, action, lambda: Journal(root).close()) > 8


def test_the_history_says_what_one_would_type(folder: Path) -> None:
    plan = plan_edit(open_collection(folder), ["add=red hat", "dedupe", "swap=1 2"], "tag:hat")
    assert plan.command == "edit --add 'red hat' --dedupe --swap 1 2 --where tag:hat"


def test_no_operation_is_a_mistake(folder: Path) -> None:
    with pytest.raises(DatasetError, match="no operation"):
        plan_edit(open_collection(folder), [])
