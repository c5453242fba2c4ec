from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.tiny_taggers import WD14_HEADER, WD14_ROWS

from lorasmith.core.errors import CheckpointError
from lorasmith.curation.tagger.labels import read_labels


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_smilingwolfs_table(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path / "selected_tags.csv", WD14_HEADER + WD14_ROWS))
    assert labels.names == ("general", "sensitive", "1girl", "long_hair", "hatsune_miku")
    assert labels.categories == ("rating", "rating", "general", "general", "character")
    assert labels.is_wd14


def test_the_category_is_read_not_the_place(tmp_path: Path) -> None:
    """Other taggers have no blocks."""
    rows = "1,miku,4,9\n2,general,9,9\n3,smile,0,9\n4,vocaloid,3,9\n5,highres,5,9\n6,wlop,1,9\n"
    labels = read_labels(write(tmp_path / "selected_tags.csv", WD14_HEADER + rows))
    order = ("character", "rating", "general", "copyright", "meta", "artist")
    assert labels.categories == order


def test_a_table_with_more_columns(tmp_path: Path) -> None:
    """pixai's."""
    text = 'id,tag_id,name,category,count,ips\n0,1,1girl,0,10,[]\n1,3,hu_tao,4,10,"[""genshin""]"\n'
    labels = read_labels(write(tmp_path / "selected_tags.csv", text))
    assert labels.names == ("1girl", "hu_tao")
    assert not labels.is_wd14


def test_cl_taggers_mapping(tmp_path: Path) -> None:
    value = {
        "1": {"tag": "hatsune_miku", "category": "Character"},
        "0": {"tag": "1girl", "category": "General"},
        "2": {"tag": "best_quality", "category": "Quality"},
        "3": {"tag": "novelai", "category": "Model"},
    }
    labels = read_labels(write(tmp_path / "tag_mapping.json", json.dumps(value)))
    assert labels.names == ("1girl", "hatsune_miku", "best_quality", "novelai")
    assert labels.categories == ("general", "character", "quality", "meta")


def test_cl_taggers_older_mapping(tmp_path: Path) -> None:
    value = {"idx_to_tag": {"0": "smile", "1": "miku"}, "tag_to_category": {"miku": "Character"}}
    labels = read_labels(write(tmp_path / "tag_mapping.json", json.dumps(value)))
    assert dict(zip(labels.names, labels.categories, strict=True)) == {
        "smile": "general",
        "miku": "character",
    }


def test_deepdanboorus_list(tmp_path: Path) -> None:
    write(tmp_path / "tags-character.txt", "hatsune_miku\n")
    labels = read_labels(write(tmp_path / "tags.txt", "1girl\nhatsune_miku\n\nrating:safe\n"))
    assert labels.names == ("1girl", "hatsune_miku", "safe")
    assert labels.categories == ("general", "character", "rating")


def test_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "selected_tags.csv"
    path.write_bytes(b"\xef\xbb\xbf" + (WD14_HEADER + WD14_ROWS).replace("\n", "\r\n").encode())
    assert read_labels(path).names[-1] == "hatsune_miku"


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("selected_tags.csv", "", 'has no columns "name" and "category"'),
        ("selected_tags.csv", "<html>not found</html>", 'has no columns "name" and "category"'),
        ("selected_tags.csv", WD14_HEADER, "has no labels"),
        ("selected_tags.csv", WD14_HEADER + "1,smile,0,1\n2\n", "line 3 has no name"),
        (
            "selected_tags.csv",
            WD14_HEADER + "1,smile,77,1\n",
            'line 2 has the unknown category "77"',
        ),
        ("tag_mapping.json", "{", "is not JSON"),
        ("tag_mapping.json", '"text"', "is not a table of labels"),
        ("tag_mapping.json", '{"0": "smile"}', 'entry "0" is not'),
        ("tag_mapping.json", '{"1": {"tag": "a", "category": "General"}}', "output 0 has no label"),
        ("tag_mapping.json", '{"0": {"tag": "a", "category": "Odd"}}', "unknown category"),
        ("tags.txt", "\n\n", "has no labels"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, name: str, text: str, what: str
) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(CheckpointError) as caught:
        read_labels(path)
    (problem,) = caught.value.problems
    assert problem.where == str(path)
    assert what in problem.what
    assert problem.hint
