"""Rules about how tags are spread, each on captions that have its fault and on good ones."""

from __future__ import annotations

from random import Random

from tests.audits import MakeDataset, audit_rule, captioned, mended

VALUES = ("hat", "smile", "dog", "cat", "sky", "grass", "scarf", "sitting", "night")


def varied(count: int, *constant: str) -> list[str]:
    """Captions with four tags at random, the same ones each time."""
    rng = Random("varied")
    return [", ".join(["zorp", *constant, *rng.sample(VALUES, 4)]) for _ in range(count)]


def test_traits_that_never_vary(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *varied(8, "1girl", "blue eyes", "long hair", "backpack"))
    (finding,) = audit_rule("constant-traits", folder)
    assert finding.tags == ("blue eyes", "long hair")
    (finding,) = audit_rule("never-off", folder)
    assert finding.tags == ("backpack",)
    assert mended("constant-traits", folder)[0].startswith("zorp, 1girl, backpack, ")


def test_a_few_images_may_have_all_in_common(dataset: MakeDataset) -> None:
    assert audit_rule("never-off", captioned(dataset, *varied(5, "backpack"))) == []
    assert audit_rule("never-off", captioned(dataset, *varied(20))) == []


def test_each_concept_by_itself(dataset: MakeDataset) -> None:
    captions = {f"1_zorp/{n}.png": one for n, one in enumerate(varied(8, "backpack"))}
    captions |= {
        f"1_vellu/{n}.png": one.replace("zorp", "vellu") for n, one in enumerate(varied(8))
    }
    (finding,) = audit_rule("never-off", dataset(captions))
    assert len(finding.images) == 8
    assert '"zorp"' in finding.what


def test_a_tag_that_one_or_two_captions_lack(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *varied(22, "backpack"), *varied(2))
    (finding,) = audit_rule("seldom-off", folder)
    assert [path.name for path in finding.images] == ["22.png", "23.png"]
    assert audit_rule("seldom-off", captioned(dataset, *varied(22, "bag"), *varied(3))) == []


def test_tags_that_are_always_together(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *varied(12, "shield", "sword"), *varied(12))
    (finding,) = audit_rule("always-together", folder)
    assert finding.tags == ("shield", "sword")
    assert finding.value == 12
    assert audit_rule("always-together", captioned(dataset, *varied(24))) == []
    # Two tags on the same three of twelve images may be chance.
    few = captioned(dataset, *varied(3, "shield", "sword"), *varied(9))
    assert audit_rule("always-together", few) == []


def test_unknown_words_in_one_caption_only(dataset: MakeDataset) -> None:
    captions = [*varied(24), "zorp, hat, gwrxle lamp", "zorp, lamp"]
    (finding,) = audit_rule("seen-once", captioned(dataset, *captions))
    assert finding.tags == ("gwrxle lamp",)
    assert audit_rule("seen-once", captioned(dataset, *captions[-10:])) == []
