"""Filters take what a plain reading of them says."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.unit.curation.in_memory import InMemory, collection, facts, image

from lorasmith.core.errors import DatasetError
from lorasmith.core.events import Event, Notice
from lorasmith.curation import filter as filter_module
from lorasmith.curation.collection import CollectionImage, open_collection
from lorasmith.curation.filter import parse_filter
from lorasmith.curation.filter_language.words import written

HATS = collection(
    [
        image("a.png", "zorp, hat, smile", "10_zorp"),
        image("b.jpg", "zorp, red hat, 1girl", "10_zorp"),
        image("c.png", "Zorp, HAT, miku (vocaloid), smile", "5_other/deep"),
        image("d.png", "", "5_other"),
        image("zorp_5.png", r"dog, red hat, miku \(vocaloid\)" + "\na second line"),
    ],
    {
        "a.png": facts(width=256, height=512),
        "b.jpg": facts(width=1920, height=1080, blur=0.8),
        "c.png": facts(width=512, height=768, transparent=True),
        "d.png": facts(width=0, problem="it is damaged"),
    },
)


def names(text: str, images: InMemory = HATS) -> str:
    return " ".join(one.path.stem for one in parse_filter(text).select(images))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "a b c d zorp_5"),
        ("tag:hat", "a c"),
        ("TAG:Hat", "a c"),
        ('tag:"red hat"', "b zorp_5"),
        ("tag:'red hat'", "b zorp_5"),
        ("tag:*hat", "a b c zorp_5"),
        ("tag:?at", "a c"),
        (r"tag:\*hat", ""),
        ("hat", "a b c zorp_5"),
        ("zorp", "a b c zorp_5"),  # in the caption, in a folder, in a name
        ("caption:smile", "a c"),
        ('caption:"second line"', "zorp_5"),
        ("name:zorp", "zorp_5"),
        ("name:*.jpg", "b"),
        ("path:other/d", "c d"),
        ("folder:10_zorp", "a b"),
        ("folder:5_*", "c d"),
        ("folder:deep", "c"),
        ("folder:5_other/deep/", "c"),
        ("folder:other", ""),
        ("folder:pictures", "a b c d zorp_5"),
        ('folder:""', "zorp_5"),
        ("tag:miku_(vocaloid)", ""),
        ('tag:"miku (vocaloid)"', "c zorp_5"),
        (r'tag:"miku \(vocaloid\)"', "c zorp_5"),
        ('re:"^zorp, (red )?hat"', "a b c"),
        (r"re:\d+girl", "b"),
        ("tags:3", "a b zorp_5"),
        ("tags:>3", "c"),
        ("tags:!=3", "c d"),
        ("chars:<17", "a d"),
        ("tokens:<=6", "a d"),
        ("untagged", "d"),
        ("captioned", "a b c zorp_5"),
        ('"untagged"', ""),
        ("width:<512", "a"),
        ("width:>=512", "b c zorp_5"),
        ("-width:<512", "b c d zorp_5"),  # what has no size is not below it
        ("height:=768", "c"),
        ("aspect:>1.5", "b"),
        ("aspect:16:9", "b"),
        ("aspect:16/9", "b"),
        ("aspect:1.8", "b"),
        ("aspect:1.78", "b"),
        ("aspect:0.67", "c"),
        ("size:<1mp", "a c zorp_5"),
        ("size:>2mp", "b"),
        ("size:2.1mp", "b"),
        ("size:512x768", "c"),
        ("size:512:768", "c"),
        ("size:!=512x768", "a b d zorp_5"),
        ("blur:>0.7", "b"),
        ("transparent", "c"),
        ("broken", "d"),
        ("tag:hat or tag:dog", "a c zorp_5"),
        ("tag:hat tag:smile", "a c"),
        ("tag:hat and tag:smile", "a c"),
        ("tag:hat AND NOT folder:deep", "a"),
        ("tag:hat -folder:deep", "a"),
        ("tag:hat - folder:deep", "a"),
        ("not not tag:hat", "a c"),
        ("-(tag:hat or untagged)", "b zorp_5"),
        # NOT before AND before OR
        ("untagged or tag:zorp tag:1girl", "b d"),
        ("(untagged or tag:zorp) tag:1girl", "b"),
        ("not tag:zorp untagged", "d"),
    ],
)
def test_what_is_taken(text: str, expected: str) -> None:
    assert names(text) == expected


def test_all_of_it_at_once() -> None:
    text = (
        'tag:hat -tag:"red hat" tokens:<75 caption:smile folder:10_zorp width:<512 aspect:>0.4 '
        're:"^zorp" (a or b) not c:'.replace("c:", "dog")
    )
    assert names(text) == "a"


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("name:a folder:b", set()),
        ("tag:hat untagged re:x bare", {"captions"}),
        ("tokens:>75", {"tokens"}),
        ("width:<512 or size:1x1", {"headers"}),
        ("dup:exact bytes:>1mb animated", {"headers"}),
        ("-(hat blur:>0.5)", {"captions", "pixels"}),
        ("dup", {"pixels"}),
    ],
)
def test_it_says_what_it_needs_and_asks_for_nothing_else(text: str, needs: set[str]) -> None:
    images = collection([image("a.png", "hat")])
    taking = parse_filter(text)
    assert taking.needs == needs
    taking.select(images)
    assert bool(images.measured) <= ("pixels" in needs)
    assert bool(images.headers_read) <= ("headers" in needs)


def test_only_what_the_rest_takes_is_decoded() -> None:
    images = collection([image("a.png", "hat"), image("b.png", "dog")], {"a.png": facts(blur=0.9)})
    assert [one.path.name for one in parse_filter("blur:>0.5 tag:hat").select(images)] == ["a.png"]
    assert images.measured == {"a.png"}


def test_captions_are_not_read_for_names(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("hat")
    images = open_collection(tmp_path)
    (tmp_path / "a.txt").unlink()
    assert len(parse_filter("name:a").select(images)) == 1
    with pytest.raises(DatasetError):
        parse_filter("tag:hat").select(images)


def test_where_there_is_nothing_to_do_it_is_said_why(tmp_path: Path) -> None:
    events: list[Event] = []
    parse_filter("").select(open_collection(tmp_path), events.append)
    assert events == [Notice("warning", f"there is no picture in {tmp_path}")]
    events.clear()
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    parse_filter("").select(open_collection(tmp_path), events.append)
    assert not events
    parse_filter("tag:hat blur:>0.9").select(open_collection(tmp_path), events.append)
    assert events == [Notice("warning", "no picture is taken by the filter: tag:hat blur:>0.9")]


def test_files_on_a_disk(tmp_path: Path) -> None:
    """Duplicates, animations, masks, sizes in bytes."""
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    noise.save(tmp_path / "a.png")
    noise.save(tmp_path / "near.png", compress_level=0)
    (tmp_path / "same.png").write_bytes((tmp_path / "a.png").read_bytes())
    other = Image.effect_noise((64, 64), 80).convert("RGB")
    other.save(tmp_path / "other.png")
    Image.new("L", (64, 64)).save(tmp_path / "other-masklabel.png")
    noise.rotate(90).save(
        tmp_path / "moves.webp", save_all=True, append_images=[other], lossless=True
    )
    (tmp_path / "hurt.png").write_bytes((tmp_path / "other.png").read_bytes()[:2000])
    images = open_collection(tmp_path)

    def taken(text: str) -> str:
        return " ".join(sorted(one.path.stem for one in parse_filter(text).select(images)))

    assert taken("dup:exact") == "a same"
    assert taken("dup:near") == "near"
    assert taken("dup") == "a near same"
    assert taken("animated") == "moves"
    assert taken("mask") == "other"
    assert taken("broken") == "hurt"
    assert taken("bytes:2kb name:hurt") == "hurt"
    assert taken("bytes:<=2000") == "hurt"
    assert taken("bytes:>1.9kib bytes:<2kib") == "hurt"


def test_a_pattern_that_takes_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_module, "_PATTERN_SECONDS", 0.05)
    images = collection([image("a.png", "a" * 60 + "b")])
    with pytest.raises(DatasetError, match="takes too long"):
        parse_filter('re:"^(a|aa)+$"').select(images)


def test_units_are_exact() -> None:
    """2.01 * 1000 is 2009.9999999999998 in binary."""
    images = collection([image("a.png")], {"a.png": facts(width=2010, height=1)})
    for sign, expected in {">": 0, ">=": 1, "=": 1}.items():
        assert len(parse_filter(f"size:{sign}2.01kp").select(images)) == expected


def test_a_filter_of_one_image() -> None:
    taking = parse_filter("tag:hat")
    assert [taking.matches(HATS, one) for one in HATS.images] == [True, False, True, False, False]


@pytest.mark.slow
def test_ten_thousand_captions_take_no_time() -> None:
    """Processor time; 0.3 s is promised for one filter."""
    random = Random(0)
    tags = [f"tag number {number}" for number in range(2000)]
    images = collection(
        image(f"{n}.png", ", ".join(random.sample(tags, 25)), f"{n % 7}_f") for n in range(10_000)
    )
    for text in (
        'tag:"tag number 7"',
        '-tag:"* 7" (caption:99 or folder:3_*)',
        're:"number 19\\d+, tag" tags:>3',
    ):
        taking = parse_filter(text)
        begin = time.process_time()
        assert 0 < len(taking.select(images)) < 10_000
        assert time.process_time() - begin < 0.3


# Against a plain reading

Plain = Callable[[CollectionImage], bool]
TAGS = ["hat", "red hat", "HAT", "a*b", "q?", 'say "x"', "b\\c", "it's", "né", "(o)", "-dash", "or"]
PATTERNS = ["*hat", "r?d*", "*", "??", "*a*", "a*b"]


def text_term(key: str, value: str, plain: Callable[[CollectionImage, str], bool]):
    return f"{key}:{written(value)}", lambda one: plain(one, value)


def number_term(key: str, sign: str, number: int, value: Callable[[CollectionImage], int]):
    compare = {
        "<": int.__lt__, "<=": int.__le__, ">": int.__gt__, ">=": int.__ge__,
        "=": int.__eq__, "!=": int.__ne__, "": int.__eq__, "==": int.__eq__,
    }[sign]  # fmt: skip
    return f"{key}:{sign}{number}", lambda one: compare(value(one), number)


NUMBERS = {"tags": lambda one: len(one.tags), "chars": lambda one: len(one.caption)}
signs = st.sampled_from(["<", "<=", ">", ">=", "=", "!=", "", "=="])
terms = st.one_of(
    st.sampled_from(TAGS).map(
        lambda tag: text_term("tag", tag, lambda one, v: v.lower() in [t.lower() for t in one.tags])
    ),
    st.sampled_from(PATTERNS).map(
        lambda pattern: (
            f'tag:"{pattern}"',
            lambda one: any(fnmatchcase(tag.lower(), pattern) for tag in one.tags),
        )
    ),
    st.sampled_from(TAGS).map(
        lambda tag: text_term("caption", tag, lambda one, v: v.lower() in one.caption.lower())
    ),
    st.sampled_from(["hat", "3", "f"]).map(
        lambda word: (
            word,
            lambda one: word in one.caption.lower() or word in f"{one.folder}/{one.path.name}",
        )
    ),
    st.sampled_from(["f", "g"]).map(
        lambda name: text_term("folder", name, lambda one, v: v in one.folder.split("/"))
    ),
    st.builds(
        lambda key, sign, number: number_term(key, sign, number, NUMBERS[key]),
        st.sampled_from(list(NUMBERS)),
        signs,
        st.integers(0, 20),
    ),
    st.just(("untagged", lambda one: not one.caption)),
)


def combined(children):
    return st.one_of(
        children.map(lambda a: (f"-({a[0]})", lambda one: not a[1](one))),
        children.map(lambda a: (f"not ({a[0]})", lambda one: not a[1](one))),
        st.tuples(children, children).map(
            lambda p: (f"({p[0][0]}) or {p[1][0]}", lambda one: p[0][1](one) or p[1][1](one))
        ),
        st.tuples(children, children, st.sampled_from([" ", " and ", " AND "])).map(
            lambda p: (
                f"({p[0][0]}){p[2]}({p[1][0]})",
                lambda one: p[0][1](one) and p[1][1](one),
            )
        ),
    )


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(terms, combined, max_leaves=8),
    st.lists(
        st.tuples(st.lists(st.sampled_from(TAGS), max_size=4), st.sampled_from(["", "f", "f/g"])),
        min_size=1,
        max_size=5,
    ),
)
def test_as_a_plain_reading_says(
    term: tuple[str, Plain], rows: list[tuple[list[str], str]]
) -> None:
    text, plain = term
    images = collection(
        image(f"{number}.png", ", ".join(tags), folder)
        for number, (tags, folder) in enumerate(rows)
    )
    taken = parse_filter(text).select(images)
    assert taken == [one for one in images.images if plain(one)], text


SIZES = {
    "width": lambda width, height: (width, 1),
    "height": lambda width, height: (height, 1),
    "aspect": lambda width, height: (width, height),
    "size": lambda width, height: (width * height, 1),
}
COMPARE = {
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}  # fmt: skip


@given(
    st.sampled_from(list(SIZES)),
    st.sampled_from(list(COMPARE)),
    st.decimals("0.1", 3000, places=2, allow_nan=False),
    st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), min_size=1, max_size=5),
)
def test_sizes_as_fractions_say(
    key: str, sign: str, number: Decimal, sizes: list[tuple[int, int]]
) -> None:
    names = [f"{n}.png" for n in range(len(sizes))]
    known = {n: facts(width=w, height=h) for n, (w, h) in zip(names, sizes, strict=True)}
    images = collection([image(name) for name in names], known)
    unit, scale = ("kp", 1000) if key == "size" else ("", 1)
    taken = parse_filter(f"{key}:{sign}{number}{unit}").select(images)
    expected = [
        name
        for name, size in zip(names, sizes, strict=True)
        if COMPARE[sign](Fraction(*SIZES[key](*size)), Fraction(number) * scale)
    ]
    assert [one.path.name for one in taken] == expected
