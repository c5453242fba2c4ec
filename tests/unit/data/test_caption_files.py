from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.data.caption_files import decode, read_caption
from lorasmith.data.layout import FolderSpec, find_folders
from lorasmith.data.scan import scan

TEXT = "café, naïve, Blåhaj"


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [(TEXT.encode(), TEXT, "UTF-8"),
     (codecs.BOM_UTF8 + TEXT.encode(), TEXT, "UTF-8"),
     (TEXT.encode("utf-16"), TEXT, "UTF-16"),
     (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), TEXT, "UTF-16"),
     (TEXT.encode("utf-16-le"), TEXT, "UTF-16"),
     (TEXT.encode("utf-16-be"), TEXT, "UTF-16"),
     (TEXT.encode("utf-32"), TEXT, "UTF-32"),
     (TEXT.encode("cp1252"), TEXT, "Windows-1252"),
     ("“quoted” – dash…".encode("cp1252"), "“quoted” – dash…", "Windows-1252"),
     ("über alles".encode("cp1252"), "über alles", "Windows-1252"),
     ("一个女孩，红色头发".encode("gbk"), "一个女孩，红色头发", "GBK"),
     ("zorp, 长发".encode("gbk"), "zorp, 长发", "GBK"),
     ("ピンクの髪の女の子".encode("cp932"), "ピンクの髪の女の子", "Shift JIS"),
     (b"\x81\x8d\x8f", "\x81\x8d\x8f", "Latin-1"),
     (b"", "", "UTF-8")],
)  # fmt: skip
def test_decode(data: bytes, text: str, encoding: str) -> None:
    assert decode(data) == (text, encoding)


@given(st.binary(max_size=60))
def test_decoding_never_fails(data: bytes) -> None:
    assert isinstance(decode(data)[0], str)


@given(st.text(max_size=60))
def test_every_utf8_text_comes_back(text: str) -> None:
    data = text.encode("utf-8")
    assert "\0" in text or text.startswith("\ufeff") or decode(data) == (text, "UTF-8")


def test_lines_are_stripped_and_empty_ones_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"  one, two \r\n\r\n\t\r\nthree\n")
    assert read_caption(path).text == "one, two\nthree"
    assert not read_caption(path).warning


def test_guessed_encodings_and_binary_files_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("café".encode("cp1252"))
    assert "Windows-1252" in read_caption(path).warning
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    assert read_caption(path).text == ""
    assert "not a text file" in read_caption(path).warning


Save = Callable[..., Path]


def captions(*folders: FolderSpec) -> dict[str, str | None]:
    return {image.path.name: image.caption for image in scan(folders).images}


TABLES = {
    # diffusers' imagefolder, with a BOM and a blank line
    "metadata.jsonl": '\ufeff{"file_name": "a.png", "text": "zorp, a"}\n\n'
    '{"file_name": "b.png", "text": "zorp, b"}\n',
    "metadata.csv": 'file_name,text\na.png,"zorp, a"\nb.png,"zorp, b"\n',
    "captions.csv": "image;caption\na.png;zorp, a\nb.png;zorp, b\n",
    "captions.tsv": "a.png\tzorp, a\nb\tzorp, b\n",
    "labels.csv": "a.png,zorp,a\nb.png,zorp,b\n",
    # sd-scripts' merge_captions_to_metadata.py and merge_dd_tags_to_metadata.py
    "meta_cap.json": json.dumps(
        {"/home/u/set/a.png": {"caption": "zorp, a", "train_resolution": [64, 64]},
         "b": {"caption": "zorp", "tags": "b"}}
    ),
    "meta_lat.jsonl": json.dumps({"image_path": "C:\\set\\a.png", "caption": "zorp", "tags": "a"})
    + "\n" + json.dumps({"image_path": "b.jpg", "caption": "zorp, b"}),
    "captions.json": json.dumps({"a.png": "zorp, a", "b.png": "zorp, b", "version": 1}),
    "list.json": json.dumps([{"image": "a.png", "tags": ["zorp", "a"]},
                             {"image": "b.png", "prompt": " zorp, b \n"}, 7]),
    # No quotes around the commas of a caption.
    "ragged.csv": "file_name,text\na.png,zorp, a\nb.png,zorp, b\n",
    # datasets' documentation of an imagefolder
    "features.jsonl": '{"file_name": "a.png", "additional_feature": "zorp, a"}\n'
    '{"file_name": "b.png", "additional_feature": "zorp, b"}',
    "data.json": json.dumps({"data": [{"image": "a.png", "caption": "zorp, a"},
                                      {"image": "b.png", "tags": {"x": ["zorp"], "y": ["b"]}}]}),
    "captions.txt": "a.png | zorp, a\nb.png | zorp, b\n",
    "danbooru.json": json.dumps([{"file": "a.png", "tag_string": "zorp a"},
                                 {"file": "b.png", "tag_string": "zorp b"}]),
    "quoted.csv": 'text,file_name\n"zorp, a",a.png\n"zorp, b",b.png\n',
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_read_where_images_have_no_caption_file(
    tmp_path: Path, save: Save, name: str
) -> None:
    folder = tmp_path / "10_folder name"
    save(folder / "a.png")
    save(folder / "b.png")
    save(folder / "c.png", caption="its own")
    (folder / name).write_text(TABLES[name], "utf-8")
    found = scan(find_folders(tmp_path))
    assert [image.caption for image in found.images] == ["zorp, a", "zorp, b", "its own"]
    assert found.images[0].caption_path == folder / name
    (warning,) = found.warnings
    assert warning.where == str(folder / name)
    assert "captions of 2 pictures without a caption file are read from it" in warning.what
    assert not found.ignored


def test_files_of_one_image(tmp_path: Path, save: Save) -> None:
    for name in ("a.png", "b.jpg", "c.png", "d.png"):
        save(tmp_path / "img" / name)
    (tmp_path / "img" / "a.png.txt").write_text("zorp a")
    (tmp_path / "img" / "b.jpg.caption").write_text("zorp b")
    (tmp_path / "img" / "c.json").write_text(json.dumps({"rating": "s", "tags": ["zorp", "c"]}))
    (tmp_path / "img" / "d.png.json").write_text(json.dumps({"tag_string": "zorp d"}))
    found = scan([FolderSpec(tmp_path / "img")])
    assert [image.caption for image in found.images] == [
        "zorp a", "zorp b", "zorp, c", "zorp, d",  # tag_string has spaces between tags
    ]  # fmt: skip
    assert not found.ignored


def test_an_own_file_goes_before_and_an_empty_one_does_not(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "img" / "a.png", caption="own")
    save(tmp_path / "img" / "b.png", caption="")
    (tmp_path / "img" / "a.png.txt").write_text("second")
    (tmp_path / "img" / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "text": "third"}\n{"file_name": "b.png", "text": "from table"}'
    )
    assert captions(FolderSpec(tmp_path / "img")) == {"a.png": "own", "b.png": "from table"}


def test_a_table_above_the_folders_goes_by_their_names(tmp_path: Path, save: Save) -> None:
    for name in ("1_x/a.png", "1_y/a.png"):
        save(tmp_path / name)
    rows = [{"file_name": "1_x/a.png", "text": "of x"}, {"file_name": "a.png", "text": "of whom?"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = scan(find_folders(tmp_path))
    assert [image.caption for image in found.images] == ["of x", "y"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("metadata.jsonl", '{"file_name": "a.png", "text": "x"'),
     ("metadata.csv", ""), ("metadata.csv", "\0\0,\n\0"), ("data.json", "[" * 100_000),
     ("data.json", '{"a": 1, "b": [2]}'), ("data.json", '["a.png"]'), ("data.json", "7"),
     ("data.json", '{"file_name": "a.png"}'), ("metadata.csv", "file_name,text\na.png\n"),
     ("metadata.csv", 'file_name,text\n"a.png'), ("x.json", '[{"image": 3, "text": null}]')],
)  # fmt: skip
def test_what_is_no_table_is_left_alone(tmp_path: Path, save: Save, name: str, text: str) -> None:
    save(tmp_path / "img" / "a.png")
    (tmp_path / "img" / name).write_text(text)
    found = scan([FolderSpec(tmp_path / "img")])
    assert [image.caption for image in found.images] == [None]
    assert [entry.path.name for entry in found.ignored] == [name]


def said(tmp_path: Path) -> list[str]:
    return [problem.what for problem in scan([FolderSpec(tmp_path)]).warnings]


def test_what_could_not_be_read_of_a_table_is_said(tmp_path: Path, save: Save) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / name)
    table = tmp_path / "metadata.jsonl"
    table.write_text(
        '{"file_name": "a.png", "text": "one"}\n{half\n{"file_name": "b.png", "text": "b"}'
    )
    assert captions(FolderSpec(tmp_path)) == {"a.png": "one", "b.png": "b"}
    assert "1 line is no JSON and left out (2)" in said(tmp_path)

    rows = ['{"file_name": "a.png", "text": "one"}', '{"file_name": "a.png", "text": "two"}']
    table.write_text("\n".join(rows))
    assert captions(FolderSpec(tmp_path))["a.png"] == "one"
    assert "has several captions of 1 picture (a.png); the first is used" in said(tmp_path)
    assert "captions of 1 picture without a caption file are read from it" in said(tmp_path)

    table.write_text('{"file_name": "a.png", "my_words": "one"}')
    assert "names 1 picture, but no column is known as a caption's (file_name, my_words)" in said(
        tmp_path
    )
    table.rename(tmp_path / "metadata.parquet")
    assert any("a table of this kind is not read" in one for one in said(tmp_path))


def test_a_file_of_spaces_is_no_caption_and_a_table_may_have_one(
    tmp_path: Path, save: Save
) -> None:
    save(tmp_path / "a.png", caption=" \n \n")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,zorp\n")
    assert captions(FolderSpec(tmp_path)) == {"a.png": "zorp"}


def test_a_caption_without_a_image_is_no_list_of_images(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "red.png")
    (tmp_path / "gone.txt").write_text("red, hat, smile")
    assert captions(FolderSpec(tmp_path)) == {"red.png": tmp_path.name}


def test_captions_with_other_endings_are_said(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "a.tags").write_text("zorp")
    assert "1 picture has a .tags file, and no .txt" in said(tmp_path)
    assert scan([FolderSpec(tmp_path)], extension="tags").images[0].caption == "zorp"
