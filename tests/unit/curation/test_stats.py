from __future__ import annotations

import csv
import time
from collections import Counter
from itertools import combinations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.curation.in_memory import image

from lorasmith.core.errors import DatasetError
from lorasmith.curation.stats import (
    dataset_stats,
    find_tag,
    parse_range,
    tags_at,
    triggers_of,
)
from lorasmith.grids.values import split_list
from lorasmith.models.tokenizer import count_tokens

IMAGES = [
    image("a.png", "zorp, hat, red hat, hat", "10_zorp"),
    image("b.png", "zorp, smile", "10_zorp"),
    image("c.png", "zorp, hat, smile, odd", "5_dog"),
]


def test_counts() -> None:
    report = dataset_stats([*IMAGES, image("d.png", "")])
    assert (report.images, report.captioned) == (4, 3)
    assert report.folders == {"10_zorp": 2, "5_dog": 1, "": 1}
    rows = [(tag.tag, tag.images, tag.folders) for tag in report.tags]
    assert rows == [
        ("zorp", 3, {"10_zorp": 2, "5_dog": 1}),
        ("hat", 2, {"10_zorp": 1, "5_dog": 1}),  # twice in one caption is once
        ("smile", 2, {"10_zorp": 1, "5_dog": 1}),
        ("odd", 1, {"5_dog": 1}),
        ("red hat", 1, {"10_zorp": 1}),
    ]
    assert report.once == ["odd", "red hat"]
    assert report.everywhere == []
    assert dataset_stats(IMAGES).everywhere == ["zorp"]


def test_tokens_over_each_limit() -> None:
    captions = ["hat, " * 40, "hat, " * 80, "hat, " * 120, "hat"]
    report = dataset_stats([image(f"{n}.png", caption) for n, caption in enumerate(captions)])
    counts = sorted(map(count_tokens, captions))
    assert report.tokens is not None
    assert (report.tokens.least, report.tokens.most) == (counts[0], counts[-1])
    assert report.tokens.median == (counts[1] + counts[2]) / 2
    assert report.tokens.longer == {75: 3, 150: 2, 225: 1}
    assert dataset_stats([image("a.png")]).tokens is None


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=6), min_size=1, max_size=8))
def test_pairs_are_those_that_one_counts_by_hand(rows: list[list[str]]) -> None:
    report = dataset_stats([image(f"{n}.png", ", ".join(tags)) for n, tags in enumerate(rows)])
    sets = [set(tags) for tags in rows]
    single = Counter(tag for tags in sets for tag in tags)
    both = Counter(pair for tags in sets for pair in combinations(sorted(tags), 2))
    expected = {
        pair: (count, count / (single[pair[0]] + single[pair[1]] - count))
        for pair, count in both.items()
        if count > 1 and all(single[tag] < len(rows) for tag in pair)
    }
    pairs = {(pair.first, pair.second): (pair.images, pair.likeness) for pair in report.pairs}
    assert pairs == expected
    likenesses = [pair.likeness for pair in report.pairs]
    assert likenesses == sorted(likenesses, reverse=True)


def test_a_table_for_other_programs() -> None:
    assert dataset_stats(IMAGES).rows()[:3] == [
        ["tag", "on", "off", "share", "10_zorp", "5_dog"],
        ["zorp", "3", "0", "1.0000", "2", "1"],
        ["hat", "2", "1", "0.6667", "1", "1"],
    ]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("hat", [("a.png", "hat", 2), ("a.png", "hat", 4), ("c.png", "hat", 2)]),
        ("RED*", [("a.png", "red hat", 3)]),
        ("ha", []),
    ],
)
def test_finding_a_tag(tag: str, expected: list[tuple[str, str, int]]) -> None:
    files = find_tag(IMAGES, tag).files
    assert [(file.path.name, file.tag, file.position) for file in files] == expected


@pytest.mark.parametrize(
    ("position", "tags"),
    [
        (1, ["zorp", "zorp", "zorp"]),
        (3, ["red hat", "", "smile"]),
        (-1, ["hat", "smile", "odd"]),
        (-3, ["hat", "", "hat"]),
    ],
)
def test_tags_at_a_position(position: int, tags: list[str]) -> None:
    report = tags_at(IMAGES, position)
    assert [file.tag for file in report.files] == tags
    assert report.counts == Counter(tags)


@pytest.mark.parametrize(
    ("text", "triggers", "missing"),
    [
        ("1", ["zorp"], 0),
        ("1:2", ["zorp, hat", "zorp, smile"], 0),
        ("2:2", ["hat", "smile"], 0),
        ("3:", ["red hat, hat", "smile, odd"], 1),
        (":-3", ["zorp, hat"], 1),
        ("-1:-1", ["hat", "smile", "odd"], 0),
        ("-9:1", ["zorp"], 0),
    ],
)
def test_triggers(text: str, triggers: list[str], missing: int) -> None:
    report = triggers_of(IMAGES, *parse_range(text))
    assert (list(report.counts), report.missing) == (triggers, missing)


@pytest.mark.parametrize("text", ["2:1", "-1:-2", "9:8"])
def test_an_empty_range(text: str) -> None:
    with pytest.raises(DatasetError, match="is empty: it ends before it begins"):
        parse_range(text)


@pytest.mark.parametrize("text", ["0", "1:0", "0:2", "-0:"])
def test_there_is_no_position_0(text: str) -> None:
    with pytest.raises(DatasetError, match="there is no position 0"):
        parse_range(text)


@pytest.mark.parametrize("text", ["", "a", "-", "1:2:3", "1,2", "99999", "9" * 5000])
def test_no_positions(text: str) -> None:
    with pytest.raises(DatasetError, match="two positions"):
        parse_range(text)


@given(st.lists(st.text("ab \",'|:é", min_size=1), min_size=1))
def test_the_list_of_triggers_is_read_as_it_was_written(tags: list[str]) -> None:
    """By a grid's axis, and by Python's CSV reader, which the web UI has."""
    images = [image("a.png", tag.replace(",", ";") + ", x") for tag in tags]
    report = triggers_of(images, 1, 2)
    assert split_list(report.line) == list(report.counts)
    assert next(csv.reader([report.line])) == list(report.counts)


@pytest.mark.slow
def test_ten_thousand_captions() -> None:
    random = Random(0)
    tags = [f"tag {number}" for number in range(1500)]
    images = [image(f"{n}.png", ", ".join(random.sample(tags, 25))) for n in range(10_000)]
    begin = time.process_time()
    dataset_stats(images)
    assert time.process_time() - begin < 3
