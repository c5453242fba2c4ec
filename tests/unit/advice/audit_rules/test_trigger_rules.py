"""Rules about triggers, each on captions that have its fault and on captions that have not."""

from __future__ import annotations

import pytest
from tests.audits import MakeDataset, audit_rule, captioned, mended

GOOD = ["zorp, hat", "zorp, smile", "zorp, dog", "zorp, cat", "zorp, sky"]


def test_a_caption_without_the_trigger(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *GOOD, "hat, smile", "Zorp_, hat")
    (finding,) = audit_rule("trigger-missing", folder)
    assert [path.name for path in finding.images] == ["05.png"]
    assert (finding.severity, finding.tags) == ("note", ("zorp",))
    as_it_is = ("captions.trigger=zorp", "captions.trigger_in_front=false")
    (finding,) = audit_rule("trigger-missing", folder, *as_it_is)
    assert finding.severity == "warning"
    assert mended("trigger-missing", folder)[5] == "zorp, hat, smile"
    assert audit_rule("trigger-missing", captioned(dataset, *GOOD)) == []


def test_a_trigger_within_a_sentence_or_a_prefix_is_there(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *GOOD, "a drawing of a zorp with a hat")
    assert audit_rule("trigger-missing", folder) == []
    bare = captioned(dataset, "hat", "smile", folder="10_vellu")
    settings = ('captions.prefix="vellu,"', "captions.trigger=vellu")
    assert audit_rule("trigger-missing", bare / "10_vellu", *settings) == []


def test_a_trigger_behind_other_tags(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *GOOD, "hat, zorp", "a drawing of a zorp with a hat")
    (finding,) = audit_rule("trigger-not-first", folder)
    assert [path.name for path in finding.images] == ["05.png"]
    assert mended("trigger-not-first", folder)[5] == "zorp, hat"


def test_a_trigger_in_front_without_a_comma_is_in_front(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *GOOD, "zorp round body smile")
    assert audit_rule("trigger-not-first", folder) == []


def test_a_trigger_twice(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *GOOD, "zorp, hat, Zorp, smile")
    (finding,) = audit_rule("trigger-twice", folder)
    assert (finding.value, len(finding.images)) == (2, 1)
    assert mended("trigger-twice", folder)[5] == "zorp, hat, smile"


@pytest.mark.parametrize(
    ("trigger", "is_known"),
    [("cat", True), ("red hat", True), ("zorp", False), ("sks", False), ("zorp girl", False)],
)
def test_a_trigger_that_clip_knows(dataset: MakeDataset, trigger: str, is_known: bool) -> None:
    folder = captioned(dataset, "hat", "smile")
    findings = audit_rule("trigger-known", folder, f'captions.trigger="{trigger}"')
    assert bool(findings) == is_known


@pytest.mark.parametrize(
    ("trigger", "is_split"),
    [("catgirl", True), ("artstyle", True), ("cat", False), ("zorp", False), ("zennet", False)],
)
def test_a_trigger_in_pieces_that_are_words(
    dataset: MakeDataset, trigger: str, is_split: bool
) -> None:
    folder = captioned(dataset, "hat", "smile")
    findings = audit_rule("trigger-pieces", folder, f"captions.trigger={trigger}")
    assert bool(findings) == is_split


def test_keep_tokens_below_and_above_the_trigger(dataset: MakeDataset) -> None:
    tags = ["zorp, hat, smile, dog", "zorp, smile, hat, dog", "zorp, dog, smile, hat"]
    folder = captioned(dataset, *tags)
    shuffle = ("captions.shuffle=true",)
    assert audit_rule("keep-tokens", folder, "captions.keep_tokens=3") == []  # nothing moves
    assert audit_rule("keep-tokens", folder, *shuffle) == []
    (finding,) = audit_rule("keep-tokens", folder, *shuffle, "captions.keep_tokens=2")
    assert "captions.keep_tokens=1" in finding.command
    (finding,) = audit_rule("keep-tokens", folder, *shuffle, "captions.trigger_in_front=false")
    assert (finding.value, finding.threshold) == (0, 1)
    outfits = captioned(dataset, "zorp, armour, hat", "zorp, armour, smile", "zorp, dress, hat")
    assert audit_rule("keep-tokens", outfits, *shuffle, "captions.keep_tokens=2") == []
