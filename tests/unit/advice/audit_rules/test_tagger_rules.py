"""Rules that hold captions against a tagger's kept scores, on scores that are made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.audits import MakeDataset, audit_rule, captioned, inputs_of, mended

from lorasmith.advice.audit.audit import audit_dataset, findings_of
from lorasmith.advice.audit_rules.tagger_rules import TAGGER_RULES
from lorasmith.core.errors import CheckpointError
from lorasmith.curation.collection import dataset_root
from lorasmith.curation.tagger.folders import find_labels
from lorasmith.curation.tagger.labels import Labels
from lorasmith.curation.tagger.scores import ImageScores, ScoreStore

NAMES = ("blonde_hair", "brown_hair", "hat", "boots", "red_boots")


@pytest.fixture
def blondes(dataset: MakeDataset) -> Path:
    """Ten blondes, six of them with a hat, and a brunette with one; as captions say."""
    captions = (
        ["zorp, blonde hair, hat"] * 6 + ["zorp, blonde hair"] * 4 + ["zorp, brown hair, hat"]
    )
    return captioned(dataset, *captions)


def scored(folder: Path, rows: Sequence[Sequence[float]]) -> None:
    """Keep scores of the images in the order of their names, a row each."""
    labels = Labels(NAMES, ("general",) * len(NAMES), Path("labels"), "selected_tags.csv")
    images = sorted(folder.rglob("*.png"))
    with ScoreStore(dataset_root(folder), "model", "0123abcd", labels) as store:
        hashes = store.content_hashes(images)
        values = zip(images, rows, strict=True)
        store.put(
            {str(hashes[path]): ImageScores.of(np.array(row, np.float32)) for path, row in values}
        )


def right(blonde: bool, hat: bool) -> list[float]:
    return [0.97 if blonde else 0.0, 0.0 if blonde else 0.97, 0.95 if hat else 0.01, 0.0, 0.0]


RIGHT = [*[right(True, True)] * 6, *[right(True, False)] * 4, right(False, True)]


def test_captions_that_the_tagger_agrees_with(blondes: Path) -> None:
    scored(blondes, RIGHT)
    for rule in TAGGER_RULES:
        assert audit_rule(rule.id, blondes) == []


def test_without_scores_it_is_said_what_keeps_them(blondes: Path) -> None:
    audit = audit_dataset(inputs_of(blondes), rules=TAGGER_RULES)
    assert not audit.findings
    assert {one.rule.id for one in audit.skipped} == {rule.id for rule in TAGGER_RULES}
    assert "dataset tag DIR --mode append --dry-run" in audit.skipped[0].missing


def test_a_blonde_that_is_none(blondes: Path) -> None:
    scored(blondes, [*RIGHT[:9], right(False, False), RIGHT[10]])
    (finding,) = audit_rule("likely-wrong-tag", blondes)
    assert (finding.tags, [path.name for path in finding.images]) == (("blonde hair",), ["09.png"])
    assert (
        "--remove 'blonde hair' --where '(path:10_zorp/09.png -path:?10_zorp/09.png)'"
        in finding.command
    )
    assert mended("likely-wrong-tag", blondes)[9] == "zorp"


def test_a_hat_that_was_forgotten(blondes: Path) -> None:
    scored(blondes, [*RIGHT[:9], right(True, True), RIGHT[10]])
    (finding,) = audit_rule("likely-missing-tag", blondes)
    assert (finding.tags, [path.name for path in finding.images]) == (("hat",), ["09.png"])
    assert mended("likely-missing-tag", blondes)[9] == "zorp, blonde hair, hat"


def test_what_is_lacking_in_many_was_left_out_on_purpose(blondes: Path) -> None:
    scored(blondes, [*RIGHT[:6], *[right(True, True)] * 4, RIGHT[10]])
    assert audit_rule("likely-missing-tag", blondes) == []


def test_a_tagger_that_does_not_know_the_thing_is_not_believed(blondes: Path) -> None:
    scored(blondes, [*[right(True, False)] * 3, *RIGHT[3:]])
    assert audit_rule("likely-wrong-tag", blondes) == []


def test_a_tag_that_a_more_specific_one_says_is_not_lacking(dataset: MakeDataset) -> None:
    captions = [*["zorp, boots"] * 8, "zorp, red boots", "zorp", "zorp", "zorp"]
    folder = captioned(dataset, *captions)
    boots, none = [0.0, 0.0, 0.0, 0.99, 0.0], [0.0] * 5
    scored(folder, [*[boots] * 8, boots, none, none, none])
    assert audit_rule("likely-missing-tag", folder) == []


def test_tags_that_the_labels_do_not_have(dataset: MakeDataset) -> None:
    folder = captioned(dataset, *["zorp, blonde hair, hat, wibble"] * 3, "zorp, hat, wobble")
    scored(folder, [right(True, True)] * 4)
    (finding,) = audit_rule("unknown-tags", folder)
    assert finding.tags == ("wibble",)
    # Labels that know next to nothing of the captions are of another world.
    other = captioned(dataset, *["zorp, wibble, wobble, wubble, hat"] * 3)
    scored(other, [right(True, True)] * 3)
    assert audit_rule("unknown-tags", other) == []


def test_the_bases_vocabulary_needs_no_tagger(dataset: MakeDataset, tmp_path: Path) -> None:
    folder = captioned(dataset, *["zorp, wibble, wobble, blonde hair"] * 3, "zorp, wubble")
    labels = tmp_path / "selected_tags.csv"
    labels.write_text("tag_id,name,category,count\n1,blonde_hair,0,9\n", "utf-8")
    (rule,) = [rule for rule in TAGGER_RULES if rule.id == "unknown-tags"]
    inputs = replace(inputs_of(folder), vocabulary=find_labels(str(labels)))
    (finding,) = findings_of(rule, inputs)
    assert finding.tags == ("wibble", "wobble")
    assert "the 1 labels" in finding.what
    assert find_labels(str(tmp_path)).names == find_labels(str(labels)).names == ("blonde_hair",)
    assert "top_hat" in find_labels("demo").names
    audit = audit_dataset(inputs_of(folder), rules=[rule])
    assert "--vocabulary" in audit.skipped[0].missing


@pytest.mark.parametrize(("name", "what"), [("nothing", "no such file"), ("", "no list of labels")])
def test_a_vocabulary_that_is_none_is_told(tmp_path: Path, name: str, what: str) -> None:
    with pytest.raises(CheckpointError, match=what):
        find_labels(str(tmp_path / name))


def test_damaged_scores_are_left_out(blondes: Path) -> None:
    scored(blondes, RIGHT)
    (path,) = (dataset_root(blondes) / ".lorasmith" / "scores").glob("*.sqlite")
    path.write_bytes(b"no database")
    assert inputs_of(blondes).tagger_scores is None
