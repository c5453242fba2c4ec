"""Fields as the sites and programs write them; the forms are from their documentation and code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorasmith.core.errors import DatasetError
from lorasmith.curation.sidecars.booru_json import parse_json_text, posts_in, read_post
from lorasmith.curation.sidecars.tags import Tag

DANBOORU = {
    "id": 1234, "md5": "0" * 32, "rating": "s", "file_url": "https://x/0.png", "source": "https://y",
    "tag_string": "1girl artist_a highres miku_(vocaloid) smile vocaloid",
    "tag_string_general": "1girl smile", "tag_string_artist": "artist_a",
    "tag_string_character": "miku_(vocaloid)", "tag_string_copyright": "vocaloid",
    "tag_string_meta": "highres",
}  # fmt: skip
ALL = (
    Tag("miku_(vocaloid)", "character"), Tag("vocaloid", "copyright"), Tag("artist_a", "artist"),
    Tag("1girl"), Tag("smile"), Tag("highres", "meta"),
)  # fmt: skip


def lists_of(post: dict[str, Any]) -> dict[str, Any]:
    """As gallery-dl adds them."""
    lists = {
        key.replace("tag_string", "tags"): value.split(" ")
        for key, value in post.items()
        if key.startswith("tag_string")
    }
    return {**post, **lists, "category": "danbooru", "caption": "<p>by the artist</p>"}


@pytest.mark.parametrize("post", [DANBOORU, lists_of(DANBOORU)], ids=["API", "gallery-dl"])
def test_danbooru(post: dict[str, Any]) -> None:
    car = read_post(post)
    assert car.tags == (*ALL, Tag("sensitive", "rating"))
    assert not car.text


def test_e621() -> None:
    tags = {
        "general": ["1girl", "smile"], "species": ["cat"], "artist": ["artist_a"], "lore": [],
        "character": ["miku_(vocaloid)"], "copyright": ["vocaloid"], "meta": ["highres"],
        "contributor": ["helper"], "invalid": [],
    }  # fmt: skip
    answer = {"posts": [{"id": 1, "tags": tags, "rating": "s", "description": "a story"}]}
    (post,) = posts_in(answer)
    car = read_post(post)
    assert set(car.tags) == {
        *ALL, Tag("cat", "species"), Tag("helper", "artist"), Tag("safe", "rating"),
    }  # fmt: skip
    assert not car.text
    assert posts_in({"post": answer["posts"][0]}) == [post]


@pytest.mark.parametrize(
    "answer",
    [
        {
            "@attributes": {"count": 1},
            "post": [{"id": 1, "tags": "1girl long_hair", "rating": "g"}],
        },
        [{"id": 1, "tags": "1girl long_hair", "rating": "s", "author": "x"}],
        {"tags": "1girl long_hair", "tags_general": "1girl long_hair", "category": "gelbooru"},
    ],
    ids=["Gelbooru", "Moebooru", "gallery-dl of Gelbooru"],
)
def test_tags_between_spaces(answer: Any) -> None:
    (post,) = posts_in(answer)
    names = [tag.name for tag in read_post(post).tags if tag.category == "general"]
    assert names == ["1girl", "long_hair"]


def test_philomena() -> None:
    image = {
        "id": 5, "tag_ids": [1], "description": "hello", "representations": {"full": "https://x"},
        "tags": ["artist:some one", "oc:zorp", "safe", "re:zero", "smiling", "series:the show"],
    }  # fmt: skip
    (post,) = posts_in({"image": image, "interactions": []})
    assert read_post(post).tags == (
        Tag("some one", "artist"), Tag("zorp", "character"), Tag("safe", "rating"), Tag("re:zero"),
        Tag("smiling"), Tag("the show", "copyright"),
    )  # fmt: skip


def test_pixiv() -> None:
    as_list = {"category": "pixiv", "tags": ["初音ミク", "VOCALOID1000users入り", "R-18"]}
    assert read_post(as_list).tags == (
        Tag("初音ミク"), Tag("VOCALOID1000users入り", "meta"), Tag("R-18", "rating"),
    )  # fmt: skip
    names = [{"name": "初音ミク", "translated_name": "Hatsune Miku"}, {"name": "猫"}, {}]
    assert [tag.name for tag in read_post({"tags": names}).tags] == ["Hatsune Miku", "猫"]


def test_sankaku() -> None:
    tags = [
        {"name_en": "smile", "tagName": "smile", "type": 0},
        {"tagName": "zorp", "type": 4},
        {"name": "someone", "category": "artist"},
    ]
    assert read_post({"tags": tags}).tags == (
        Tag("smile"), Tag("zorp", "character"), Tag("someone", "artist"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        {"metadata": {"tags": ["creator:x", "hat"], "urls": ["https://x"]}},
        {"all known tags": ["creator:x", "hat"]},
        {"tags": {"6c6f": {"display_tags": {"0": ["creator:x", "hat"], "2": ["wrong"]}}}},
    ],
)
def test_hydrus(value: Any) -> None:
    assert read_post(value).tags == (Tag("x", "artist"), Tag("hat"))


def test_a_row_of_captions() -> None:
    car = read_post(
        {"file_name": "a.png", "text": "A girl is standing in the rain.", "tags": "a, b"}
    )
    assert (car.text, car.tags) == ("A girl is standing in the rain.", (Tag("a"), Tag("b")))
    assert read_post({"text": "zorp, red hat"}).tags == (Tag("zorp"), Tag("red hat"))
    assert not read_post({"width": 3, "nodes": [{"id": 1}]})


def test_what_is_no_json_is_refused() -> None:
    for data in (b"{", b"[" * 100_000, b"\x89PNG\x00\x00"):
        with pytest.raises(DatasetError):
            parse_json_text(data, "a.json")


WORDS = st.sampled_from(
    ["tags", "tag_string", "tags_artist", "rating", "name", "type", "posts", "post", "2", "caption",
     "hydrus tags", "file", "url", "category", "tag_ids", "artist"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_nothing_that_json_can_say_breaks_the_reader(value: Any) -> None:
    data = json.dumps(value).encode()
    for post in posts_in(parse_json_text(data, "a.json")):
        car = read_post(post)
        assert all(tag.name.strip() for tag in car.tags)
