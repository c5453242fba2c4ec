from __future__ import annotations

import pytest

from lorasmith.core.errors import UserError
from lorasmith.curation.sidecars.tags import (
    SideCar,
    Tag,
    TagRules,
    caption_of,
    clean_tag,
    merge,
    parse_categories,
    tags_of,
)


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("artist:someone", Tag("someone", "artist")),
        ("creator: some one", Tag("some one", "artist")),
        ("Mangaka:Someone", Tag("Someone", "artist")),
        ("series:fate/zero", Tag("fate/zero", "copyright")),
        ("rating:safe", Tag("safe", "rating")),
        ("re:zero", Tag("re:zero")),
        (":d", Tag(":d")),
        ("3:1", Tag("3:1")),
        ("female:glasses", Tag("glasses")),
        ("pok&eacute;mon_&amp;_co", Tag("pokémon_&_co")),
        ("a, b\x00c", Tag("a b c")),
        ("  ", None),
        ("artist:", Tag("artist:")),
        ("x" * 5000, None),
    ],
)
def test_a_tag_with_a_namespace(text: str, tag: Tag | None) -> None:
    assert clean_tag(text) == tag


def test_a_namespace_does_not_overrule_what_the_source_says() -> None:
    assert clean_tag("artist:x", "character") == Tag("x", "character")


def test_the_same_tag_counts_once_and_keeps_the_kind_that_is_known() -> None:
    plain = SideCar(tuple(tags_of(["hatsune miku", "Smile"])))
    kinds = SideCar(
        (Tag("hatsune_miku", "character"), Tag("smile"), Tag("big", "meta")), text="a text"
    )
    assert merge([plain, kinds]) == SideCar(
        (Tag("hatsune miku", "character"), Tag("Smile"), Tag("big", "meta")), "a text"
    )


def test_a_caption_leaves_kinds_out_and_keeps_faces() -> None:
    car = SideCar(
        (Tag("long_hair"), Tag("^_^"), Tag("someone", "artist"), Tag("highres", "meta")), "a text"
    )
    assert caption_of(car, TagRules()) == "a text, long hair, ^_^, someone"
    rules = TagRules(drop=parse_categories(["creator,metadata"]), underscores=True, text=False)
    assert caption_of(car, rules) == "long_hair, ^_^"
    rated = SideCar((Tag("safe", "rating"), Tag("hat")))
    assert caption_of(rated, TagRules(drop=())) == "hat"
    assert caption_of(rated, TagRules(ratings=True)) == "safe, hat"
    assert caption_of(SideCar(text="only"), rules) == "only"
    assert caption_of(SideCar((Tag("highres", "meta"),)), rules) == ""


def test_kinds_that_do_not_exist_are_told_together() -> None:
    assert parse_categories(["none"]) == ()
    assert parse_categories(["Series artists", "meta"]) == ("copyright", "artist", "meta")
    with pytest.raises(UserError) as info:
        parse_categories(["artits,4,meta"])
    assert info.value.problems[0].hint == "did you mean artist?"
    assert len(info.value.problems) == 2
