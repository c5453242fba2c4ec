"""Rules about the words of tags, each on captions that have its fault and on others."""

from __future__ import annotations

import pytest
from tests.audits import MakeDataset, audit_rule, captioned

GOOD = ["zorp, closed eyes, hat", "zorp, smile, dogs", "zorp, dog, smile"]


@pytest.mark.parametrize("rule", ["other-forms", "rare-words"])
def test_good_captions_are_left_in_peace(dataset: MakeDataset, rule: str) -> None:
    assert audit_rule(rule, captioned(dataset, *GOOD)) == []


@pytest.mark.parametrize(
    ("other", "usual"),
    [("eyes closed", "closed eyes"), ("smiling", "smile"), ("grinning", "grin")],
)
def test_one_thing_in_other_words(dataset: MakeDataset, other: str, usual: str) -> None:
    folder = captioned(dataset, f"zorp, {other}, hat", f"zorp, {usual}", f"zorp, {usual}, dog")
    (finding,) = audit_rule("other-forms", folder)
    assert finding.tags == (other, usual)
    assert [path.name for path in finding.images] == ["00.png"]
    assert f"{other}={usual}" in finding.command


def test_words_that_are_none(dataset: MakeDataset) -> None:
    folder = captioned(
        dataset, "zorp, vree pose", "zorp, vree pose, thighhighs", "zorp, eyepatch, thighhighs"
    )
    (finding,) = audit_rule("rare-words", folder)
    assert finding.tags == ("vree pose",)
    often = [f"zorp, vree pose, {number}" for number in range(12)]
    assert audit_rule("rare-words", captioned(dataset, *often)) == []  # enough to teach it
